"""The doctor's look at the running bridge, and at versions: doctor_running.py's status in, findings out."""
import importlib.metadata
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator

from contract import batch
from edge_bridge import doctor_running
from edge_bridge.doctor_case import Case, Finding, fault, not_applicable, ok, shown
from edge_bridge.schema import SCHEMA_VERSION
from edge_bridge.status import STALLED_S

PACKAGES = ("awsiotsdk", "awscrt", "paho-mqtt", "confluent-kafka")
OLDEST_PYTHON = (3, 11)
LOOK_EVERY_S = 0.25  # the bridge tells once a second


def bridge(case: Case) -> Iterator[Finding]:
    """bridge, alarms, versions."""
    running = case.running
    if running is None:
        yield not_applicable("bridge", f"none runs with the outbox {case.settings.outbox}")
        yield not_applicable("alarms", "no bridge runs")
    elif not running.status:
        may_tell = case.settings.status_file or case.settings.metrics_port
        yield fault("bridge", "one runs, but tells nothing of itself" + (" yet" if may_tell else ""),
                    "it may be starting: ask again in a moment, then look at its log" if may_tell else
                    "set STATUS_FILE or METRICS_PORT, and start it again")
        yield not_applicable("alarms", "the bridge tells nothing")
    else:
        yield _how_it_goes(case)
        yield _alarms(running.status.get("alarms", {}))
    yield _versions(case)


def _how_it_goes(case: Case) -> Finding:
    assert case.running
    status, where = case.running.status, shown(case.running.where)
    if not case.running.tells:
        return fault("bridge", f"its status ({where}) is {case.running.age_s:.0f} s old: it hangs",
                     "look at its log, then start it again: what is in the outbox stays there")
    down = _links_down(case)
    if down:
        return fault("bridge", f"it has no connection, or not all the time: {', '.join(sorted(down))}",
                     "see the checks of that side; for mqtt, whether another bridge uses the same MQTT_CLIENT_ID")
    if status.get("stalled_s", 0) > STALLED_S:
        return fault("bridge", f"nothing went out for {status['stalled_s']:.0f} s", "see alarms, connect and publish")
    return ok("bridge", f"runs: oldest unsent {status.get('oldest_unsent_s', 0):.0f} s, told by {where}")


def _links_down(case: Case) -> set[str]:
    """Links that were down at any time of the watch: bridges that take over from each other are up by turns."""
    down: set[str] = set()
    until_s = time.monotonic() + case.left_s(case.watch_s)
    while True:
        running = doctor_running.look(case.settings)
        if running:
            down |= {link for link, is_up in running.status.get("connected", {}).items() if not is_up}
        if time.monotonic() >= until_s:
            return down
        threading.Event().wait(LOOK_EVERY_S)


def _alarms(up: dict[str, str]) -> Finding:
    if not up:
        return ok("alarms", "none is up")
    return fault("alarms", "; ".join(f"{name}: {text}" for name, text in sorted(up.items())),
                 "docs/runbook.md has an entry for each alarm")


def _versions(case: Case) -> Finding:
    found = {"bridge": case.version, "batches": f"v{batch.VERSION}", "outbox schema": str(SCHEMA_VERSION),
             "Python": ".".join(map(str, sys.version_info[:3])), "SQLite": sqlite3.sqlite_version}
    missing = []
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    runs = case.running.status.get("version") if case.running else None
    if missing:
        return fault("versions", f"not installed: {', '.join(missing)} ({told})",
                     "install the lock again: make setup, or build the image anew")
    if sys.version_info < OLDEST_PYTHON:
        return fault("versions", f"Python is too old ({told})", "Python 3.11 or newer")
    if runs is not None and runs != case.version:
        return fault("versions", f"the running bridge is {runs}, this is {case.version}",
                     "start the bridge anew with this version, or ask the doctor of the version that runs")
    return ok("versions", told)
