"""The embedded LAN broker, for a demo where Mosquitto is not installed: sensors publish to it, the bridge subscribes.

The gateway's core with the MQTT standard's rules and no AWS limits, over plain TCP: MQTT 3.1.1 and 5, QoS 0 and 1 (a
subscription to QoS 2 is granted 1, a publish with QoS 2 is disconnected). Run: `python -m local_cloud.lan_broker`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Admission, Broker, Refused
from local_cloud.gateway.connection import Connection
from local_cloud.gateway.limits import STANDARD_RULES, Limits
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.state import load, save

SAVE_INTERVAL_S = 5
CLOSE_TIMEOUT_S = 2
MOST_IN_FLIGHT = 1000  # to one client that sets no Receive Maximum


class LanBroker:
    """Listens on `host`:`port`; with `login` (user name, password) it takes no one else. `state` is a file or None."""

    def __init__(self, host: str, port: int, login: tuple[str, str] | None = None, state: Path | None = None) -> None:
        self.broker = Broker(STANDARD_RULES, Limits.only(unacked_outbound=MOST_IN_FLIGHT), self._admit, _nothing_more)
        self.host = host
        self.port = port
        self._login = login
        self._state = state
        self._saved = 0
        self._server: asyncio.Server | None = None
        self._saver: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Listen, and return the port in use. OSError when it is taken, StateError for an unreadable state file."""
        if self._state is not None:
            load(self.broker, self._state)
            self._saved = self.broker.changes
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self.broker), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._save_later()
        return self.port

    async def close(self) -> None:
        """Disconnect everyone, write the state."""
        if self._saver is not None:
            self._saver.cancel()
        if self._server is not None:
            self._server.close()
            self.broker.shut(p.SERVER_SHUTTING_DOWN)
            with contextlib.suppress(TimeoutError):  # a client that does not read is not waited for
                await asyncio.wait_for(self._server.wait_closed(), CLOSE_TIMEOUT_S)
        self._save()

    def _save_later(self) -> None:
        self._save()
        self._saver = asyncio.get_running_loop().call_later(SAVE_INTERVAL_S, self._save_later)

    def _save(self) -> None:
        if self._state is not None and self.broker.changes != self._saved:
            save(self.broker, self._state)
            self._saved = self.broker.changes

    def _admit(self, connection: Connection, connect: p.Connect) -> Admission:
        if self._login is not None:
            given = (connect.username or "").encode(), connect.password or b""
            right = [hmac.compare_digest(one, other.encode()) for one, other in zip(given, self._login, strict=True)]
            if not all(right):
                raise Refused(p.BAD_USER_NAME_OR_PASSWORD, "wrong or missing user name or password")
        return Admission(connect.username, _everything_allowed)


def _nothing_more(message: Publish) -> None:
    """The LAN has no rule engine: routing was all."""


def _everything_allowed(action: str, topic: str) -> bool:
    return True


async def _run(broker: LanBroker) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await broker.start()
    print(f"listening on {broker.host}:{broker.port}", flush=True)
    await stop.wait()
    await broker.close()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_cloud.lan_broker", description=(
        "MQTT broker for the LAN side: MQTT 3.1.1 and 5, QoS 0 and 1, no TLS."))
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=1884, help="port; 0 for any free one (default %(default)s)")
    parser.add_argument("--username", help="the one user name it takes; needs --password-file")
    parser.add_argument("--password-file", type=Path, help="file with that user's password on its first line")
    parser.add_argument("--state", type=Path, help="file that keeps retained messages and sessions across restarts")
    parser.add_argument("--verbose", action="store_true", help="log connects and disconnects to stderr")
    options = parser.parse_args(arguments)
    if (options.username is None) != (options.password_file is None):
        parser.error("--username and --password-file go together")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 1 with one line on stderr when it cannot start."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING,
                        format="%(asctime)s %(levelname)s %(message)s")
    try:
        login = _login(options)
        asyncio.run(_run(LanBroker(options.host, options.port, login, options.state)))
    except ValueError as error:  # StateError is one
        return _fail(str(error))
    except OSError as error:
        if error.filename:
            return _fail(f"cannot read {error.filename}: {error.strerror}; check the path")
        return _fail(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; "
                     "stop what uses the port or choose another with --port")
    return 0


def _login(options: argparse.Namespace) -> tuple[str, str] | None:
    if options.password_file is None:
        return None
    lines = options.password_file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise ValueError(f"{options.password_file} is empty; a password on its first line expected")
    return options.username, lines[0]


def _fail(text: str) -> int:
    print(f"lan_broker: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
