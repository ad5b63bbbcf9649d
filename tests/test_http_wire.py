"""The small HTTP server and the forwarder behind the AWS endpoint, over real sockets, bad requests included."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from local_cloud.backend import Forwarder
from local_cloud.errors import DeployError
from local_cloud.http_wire import Request, Response, Server


async def echo(request: Request) -> Response:
    """Method, target and body as the answer's body; /boom raises."""
    if request.target == "/boom":
        raise RuntimeError("on purpose")
    status = 204 if request.target == "/none" else 200
    body = b"" if status == 204 else f"{request.method} {request.target} ".encode() + request.body
    return Response(status, body, [("X-Seen", request.headers.get("x-sent", ""))])


def served(use: Callable[[Server], Awaitable[None]]) -> None:
    """Run `use` against a server that echoes."""
    async def run() -> None:
        server = Server(echo)
        await server.start("127.0.0.1", 0)
        try:
            await asyncio.wait_for(use(server), 10)
        finally:
            await server.close()

    asyncio.run(run())


async def converse(server: Server, *sent: bytes) -> bytes:
    """Everything that one connection answers to `sent`, read until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for part in sent:
        writer.write(part)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(("sent", "expected"), [
    (b"GET /a?b=%20 HTTP/1.1\r\nX-Sent: 1\r\nConnection: close\r\n\r\n",
     [b"HTTP/1.1 200 OK\r\nX-Seen: 1", b"GET /a?b=%20 "]),
    (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", [b"POST / abc"]),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
     b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n", [b"POST / abcde"]),
    (b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nz",
     [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", b"PUT / z"]),
    (b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n",
     [b"keep-alive\r\n\r\nGET /1 HTTP/1.1 200", b"GET /2 "]),
    (b"GET /boom HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n", [b"HTTP/1.1 500", b"GET /2 "]),
    (b"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n", [b"HTTP/1.1 204 No Content\r\n"]),
])
def test_requests_are_answered(sent: bytes, expected: list[bytes]) -> None:
    async def use(server: Server) -> None:
        answer = await converse(server, sent)
        for part in expected:
            assert part in answer

    served(use)


@pytest.mark.parametrize(("sent", "text"), [
    (b"nonsense\r\n\r\n", b"request line"),
    (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"has no colon"),
    (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"Content-Length"),
    (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"Content-Length"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"chunk size"),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 80_000, b"a line of a chunked body"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 80_000, b"request head above"),
])
def test_bad_requests_are_refused_with_a_reason(sent: bytes, text: bytes) -> None:
    async def use(server: Server) -> None:
        answer = await converse(server, sent)
        assert answer.startswith(b"HTTP/1.1 400") and text in answer

    served(use)


def test_a_head_request_keeps_the_length_that_the_handler_gave() -> None:
    async def head(request: Request) -> Response:
        return Response(200, b"", [("Content-Length", "12345")])

    async def run() -> None:
        server = Server(head)
        await server.start("127.0.0.1", 0)
        answer = await converse(server, b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n")
        await server.close()
        assert b"Content-Length: 12345\r\n" in answer and answer.endswith(b"\r\n\r\n")

    asyncio.run(run())


def test_the_forwarder_reuses_connections_and_survives_their_end() -> None:
    async def run() -> None:
        server = Server(echo)
        await server.start("127.0.0.1", 0)
        forwarder = Forwarder(f"http://127.0.0.1:{server.port}")
        first = await forwarder.send(Request("POST", "/x", [("X-Sent", "1"), ("Connection", "close")], b"body"))
        assert (first.status, first.body) == (200, b"POST /x body") and ("X-Seen", "1") in first.headers
        assert (await forwarder.send(Request("HEAD", "/x", []))).body == b""
        assert len(server._connections) == 1
        port = server.port
        await server.close()
        again = Server(echo)
        await again.start("127.0.0.1", port)
        assert (await forwarder.send(Request("GET", "/y", []))).body == b"GET /y "
        answers = await asyncio.gather(*(forwarder.send(Request("GET", f"/{n}", [])) for n in range(100)))
        assert [one.body for one in answers] == [f"GET /{n} ".encode() for n in range(100)]
        await forwarder.close()
        await again.close()
        assert (await forwarder.send(Request("GET", "/z", []))).status == 502

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_endpoint_that_speaks_something_else_is_a_502() -> None:
    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(garble, "127.0.0.1", 0)
        forwarder = Forwarder(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        answer = await forwarder.send(Request("GET", "/", []))
        assert answer.status == 502 and b"Content-Length 'many'" in answer.body
        await forwarder.close()
        server.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(DeployError, match="expected http://HOST:PORT"):
        Forwarder("127.0.0.1:4566")


def test_a_taken_port_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError):
            asyncio.run(Server(echo).start("127.0.0.1", taken.getsockname()[1]))
