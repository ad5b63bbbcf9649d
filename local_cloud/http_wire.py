"""HTTP/1.1 on asyncio streams, for the AWS endpoint, the control port and moto's process: requests in, responses out.

Whole bodies only (no streaming), keep-alive, `Expect: 100-continue`, chunked request bodies. A small server of our own,
because every DynamoDB call of every Lambda passes it twice: it costs a tenth of a WSGI or ASGI stack.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

log = logging.getLogger(__name__)

HEAD_LIMIT_BYTES = 65_536
BODY_LIMIT_BYTES = 256 * 1024 * 1024
DROPPED_HEADERS = {"connection", "content-length", "transfer-encoding", "keep-alive", "date", "server"}


class BadRequest(Exception):
    """The peer sent something that is not HTTP/1.1 as we read it; the text says what."""


@dataclass
class Request:
    """One request: `target` is path and query as sent; `headers` has lower-case names, `raw_headers` those sent."""

    method: str
    target: str
    raw_headers: list[tuple[str, str]]
    body: bytes = b""
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {name.lower(): value for name, value in self.raw_headers}


@dataclass
class Response:
    """One response; Content-Length and Connection are ours to write."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Request], Awaitable[Response]]


def parse_headers(lines: list[str]) -> list[tuple[str, str]]:
    """Header lines as (name, value) pairs; BadRequest for a line without a colon."""
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(f"header line {line[:80]!r} has no colon")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _content_length(value: str) -> int:
    if not value.isdigit() or int(value) > BODY_LIMIT_BYTES:
        raise BadRequest(f"Content-Length {value[:40]!r}, expected a number up to {BODY_LIMIT_BYTES}")
    return int(value)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body that the headers announce: chunked, by length, or none."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        length = _content_length(headers.get("content-length", "0"))
        return await reader.readexactly(length) if length else b""
    try:
        return await _read_chunks(reader)
    except asyncio.LimitOverrunError as fault:
        raise BadRequest(f"a line of a chunked body is above {HEAD_LIMIT_BYTES} bytes") from fault


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while True:
        size_text = (await reader.readuntil(b"\n")).split(b";")[0].strip()
        try:
            size = int(size_text, 16)
        except ValueError:
            raise BadRequest(f"chunk size {size_text[:20]!r} is not hexadecimal") from None
        if size == 0:
            while (await reader.readuntil(b"\n")).strip():
                continue  # trailers carry nothing we use
            return b"".join(parts)
        parts.append((await reader.readexactly(size + 2))[:-2])
        if sum(map(len, parts)) > BODY_LIMIT_BYTES:
            raise BadRequest(f"body above {BODY_LIMIT_BYTES} bytes")


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection, None when the peer has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise BadRequest("the connection ended inside a request head") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest(f"request head above {HEAD_LIMIT_BYTES} bytes") from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(f"request line {first[:80]!r}")
    request = Request(parts[0], parts[1], parse_headers(lines))
    if request.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.body = await read_body(reader, request.headers)
    return request


async def read_response(reader: asyncio.StreamReader, method: str) -> tuple[Response, bool]:
    """The answer to a request we sent, and whether its connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    response = Response(int(first.split(" ", 2)[1]), b"", parse_headers(lines))
    headers = {name.lower(): value for name, value in response.headers}
    closes = headers.get("connection", "").lower() == "close"
    if method == "HEAD" or response.status in (204, 304):
        return response, not closes
    if "content-length" in headers or "transfer-encoding" in headers:
        response.body = await read_body(reader, headers)
        return response, not closes
    response.body = await reader.read()
    return response, False


def encode_response(response: Response, *, head_only: bool, close: bool) -> bytes:
    """The bytes of a response; for HEAD the length stands, the body does not."""
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Status"
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    length = str(len(response.body))
    for name, value in response.headers:
        lower = name.lower()
        if lower == "content-length" and head_only:
            length = value
        elif lower not in DROPPED_HEADERS:
            lines.append(f"{name}: {value}")
    if response.status not in (204, 304):
        lines.append(f"Content-Length: {length}")
    lines.append("Connection: " + ("close" if close else "keep-alive"))
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return head if head_only else head + response.body


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Exception:
        log.exception("%s %s failed", request.method, request.target)
        return Response(
            500,
            b'{"message": "internal error of the local cloud; see its log"}\n',
            [("Content-Type", "application/json")],
        )


class Server:
    """One listening port that answers with `handler`; `start` binds, `close` ends every connection."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Bind (port 0: any); OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_LIMIT_BYTES, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            log.debug("a connection ended early")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await read_request(reader, writer)
            except BadRequest as fault:
                answer = Response(400, f"{fault}\n".encode())
                writer.write(encode_response(answer, head_only=False, close=True))
                await writer.drain()
                return
            if request is None:
                return
            close = request.headers.get("connection", "").lower() == "close"
            response = await _answer(self._handler, request)
            writer.write(encode_response(response, head_only=request.method == "HEAD", close=close))
            await writer.drain()
            if close:
                return

    async def close(self) -> None:
        """Stop listening, end every open connection, and wait for both."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=2)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 2)
        self._server = None
