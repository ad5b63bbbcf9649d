"""What the doctor's checks share: the settings as far as they can be read, the running bridge, the deadline; findings.

Made by doctor.py from the environment; read by every doctor_*.py.
"""
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from edge_bridge import doctor_running, settings
from edge_bridge.doctor_running import Running
from edge_bridge.settings import Settings, SettingsError
from edge_bridge.volume import Mount

OK, FAULT, NOT_APPLICABLE = "ok", "fault", "not applicable"
WATCH_S = 3.0  # the SDK of another bridge connects anew after 1 s
RECEIPT_S = 8.0  # rule, queue and function, which may have to start
HTTPS_PORT = 8443  # where AWS IoT answers HTTPS; its Date is compared with our clock


class Finding(NamedTuple):
    """What one check found. state: OK, FAULT or NOT_APPLICABLE; found: the observation, or why there is none."""

    check: str
    state: str
    found: str
    fix: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, OK, found)


def fault(check: str, found: str, fix: str) -> Finding:
    """Something is wrong; fix: the next step."""
    return Finding(check, FAULT, found, fix)


def not_applicable(check: str, why: str) -> Finding:
    """There was nothing to look at."""
    return Finding(check, NOT_APPLICABLE, why)


@dataclass(frozen=True)
class Case:
    """One examination. faults: what is wrong with the settings (a default stands in for a value that cannot be read);
    written: what an env file said; watch_s, receipt_s: how long a takeover and receipts are waited for. The tests give
    mounts, an https_port and a clock of their own."""

    settings: Settings
    faults: list[str]
    version: str
    timeout_s: float
    passive: bool = False
    running: Running | None = None
    written: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] | None = None
    https_port: int = HTTPS_PORT
    watch_s: float = WATCH_S
    receipt_s: float = RECEIPT_S
    now_s: Callable[[], float] = time.time
    began_s: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, environ: Mapping[str, str], **more: Any) -> "Case":
        """The case of these settings; looks for the bridge that runs with them."""
        faults: list[str] = []
        try:
            chosen = settings.load(environ)
        except SettingsError as error:
            faults = error.faults
            chosen = _as_far_as_readable(environ)
        return cls(chosen, faults, running=doctor_running.look(chosen), **more)

    def left_s(self, most_s: float = float("inf")) -> float:
        """Seconds until the doctor has to be done, at most most_s and at least a moment."""
        return max(0.05, min(most_s, self.began_s + self.timeout_s - time.monotonic()))

    def lacks(self, *names: str) -> str:
        """Why a check that needs these settings cannot be made; "" when it can."""
        subjects = {name for text in self.faults if "no file" not in text for name in _subject(text)}
        broken = [name for name in names if name in subjects]
        return f"needs {', '.join(broken)}" if broken else ""


def _subject(text: str) -> list[str]:
    """Names that a fault in the settings begins with: "A is …", "A and B are …", "A: …"."""
    match = re.match(r"[A-Z0-9_]+(?: and [A-Z0-9_]+)*", text)
    return match[0].split(" and ") if match else []


def _as_far_as_readable(environ: Mapping[str, str]) -> Settings:
    values = {}
    for setting in settings.TABLE:
        try:
            values[setting.name.lower()] = setting.read(environ.get(setting.name, setting.default).strip())
        except (ValueError, KeyError):
            values[setting.name.lower()] = setting.read(setting.default)
    settings.fill_in(values)
    return Settings(**values)


def read_env_file(path: str) -> dict[str, str]:
    """NAME=value lines, as docker's --env-file takes them; comments, `export` and quotes around a value are allowed.

    Raises OSError, UnicodeDecodeError.
    """
    found = {}
    for line in Path(path).read_text(encoding="utf-8-sig").splitlines():
        name, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and not name.startswith("#"):
            value = value.strip()
            is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name.strip()] = value[1:-1] if is_quoted else value
    return found


def shown(path: str | Path) -> str:
    """A path as it is read best: from the present directory on, when it lies below."""
    whole = Path(path)
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def unresolved(host: str, error: OSError) -> tuple[str, str]:
    """(what, fix) for a name that has no address."""
    fix = "check the name's spelling, and this machine's DNS (getent hosts NAME, or nslookup NAME)"
    if host == "host.docker.internal":
        fix = ("outside of Docker Desktop give the container --add-host=host.docker.internal:host-gateway, or set the "
               "address itself")
    return f"{host} has no address ({error.strerror or error})", fix
