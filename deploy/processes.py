"""Child processes of the demo and the end-to-end tests: started, watched, stopped; none is left behind."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
PORT_ATTEMPTS = 8
T = TypeVar("T")


class PartFailed(Exception):
    """A part of the system ended or never became ready; the message says which, and shows the end of its log."""


def wait_until(what: str, condition: Callable[[], bool], within_s: float, every_s: float = 0.05,
               progress: Callable[[], object] = lambda: None) -> None:
    """Return as soon as `condition()` is true; PartFailed when `within_s` have gone by in which `progress()` has not
    changed."""
    reached, deadline = progress(), time.monotonic() + within_s
    while not condition():
        if (now_at := progress()) != reached:
            reached, deadline = now_at, time.monotonic() + within_s
        if time.monotonic() > deadline:
            raise PartFailed(f"waited {within_s:.0f} s in vain for: {what}")
        time.sleep(every_s)


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """`preferred`, or the next port above it on which nothing listens."""
    for port in range(preferred, preferred + 200):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue
    raise PartFailed(f"no free port from {preferred} to {preferred + 199} on {host}; stop what holds them")


def on_free_port(start: Callable[[], T]) -> T:
    """What `start` returns, which starts a part on a `free_port`; again when another process took that in between."""
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return start()
        except PartFailed as error:
            if "in use" not in str(error):
                raise
    return start()


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server accepts connections there."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


class Part:
    """One process, in a session of its own so that a Ctrl-C in the terminal reaches only the demo itself."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None,
                 cwd: Path = ROOT) -> None:
        self.name, self.command, self.log, self.cwd = name, command, log, cwd
        self.environment = {**clean_environment(), **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Part":
        """Start it (again); its output is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, cwd=self.cwd, start_new_session=True)
        return self

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or before it was started)."""
        return self.process.poll() if self.process else None

    def check(self) -> None:
        """Raise PartFailed when it has ended."""
        if not self.running:
            raise PartFailed(f"{self.name} ended with exit code {self.exit_code}:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The end of its log, indented."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join("    " + line for line in text.splitlines()[-lines:])

    def wait_ready(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Wait for the condition; fail at once when the process ends before."""
        def ready() -> bool:
            if condition():
                return True
            self.check()
            return False

        try:
            wait_until(f"{self.name}: {what}", ready, within_s)
        except PartFailed as error:
            raise PartFailed(f"{error}\n{self.tail()}") from None

    def stop(self, within_s: float = 15.0) -> int | None:
        """SIGTERM, then SIGKILL when it does not end in time. Returns the exit code."""
        if self.process is None:
            return None
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def wait_for_end(self, within_s: float) -> None:
        """Wait until it has ended by itself, with exit code 0; PartFailed otherwise."""
        wait_until(f"{self.name} to end", lambda: not self.running, within_s)
        if self.exit_code:
            raise PartFailed(f"{self.name} ended with exit code {self.exit_code}:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def clean_environment() -> dict[str, str]:
    """The environment without what could lead a local part to a real AWS account."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    kept.update(PYTHONUNBUFFERED="1", AWS_EC2_METADATA_DISABLED="true")
    return kept


def python_module(module: str, *arguments: str) -> list[str]:
    """Command line that runs one of our modules under this interpreter."""
    return [sys.executable, "-m", module, *arguments]
