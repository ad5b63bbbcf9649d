"""One question to a provider of carbon intensities, by HTTPS; asked by carbon_sources.py. TLS is verified, redirects
are not followed (they would carry the key along), and a slow or endless answer has its end."""
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 20.0  # from the connection to the end of the answer
SILENCE_S = 10.0  # for one step of it
MOST_BYTES = 1024 * 1024
_AT_ONCE_BYTES = 64 * 1024


class NoAnswer(OSError):
    """The provider did not answer as it should."""


def base_fault(url: str) -> str:
    """What is wrong with this as a provider's base address; "" if nothing is. Plain HTTP is for this machine alone."""
    parts = urlsplit(url)
    try:
        local = parts.hostname in ("127.0.0.1", "::1", "localhost") and (parts.port or 80)
    except ValueError:
        return f"{url!r} has no port that can be; expected https://host"
    if not parts.hostname or parts.query or parts.username or not (
            parts.scheme == "https" or (parts.scheme == "http" and local)):
        return f"{url!r}; expected https://host, or http://127.0.0.1:port"
    return ""


def get_json(url: str, headers: Mapping[str, str], trust: ssl.SSLContext | None = None,
             answer_s: float = ANSWER_S) -> Any:
    """The answer to GET url, decoded. trust: whom to believe; None: whom this machine believes. Raises NoAnswer."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    link = http.client.HTTPConnection(host, port, timeout=SILENCE_S) if parts.scheme == "http" else \
        http.client.HTTPSConnection(host, port, timeout=SILENCE_S, context=trust or ssl.create_default_context())
    late = threading.Event()
    timer = threading.Timer(answer_s, lambda: _end(late, link.sock or sock))
    timer.daemon = True
    sock: socket.socket | None = None
    try:
        link.connect()
        sock = link.sock  # the link forgets it when the answer is the last one on it
        timer.start()
        link.request("GET", parts.path + ("?" + parts.query if parts.query else ""),
                     headers={"Accept": "application/json", "User-Agent": "edgecloud-bridge", **headers})
        answer = link.getresponse()
        if answer.status != 200:
            raise NoAnswer(f"{host} answered {answer.status} {answer.reason[:80]}, expected 200")
        return json.loads(_body(answer, host))
    except NoAnswer:
        raise
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        if late.is_set():
            raise NoAnswer(f"{host} had not done answering after {answer_s:.0f} s") from error
        what = "answered what is not JSON: " if isinstance(error, ValueError | RecursionError) else ""
        raise NoAnswer(f"{host}: {what}{str(error) or repr(error)}"[:200]) from error
    finally:
        timer.cancel()
        link.close()


def _end(late: threading.Event, sock: socket.socket | None) -> None:
    """Cut the connection: whoever waits for it in another thread goes on, with an error."""
    late.set()
    if sock is not None:
        with contextlib.suppress(OSError):  # it has ended by itself
            sock.shutdown(socket.SHUT_RDWR)


def _body(answer: http.client.HTTPResponse, host: str) -> bytes:
    body = bytearray()
    while some := answer.read1(_AT_ONCE_BYTES):
        body += some
        if len(body) > MOST_BYTES:
            raise NoAnswer(f"{host} answered over {MOST_BYTES} bytes")
    return bytes(body)
