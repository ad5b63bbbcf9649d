"""Bench row `ingest`: readings per second from a real LAN broker's queue to durable disk, beside a bare subscriber.

One broker is loaded once, for all runs: each has its own session there, whose queue holds every message. The bridge
runs as one process without a cloud, with scoring off and on; what it has on disk and what is classified is read from
its outbox, from outside.
"""
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edge_bridge import settings
from edge_bridge.detectors.compiler import kernel
from tests.bench import load
from tests.bench.bridge_run import ROOT, BridgeRun, used_between
from tests.bench.cloud import Cloud
from tests.bench.report import Row
from tests.bridge_rig import free_port
from tests.conftest import find_service

COUNT, QUICK_COUNT, REPEATS = 200_000, 20_000, 3
SEED_COUNT, QUICK_SEED_COUNT = 400, 200
_DEADLINE_S = 300.0
_POLL_S = 0.02


class Broker:
    """Mosquitto with its queues in memory and without a bound."""

    def __init__(self, directory: Path) -> None:
        program = find_service("mosquitto")
        if program is None:
            raise RuntimeError("no mosquitto here; expected it on the PATH (apt or brew install mosquitto)")
        directory.mkdir(parents=True)
        self.port = free_port()
        conf = directory / "mosquitto.conf"
        conf.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
                        "max_inflight_messages 1000\n")
        self._process = subprocess.Popen([program, "-c", str(conf)], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 10
        while not self._listens():
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise RuntimeError(f"mosquitto does not listen on port {self.port} after 10 s")
            time.sleep(_POLL_S)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def measure(directory: Path, cloud: Cloud, quick: bool) -> list[Row]:
    """Bare subscriber and bridge in turn; then the first script's way on a few messages."""
    count, repeats = (QUICK_COUNT, 1) if quick else (COUNT, REPEATS)
    seed_count = QUICK_SEED_COUNT if quick else SEED_COUNT
    broker = Broker(directory / "broker")
    try:
        ways = scorings()
        sessions = [f"{kind}-{n}" for n in range(repeats) for kind in ("bare", "bridge", *ways)]
        for name in [*sessions, "seed"]:
            load.open_session(broker.port, name)
        load.preload(broker.port, count)
        bare, bridge = [], []
        scored: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for n in range(repeats):
            bare.append(_reference("paho", broker.port, f"bare-{n}", count, cloud))
            bridge.append(_bridge(directory / f"bridge-{n}", broker.port, f"bridge-{n}", count, cloud.environment))
            for index, (name, environment) in enumerate(ways.items()):
                scored[name].append(_bridge(directory / f"scoring-{index}-{n}", broker.port, f"{name}-{n}", count,
                                            {**cloud.environment, **environment}))
        seed = _reference("seed", broker.port, "seed", seed_count, cloud)
    finally:
        broker.close()
    return _rows(count, bare, bridge, seed) + _scoring_rows(bare, scored)


def scorings() -> dict[str, dict[str, str]]:
    """How readings are scored, as rows call it, and the settings for it: the detector `seed`, and the default one."""
    seed = {"SCORED_FIELDS": "sensor2", "DETECTOR": "seed"}
    ways = {"seed, not compiled": {**seed, "PYTHONPATH": str(Path(__file__).parent / "without")}}
    if kernel().compiled:
        ways = {"seed, compiled": seed, "default": {"SCORED_FIELDS": settings.default("SCORED_FIELDS")}, **ways}
    return ways


def _scoring_rows(bare: list[dict[str, Any]], scored: dict[str, list[dict[str, Any]]]) -> list[Row]:
    rows = []
    for name, runs in scored.items():
        target = {} if name == "seed, not compiled" else {"at_least": 0.60, "goal": 0.75}
        ratios = [a["per_s"] / b["per_s"] for a, b in zip(runs, bare, strict=True)]
        rows += [Row(f"ingest, scoring {name} / bare subscriber", "ratio", ratios, **target,
                     note="until every reading is on disk and classified"),
                 Row(f"ingest, scoring {name}", "readings/s", [run["per_s"] for run in runs]),
                 Row(f"CPU of a reading: ingest, scoring {name}", "µs", [run["cpu_us"] for run in runs])]
    return rows


def _rows(count: int, bare: list[dict[str, Any]], bridge: list[dict[str, Any]], seed: dict[str, Any]) -> list[Row]:
    paired = list(zip(bridge, bare, strict=True))
    told = [run["disk_bytes"] for run in bridge if run["disk_bytes"] is not None]
    return [
        Row("ingest to durable disk / bare subscriber", "ratio", [a["per_s"] / b["per_s"] for a, b in paired],
            at_least=0.70, goal=0.85, note=f"{count} QoS 1 messages of 10 devices, one process, scoring off"),
        Row("ingest to durable disk", "readings/s", [run["per_s"] for run in bridge]),
        Row("bare paho subscriber, manual ack", "messages/s", [run["per_s"] for run in bare]),
        Row("ingest to durable disk / first script's way", "ratio", [run["per_s"] / seed["per_s"] for run in bridge],
            note="paho callback, IsolationForest, publish per message to the gateway"),
        Row("first script's way", "messages/s", [seed["per_s"]]),
        Row("CPU of a reading: ingest", "µs", [run["cpu_us"] for run in bridge], note="getrusage of the bridge"),
        Row("CPU of a message: bare subscriber", "µs", [run["cpu_us"] for run in bare], note="getrusage"),
        Row("disk written per reading: ingest", "bytes", told, note=bridge[0]["disk_source"]),
        Row("outbox file per reading waiting", "bytes", [run["file_bytes"] for run in bridge], note="file sizes"),
    ]


def _reference(kind: str, port: int, session: str, count: int, cloud: Cloud) -> dict[str, Any]:
    ran = subprocess.run([sys.executable, "-m", "tests.bench.bare", kind, str(port), session, str(count)], cwd=ROOT,
                         env={**os.environ, **cloud.environment}, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"the {kind} subscriber ended with {ran.returncode}: {ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _bridge(directory: Path, port: int, session: str, count: int, environment: dict[str, str]) -> dict[str, Any]:
    nowhere = {**environment, "IOT_PORT": str(free_port())}
    bridge = BridgeRun(directory, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(port), MQTT_CLIENT_ID=session,
                       **nowhere).start()
    scoring = bool(environment.get("SCORED_FIELDS"))
    try:
        first, from_s = _await_done(bridge, count // 10, scoring)
        last, to_s = _await_done(bridge, count, scoring)
        file_bytes = sum(path.stat().st_size for path in directory.glob("outbox.db*")) / last
        used = used_between(bridge.notes(), from_s, to_s)
    finally:
        bridge.stop()
    if last != count:
        raise RuntimeError(f"the bridge has {last} readings on disk; expected {count}")
    done = last - first
    return {"per_s": done / (to_s - from_s), "cpu_us": used["cpu_s"] / done * 1e6, "file_bytes": file_bytes,
            "disk_bytes": None if used["disk_bytes"] is None else used["disk_bytes"] / done,
            "disk_source": used["disk_source"]}


def _await_done(bridge: BridgeRun, count: int, scoring: bool) -> tuple[int, float]:
    """How many are on disk, with scoring also classified, and when, as soon as they are at least `count`."""
    deadline_s = time.monotonic() + _DEADLINE_S
    while (done := min(bridge.committed(), _scored(bridge.outbox)) if scoring else bridge.committed()) < count:
        bridge.check_alive()
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{done} of {count} readings are done after {_DEADLINE_S} s")
        time.sleep(_POLL_S)
    return done, time.time()


def _scored(outbox: Path) -> int:
    """Readings that the detector has been through; without a cloud none leaves the table, and their ids are in line."""
    if not outbox.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{outbox}?mode=ro", uri=True) as db:
            [(scored_to,)] = db.execute("SELECT value FROM meta WHERE name = 'scored_to'")
            [(first,)] = db.execute("SELECT min(id) FROM readings")
    except sqlite3.OperationalError:  # the tables are not made yet
        return 0
    return 0 if first is None else max(0, scored_to - first + 1)
