"""`make doctor`: finds the settings that are meant, and starts `python -m edge_bridge doctor` with them.

The first of: ENV_FILE=<file>; IOT_ENDPOINT in the environment; certs/bridge.env, which `make provision` writes; the
bridge of a demo that runs now; the environment as it is (said first: most likely nothing has been set up yet).
"""
import argparse
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy import env_file
from deploy.processes import ROOT, python_module

PROVISIONED = "certs/bridge.env"
DEMOS = ".demo/*/bridge.env"
DOCKER_HOST = "host.docker.internal"  # this machine, as containers call it


def settings_file(given: str, environ: Mapping[str, str], root: Path = ROOT) -> Path | None:
    """The env file to use; None: the environment alone."""
    if given:
        return Path(given)
    if environ.get("IOT_ENDPOINT"):
        return None
    provisioned = root / PROVISIONED
    return provisioned if provisioned.is_file() else running_demo(root)


def running_demo(root: Path) -> Path | None:
    """The env file of the newest demo whose bridge runs: a bridge holds the lock of its outbox as long as it lives."""
    for found in sorted(root.glob(DEMOS), reverse=True):
        try:
            with open(found.parent / "outbox" / "outbox.db.lock") as lock_file:
                fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return found
        except FileNotFoundError:
            continue
    return None


def host_defaults(file: Path | None, environ: Mapping[str, str], resolves: Callable[[str], bool]) -> dict[str, str]:
    """What stands in, on this machine, for defaults that are made for the bridge's container; what is set stays."""
    defaults = {} if resolves(DOCKER_HOST) else {"MQTT_BROKER": "127.0.0.1", "BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
    if file:
        defaults["CERTS"] = str(file.absolute().parent)
    taken = {*environ, *(env_file.read(file) if file else ())}
    return {name: value for name, value in defaults.items() if name not in taken}


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def main(given: Sequence[str], environ: Mapping[str, str], root: Path = ROOT) -> int:
    """The doctor's exit code."""
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__)
    parser.add_argument("--env-file", default="", help="settings of the bridge, NAME=value lines")
    options, further = parser.parse_known_args(given)
    file = settings_file(options.env_file, environ, root)
    if file:
        further += ["--env-file", os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)]
    elif not environ.get("IOT_ENDPOINT"):
        print(f"doctor: no demo runs here, and {PROVISIONED} does not exist: there is no bridge to look at; next: "
              "make demo, or make provision", file=sys.stderr, flush=True)
    environment = {**host_defaults(file, environ, _resolves), **environ}
    return subprocess.run(python_module("edge_bridge", "doctor", *further), env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
