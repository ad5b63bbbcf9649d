"""`make cloud`: the local cloud by itself, until Ctrl-C; app.py's templates go in, addresses and the next commands come
out, for `make provision` and `make verify` with TARGET=local.

What it stores is gone when it ends; its CA stays in .cloud/, and so do the keys in .cloud/certs.
"""
import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import web
from deploy.context import merged
from deploy.faults import Fault
from deploy.processes import Part, PartFailed, python_module
from deploy.synth import synthesize
from deploy.target import READY_FILE, TargetFault, local, settings_of
from deploy.terminal import foreground, stop_event
from infra.settings import Settings

READY_S = 90


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make cloud", description=__doc__)
    parser.add_argument("--context", default="", help='CDK context, "k=v ..."')
    parser.add_argument("--ready-file", default="", help="its addresses; CA and logs go beside it; default: "
                        ".cloud/cloud.json")
    parser.add_argument("--gateway-port", type=int, default=8883)
    parser.add_argument("--api-port", type=int, default=5000)
    parser.add_argument("--web-port", type=int, default=8080)
    parser.add_argument("--quotas", choices=("enforced", "lifted"), default="enforced", help="IoT Core's limits")
    asked = parser.parse_args(argv)
    asked.ready_file = Path(asked.ready_file) if asked.ready_file else READY_FILE
    return asked


def started(asked: argparse.Namespace, context_json: str) -> Part:
    """The local cloud's process, ready. Raises PartFailed with the end of its log."""
    ready_file, directory = asked.ready_file, asked.ready_file.parent
    directory.mkdir(parents=True, exist_ok=True)
    synthesize(directory / "cdk.out", context_json)
    ready_file.unlink(missing_ok=True)
    part = Part("local cloud", python_module(
        "local_cloud", str(directory / "cdk.out"), "--state", str(directory / "state"), "--ready-file", str(ready_file),
        "--gateway-port", str(asked.gateway_port), "--api-port", str(asked.api_port), "--web-port",
        str(asked.web_port), "--quotas", asked.quotas),
        directory / "cloud.log")
    try:
        part.start().wait_ready("its ready file", ready_file.exists, READY_S)
    except PartFailed:
        part.stop()
        raise
    return part


def dashboard(settings: Settings, ready_file: Path) -> str:
    """Put the dashboard's page there; where it is, or why not."""
    place = local(settings, ready_file)
    try:
        return web.put(place, None)
    except Fault as fault:
        return f"not there: {fault}"


def told(ready: dict[str, object], ready_file: Path, page: str) -> str:
    """What the person at the terminal is to know."""
    endpoints = ready["endpoints"]
    assert isinstance(endpoints, dict)
    here = "" if ready_file == READY_FILE else f" CLOUD={ready_file}"
    return "\n".join([
        f"the local cloud runs: {endpoints['gateway']['host']}:{endpoints['gateway']['port']} for bridges, API "
        f"{endpoints['api']}",
        f"the dashboard: {page}",
        f"AWS commands: AWS_ENDPOINT_URL={endpoints['aws']} AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local "
        f"AWS_DEFAULT_REGION={ready['region']}",
        f"next, in another terminal: make provision TARGET=local{here}",
        f"then:                      make verify TARGET=local{here}",
        "Ctrl-C ends it; what it stored is gone then"])


def main(argv: Sequence[str]) -> int:
    """Run it until Ctrl-C or SIGTERM; the exit code."""
    asked, stop = arguments(argv), stop_event()
    try:
        context = merged(asked.context)
        settings = settings_of(context)  # a fault in it, before anything is started
        part = started(asked, json.dumps(context))
    except (PartFailed, TargetFault, ValueError) as fault:
        print(f"cloud: {fault}", file=sys.stderr)
        return 1
    try:
        page = dashboard(settings, asked.ready_file)
        print(told(json.loads(asked.ready_file.read_text(encoding="utf-8")), asked.ready_file, page), flush=True)
        while not stop.wait(0.5):
            part.check()
    except PartFailed as fault:
        print(f"cloud: {fault}", file=sys.stderr)
        return 1
    finally:
        part.stop()
    return 0


if __name__ == "__main__":
    with foreground():
        sys.exit(main(sys.argv[1:]))
