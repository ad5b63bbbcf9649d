"""Bench row `queries`: how long the function api takes for what the dashboard asks, with half a day of data and with
100 times that behind the same newest hours.

The tables are in dynalite, which keeps keys in order and reads a range of them, as DynamoDB does. The engines of the
tests do not: moto goes through a whole partition for every query, DynamoDB Local (in SQLite) through a whole table for
those in ascending order. Two sets of tables in one engine, asked in turn, so that a slow moment of the machine falls on
both.
"""
import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

from contract import rollups
from deploy import npm
from deploy.processes import ROOT, Part, listening
from deploy.rebuild_tables import Pace, Rebuilder
from infra import nodejs
from lambdas import table
from tests import cloud_tables, messages
from tests.api_rig import get, readings
from tests.bench.report import Row
from tests.bridge_rig import free_port
from tests.cloud_tables import INDEXES, NAMES, REGION
from tests.messages import SITE, T0_MS

TIMES = 100
HOURS, QUICK_HOURS = 12, 3
ROUNDS, QUICK_ROUNDS = 100, 20
PER_HOUR, PER_BATCH = 6, 60
MOST_RATIO = 1.2
_START_S = 30.0
DEVICE = {"site": SITE, "device": "pi-1"}
_HERE = "/sites/{site}/devices/{device}/"


def queries(directory: Path, quick: bool) -> list[Row]:
    """The time of each question with 100 times the data / with the data alone: the medians of many rounds."""
    hours, rounds = (QUICK_HOURS, QUICK_ROUNDS) if quick else (HOURS, ROUNDS)
    directory.mkdir(parents=True)
    port = free_port()
    engine = _engine(port, directory).start()
    try:
        engine.wait_ready("a listener", lambda: listening(port), _START_S)
        with mock.patch.dict(os.environ, _environment(f"http://127.0.0.1:{port}")):
            for times in (1, TIMES):
                cloud_tables.fresh_container()  # it remembers which devices its tables list
                with _tables(times):
                    _fill(hours, times)
            return _asked(hours, rounds)
    finally:
        table.CLIENTS.clear()
        engine.stop()


def _engine(port: int, directory: Path) -> Part:
    program = npm.installed(ROOT / "tests" / "bench" / "tables", "dynalite") / "cli.js"
    environment: dict[str, str] = {}
    nodejs.use_nodejs(environment)
    return Part("dynalite", [environment["JSII_NODE"], str(program), "--port", str(port), "--createTableMs", "0"],
                directory / "dynalite.log")


def _environment(url: str) -> dict[str, str]:
    return {"AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_DYNAMODB": url, "RETENTION_DAYS": "36500", "MINUTE_RETENTION_DAYS": "36500",
            "ROLLUP_RETENTION_DAYS": "36500"}


def _tables(times: int) -> Any:
    """The functions use the tables of this size."""
    return mock.patch.dict(os.environ, {setting: f"{name}-{times}" for setting, name in NAMES.items()})


def _fill(hours: int, times: int) -> None:
    """Batches of one device, the last of them at T0_MS + hours, as the functions store them."""
    for setting, name in NAMES.items():
        cloud_tables.create(os.environ[setting], INDEXES[name])
    maker = Rebuilder(Pace(1e9))
    step_ms = rollups.HOUR_MS // PER_HOUR
    for index in range(hours * PER_HOUR - hours * times * PER_HOUR, hours * PER_HOUR):
        rows = [_row(T0_MS + index * step_ms + 900 * n) for n in range(PER_BATCH)]
        maker.apply("readings", readings(*rows), rows[-1].received_ms)
    maker.finish()


def _row(at_ms: int) -> Any:
    plain = messages.row(0, {"sensor1": f"2{at_ms % 97 / 100:.2f}", "sensor2": f"0.{at_ms % 9973:04}"})
    return plain._replace(number=at_ms * 1000, at_ms=at_ms, received_ms=at_ms + 20, timestamp=at_ms // 1000)


def _questions(hours: int) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """By name: path, the member of the answer that holds what was found, query."""
    from_s, to_s = T0_MS / 1000, T0_MS / 1000 + hours * 3600
    return {"newest readings": (_HERE + "readings", "readings", {"limit": 100}),
            "an hour, by minute": (_HERE + "rollups", "rollups", {"from_": to_s - 3600, "to": to_s,
                                                                   "resolution": "auto"}),
            f"{hours} hours, by hour": (_HERE + "rollups", "rollups", {"from_": from_s, "to": to_s,
                                                                        "resolution": "hour"}),
            "devices": ("/devices", "devices", {})}


def _asked(hours: int, rounds: int) -> list[Row]:
    ratios: dict[str, list[float]] = {}
    for name, (path, what, query) in _questions(hours).items():
        found: dict[int, list[float]] = {1: [], TIMES: []}
        answers = {}
        for number in range(rounds):
            for times, seconds in sorted(found.items(), reverse=bool(number % 2)):
                with _tables(times):
                    began_s = time.perf_counter()
                    answers[times] = get(path, DEVICE if path.startswith(_HERE) else None, **query)[what]
                    seconds.append(time.perf_counter() - began_s)
        assert answers[1] and len(answers[1]) == len(answers[TIMES]), (name, answers)
        ratios[name] = [_median(found[TIMES][n::3]) / _median(found[1][n::3]) for n in range(3)]
        ratios[name].append(_median(found[1]) * 1000)
    return [Row(f"query time, 100x the data / 1x: {name}", "ratio", some[:3], at_most=MOST_RATIO,
                note=f"{rounds} rounds; {some[3]:.1f} ms with {hours} hours of a batch every {60 // PER_HOUR} min")
            for name, some in ratios.items()]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
