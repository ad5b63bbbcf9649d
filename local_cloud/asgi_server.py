"""One ASGI application on one port of this machine: for HTTP APIs, web pages and sign-in pages."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

EVERY_ADDRESS = ("0.0.0.0", "::")


class AsgiServer:
    """`port` and `endpoint` (http://host:port) hold from start() on, and so does `served`: the application as those
    peers have it that start() admits."""

    def __init__(self, application: ASGIApp) -> None:
        self.port = 0
        self.endpoint = ""
        self.served = application
        self._application = application
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1",
                    admits: Callable[[str], bool] | None = None) -> None:
        """Answer on a port (0: any free one, then in `port`); OSError when it is taken.

        admits: whether a peer's address is answered (None: all are); others get 403.
        """
        await _refuse_taken(port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=256)
        self.port = listening.getsockname()[1]
        name = "127.0.0.1" if host in EVERY_ADDRESS else f"[{host}]" if ":" in host else host
        self.endpoint = f"http://{name}:{self.port}"
        self.served = self._application if admits is None else _for_some(self._application, admits)
        config = uvicorn.Config(self.served, lifespan="off", log_config=None, access_log=False,
                                server_header=False, date_header=True, http="h11", ws="none",
                                timeout_graceful_shutdown=2)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))

    async def close(self) -> None:
        """Stop answering and free the port."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._server = self._serving = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: Ctrl-C belongs to the local cloud, which drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _for_some(application: ASGIApp, admits: Callable[[str], bool]) -> ASGIApp:
    """The application for those peers only."""
    refusal = PlainTextResponse("This page is for the machine that it runs on.\n", 403)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        await (application if peer and admits(peer[0]) else refusal)(scope, receive, send)

    return answer


async def _refuse_taken(port: int) -> None:
    """OSError when something answers on this port of localhost: macOS lets a second server bind beside AirPlay's."""
    for host in ("127.0.0.1", "::1") if port else ():
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 0.5)
        except (OSError, TimeoutError):
            continue
        writer.close()
        raise OSError(errno.EADDRINUSE, f"port {port} is in use on {host}")
