"""Ports of HTTP APIs and pages: taken ones, free ones again, and macOS's AirPlay on the other loopback address."""

import asyncio
import contextlib
import socket

import pytest
from starlette.responses import PlainTextResponse

from local_cloud import ports
from local_cloud.asgi_server import AsgiServer
from local_cloud.errors import DeployError

HELLO = PlainTextResponse("hello")


def test_a_taken_port_is_said_and_a_closed_one_is_free_again():
    async def main() -> None:
        first = AsgiServer(HELLO)
        await first.start(0)
        with pytest.raises(OSError):
            await AsgiServer(HELLO).start(first.port)
        await first.close()
        second = AsgiServer(HELLO)
        await second.start(first.port)
        assert second.endpoint == f"http://127.0.0.1:{first.port}"
        await second.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", first.port), 1)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_port_that_answers_on_the_other_loopback_address_counts_as_taken():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as fault:
        pytest.skip(f"no IPv6 loopback on this machine: {fault}")
    other = None
    while other is None:
        with socket.create_server(("127.0.0.1", 0)) as free_here, contextlib.suppress(OSError):
            other = socket.create_server(("::1", free_here.getsockname()[1]), family=socket.AF_INET6)

    async def main() -> None:
        with pytest.raises(OSError, match="in use on ::1"):
            await AsgiServer(HELLO).start(other.getsockname()[1])

    with other:
        asyncio.run(asyncio.wait_for(main(), 20))


def test_a_taken_port_gives_way_to_the_next_and_none_is_said_so():
    async def main() -> None:
        first, second = AsgiServer(HELLO), AsgiServer(HELLO)
        await first.start(0)
        try:
            assert await ports.listen("page", first.port, second.start) == second.port > first.port
            with pytest.raises(DeployError, match=rf"page: port {first.port} is taken"):
                await ports.listen("page", first.port, AsgiServer(HELLO).start, move=False)
        finally:
            await first.close()
            await second.close()

    asyncio.run(asyncio.wait_for(main(), 60))
