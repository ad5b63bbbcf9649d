"""moto as one process with one thread: requests from the AWS endpoint in, moto's answers out.

Run as `python -m local_cloud.moto_server` by backend.py.
moto's DynamoDB is only isolated when requests run one after the other, so its WSGI application is called from a single
asyncio loop. Prints its port as the first line; ends when its standard input closes, hence with its parent.
"""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from local_cloud import http_wire

Environ = dict[str, Any]


def _wsgi_string(raw: bytes) -> str:
    return raw.decode("latin-1")


def environ_of(request: http_wire.Request, port: int) -> Environ:
    """The WSGI environment of a request, as werkzeug's own server would make it (PEP 3333)."""
    path, _, query = request.target.partition("?")
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _wsgi_string(unquote_to_bytes(path)),
        "QUERY_STRING": query,
        "RAW_URI": request.target,
        "REQUEST_URI": request.target,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    _add_headers(environ, request)
    return environ


def _add_headers(environ: Environ, request: http_wire.Request) -> None:
    preserved: dict[str, str] = {}
    for name, value in request.raw_headers:
        lower = name.lower()
        if lower in ("transfer-encoding", "expect", "connection"):
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        if lower.startswith("x-amz-meta-") and "_" in name:
            preserved[key] = name  # S3 keeps `my_key` and `my-key` apart; WSGI alone cannot
        environ[key] = value
    environ["moto.preserved_header_names"] = preserved
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_LENGTH"] = str(len(request.body))


def call(application: Callable[..., Iterable[bytes]], environ: Environ) -> http_wire.Response:
    """Run one request through a WSGI application to its end."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body = io.BytesIO()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        started.append((status, headers))
        return body.write

    chunks = application(environ, start_response)
    try:
        for chunk in chunks:
            body.write(chunk)
    finally:
        close = getattr(chunks, "close", None)
        if close:
            close()
    status, headers = started[-1]
    return http_wire.Response(int(status.split(" ", 1)[0]), body.getvalue(), headers)


async def _serve(port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from local_cloud.moto_streams import bound_memory

    bound_memory()
    application = DomainDispatcherApplication(create_backend_app)

    async def handle(request: http_wire.Request) -> http_wire.Response:
        return call(application, environ_of(request, server.port))

    server = http_wire.Server(handle)
    await server.start("127.0.0.1", port)
    print(server.port, flush=True)
    await asyncio.Event().wait()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input closes. One optional argument: the port (default: any)."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))


if __name__ == "__main__":
    main()
