"""Serves the demo's plain live page: web/live.html and the figures it shows, on loopback only."""
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploy.processes import ROOT, free_port


class LivePage:
    """The page at `url`; `figures()` is asked each time the page asks for /figures.json."""

    def __init__(self, figures: Callable[[], dict[str, Any]], preferred_port: int = 8080) -> None:
        self.figures = figures
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port(preferred_port)), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="live page", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    self._send("text/html; charset=utf-8", (ROOT / "web" / "live.html").read_bytes())
                elif self.path == "/figures.json":
                    self._send("application/json", json.dumps(page.figures()).encode())
                else:
                    self.send_error(HTTPStatus.NOT_FOUND)

            def _send(self, kind: str, body: bytes) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy",
                                 "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                                 "connect-src 'self'")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """One request a second says nothing worth a line."""

        return Handler
