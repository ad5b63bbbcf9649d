"""The bridge's HTTP port: /metrics for Prometheus, /healthz and /readyz for whatever runs the container,
/carbon for cameras. Answers from the newest status that process.py has put here, so a scrape costs the stream
nothing."""
import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from edge_bridge.metrics import Metrics
from edge_bridge.settings import SettingsError
from edge_bridge.status import STALE_S, STALLED_S

READ_TIMEOUT_S = 10


class Newest:
    """The newest status and when it was made. threads: names of those that must be alive."""

    def __init__(self, threads: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._threads, self._clock = set(threads), clock
        self._told: tuple[float, dict[str, Any]] = (clock(), {})

    def put(self, status: dict[str, Any]) -> None:
        """This is the status now."""
        self._told = self._clock(), status

    def status(self) -> dict[str, Any]:
        """The newest status; {} before the first."""
        return self._told[1]

    def not_healthy(self) -> list[str]:
        """Why the process should be started anew; empty: it works. A cloud that is away is no reason."""
        alive = {thread.name for thread in threading.enumerate() if thread.is_alive()}
        reasons = [f"the thread {name} has ended" for name in sorted(self._threads - alive)]
        age_s = self._clock() - self._told[0]
        if age_s > STALE_S:
            reasons.append(f"the status is {age_s:.0f} s old; expected at most {STALE_S:.0f}")
        return reasons

    def not_ready(self) -> list[str]:
        """Why readings do not get through now; empty: they do."""
        status = self.status()
        if not status:
            return ["starting"]
        reasons = [f"no connection: {link}" for link, up in status["connected"].items() if not up]
        if status["stalled_s"] > STALLED_S:
            reasons.append(f"the oldest unsent reading has been the same for {status['stalled_s']:.0f} s, and is "
                           f"{status['oldest_unsent_s']:.0f} s old")
        return self.not_healthy() + reasons


def for_cameras(newest: Newest) -> dict[str, Any]:
    """What device/camera.py asks for: the carbon state, and at which share of its frames to look; all of them when the
    status is not fresh."""
    told = {} if newest.not_healthy() else newest.status().get("carbon") or {}
    return {"state": told.get("state"), "frames": told.get("terms", {}).get("frames", 1.0)}


class _Handler(BaseHTTPRequestHandler):
    """One request; the server has the metrics and the newest status."""

    server: "HealthServer"
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.metrics.registry), content_type)
        elif path == "/carbon":
            self._answer(200, json.dumps(for_cameras(self.server.newest)).encode())
        elif path in ("/healthz", "/readyz"):
            newest = self.server.newest
            reasons = newest.not_healthy() if path == "/healthz" else newest.not_ready()
            answer = {"ok": not reasons, "reasons": reasons, "alarms": newest.status().get("alarms", {})}
            self._answer(503 if reasons else 200, json.dumps(answer).encode())
        else:
            self._answer(404, b'{"paths": ["/metrics", "/healthz", "/readyz", "/carbon"]}')

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """A scrape every few seconds is no news."""


class HealthServer(ThreadingHTTPServer):
    """Listens at once, serves after `start`. Raises SettingsError when the port cannot be had."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, port: int, metrics: Metrics, newest: Newest) -> None:
        self.metrics, self.newest = metrics, newest
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SettingsError([f"METRICS_PORT: {port} on METRICS_HOST {host} cannot be had ({error.strerror}); stop "
                                 f"what listens there, or set METRICS_PORT={port + 1} (empty: no metrics)"]) from error
        self._thread = threading.Thread(target=self.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Without the look-up of our own name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
