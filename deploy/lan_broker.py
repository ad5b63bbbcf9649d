"""The LAN broker of the demo: Mosquitto where it is installed, else the embedded one; on 1884 or the next free port."""
import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from contract import topics
from deploy import atomic_file
from deploy.processes import ROOT, Part, PartFailed, free_port, listening, on_free_port, python_module

SEARCH = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/bin"))
USER = "edgecloud"
SAYS_READY = (" running", "listening on ")  # Mosquitto; the embedded one
SURELY_ENDED_S = 3.0  # a broker whose port is taken ends at once


def find(program: str) -> str | None:
    """Path of a program such as Mosquitto, also in the places of servers that are not on every PATH."""
    return shutil.which(program) or shutil.which(program, path=SEARCH)


@dataclass
class LanBroker:
    """A running LAN broker and how to reach it."""

    part: Part
    port: int
    kind: str
    password: str | None

    def environment(self) -> dict[str, str]:
        """What a publisher needs in its environment to reach it from this machine."""
        login = {"MQTT_USERNAME": USER, "MQTT_PASSWORD": self.password} if self.password else {}
        return {"BROKER": "127.0.0.1", "PORT": str(self.port), **login}


def start(directory: Path, lan: bool) -> LanBroker:
    """Start it with its state in `directory`. lan: reachable from the network, behind a generated password.

    LAN_BROKER=embedded takes the embedded one though Mosquitto is installed.
    """
    return on_free_port(lambda: _start(directory, lan))


def _start(directory: Path, lan: bool) -> LanBroker:
    directory.mkdir(parents=True, exist_ok=True)
    host = "0.0.0.0" if lan else "127.0.0.1"  # only with LAN=1, and then behind a password
    port = free_port(topics.LAN_PORT, host)
    password = secrets.token_urlsafe(12) if lan else None
    mosquitto = None if os.environ.get("LAN_BROKER") == "embedded" else find("mosquitto")
    if mosquitto:
        command = [mosquitto, "-c", str(_mosquitto_conf(directory, host, port, password))]
    else:
        command = _embedded(directory, host, port, password)
    log = directory / "broker.log"
    log.unlink(missing_ok=True)
    part, since_s = Part("LAN broker", command, log).start(), time.monotonic()

    def ready() -> bool:
        """Listening, and it is this one that does: it says so, or would have ended by now."""
        says = any(word in log.read_text(errors="replace") for word in SAYS_READY)
        return listening(port) and (says or time.monotonic() - since_s > SURELY_ENDED_S)

    try:
        part.wait_ready(f"a listener on port {port}", ready, 15)
    except Exception:
        part.stop()
        raise
    return LanBroker(part, port, "mosquitto" if mosquitto else "embedded", password)


def _embedded(directory: Path, host: str, port: int, password: str | None) -> list[str]:
    login = []
    if password:
        file = directory / "password"
        atomic_file.write(file, f"{password}\n".encode(), private=True)
        login = ["--username", USER, "--password-file", str(file)]
    return python_module("local_cloud.lan_broker", "--host", host, "--port", str(port),
                         "--state", str(directory / "state.json"), *login)


def _mosquitto_conf(directory: Path, host: str, port: int, password: str | None) -> Path:
    """deploy/mosquitto.conf with this run's listener, state directory and password file."""
    lines = [line for line in (ROOT / "deploy" / "mosquitto.conf").read_text().splitlines()
             if not line.startswith(("#", "listener", "allow_anonymous"))]
    lines += [f"listener {port} {host}", f"persistence_location {directory}/"]
    if os.geteuid() == 0:
        lines.append("user root")  # it would drop to a user who cannot write this directory
    if password:
        login = directory / "passwd"
        atomic_file.write(login, f"{USER}:{password}\n".encode(), private=True)
        hasher = find("mosquitto_passwd")
        if hasher is None:
            raise PartFailed("mosquitto_passwd is missing beside mosquitto; install Mosquitto's clients and tools")
        subprocess.run([hasher, "-U", str(login)], check=True)
        lines += ["allow_anonymous false", f"password_file {login}"]
    else:
        lines.append("allow_anonymous true")
    conf = directory / "mosquitto.conf"
    conf.write_text("\n".join(lines) + "\n")
    return conf
