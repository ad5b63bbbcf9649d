"""`python -m edge_bridge`: from the command line and the environment to process.py, which runs the bridge, or to the
doctor, the dead letters and the health check."""
import logging
import os
import sqlite3
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from edge_bridge import deadletters, settings, status, volume
from edge_bridge.schema import StoreError
from edge_bridge.settings import Settings, SettingsError

log = logging.getLogger("edge_bridge")


def version() -> str:
    """The one version number: the image's, or pyproject's when run from the repository."""
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    if "EDGECLOUD_VERSION" in os.environ or not pyproject.is_file():
        return os.environ.get("EDGECLOUD_VERSION", "unknown")
    return str(tomllib.loads(pyproject.read_text())["project"]["version"])


def main(arguments: list[str], environ: Mapping[str, str] = os.environ) -> int:
    """Returns the exit code: 2 for settings that cannot work, 1 for what else stops the start, or the bridge."""
    if arguments[:1] == ["doctor"]:
        from edge_bridge import doctor
        return doctor.command(arguments[1:], environ, version())
    if "--help" in arguments or "-h" in arguments:
        print(settings.help_text())
        return 0
    if "--version" in arguments:
        print(version())
        return 0
    if "--health" in arguments:
        healthy, line = status.health(environ.get("STATUS_FILE", ""))
        print(line)
        return 0 if healthy else 1
    if arguments[:1] == ["deadletters"]:
        return deadletters.command(arguments[1:], environ, settings.default("OUTBOX"))
    if arguments:
        print(f"edge_bridge: unknown argument {arguments[0]!r}; expected doctor, deadletters, --help, --version or "
              "--health", file=sys.stderr)
        return 2
    try:
        chosen = settings.load(environ)
    except SettingsError as error:
        for fault in error.faults:
            print(f"edge_bridge: {fault}", file=sys.stderr)
        return 2
    return _run(chosen)


def _run(chosen: Settings) -> int:
    """The bridge itself, until it is told to end."""
    logging.basicConfig(level=chosen.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    share = volume.refused(chosen.outbox) if chosen.outbox_on_share == "refuse" else None
    if share:
        print(f"edge_bridge: OUTBOX: {share}", file=sys.stderr)
        return 2
    in_memory = volume.volatile(chosen.outbox)
    if in_memory:
        log.warning("%s", in_memory)
    from edge_bridge.iot_connection import IotConnection  # here, since a health check needs none of what these import
    from edge_bridge.process import serve
    try:
        return serve(chosen, IotConnection, version())
    except SettingsError as error:
        print(f"edge_bridge: {error}", file=sys.stderr)
        return 2
    except StoreError as error:
        print(f"edge_bridge: {error}", file=sys.stderr)
        return 1
    except (sqlite3.Error, OSError) as error:
        print(f"edge_bridge: the outbox {chosen.outbox} cannot be opened: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
