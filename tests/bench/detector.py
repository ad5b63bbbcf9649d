"""Bench row `detector`: readings per second of the detector `seed` beside scikit-learn asked for each reading; what a
process with it takes to start and in memory; 10,000 devices.

All ways judge the same readings in turn in the same run, and their labels are compared. Start and memory are measured
in processes of their own, with byte code and compiled code on disk already.
"""
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from edge_bridge.detectors.compiler import kernel
from edge_bridge.detectors.isolation_forest import Forest
from edge_bridge.detectors.seed import RANDOM_STATE, REFIT_EVERY, TREES, WINDOW, Models, SeedDetector
from tests.bench import load
from tests.bench.bridge_run import ROOT
from tests.bench.report import Row

COUNT, QUICK_COUNT = 400, 60
REPEATS = 3
DEVICES, QUICK_DEVICES = 10_000, 300
_LEAST_S = 0.3
_TARGETS = (("not compiled", 30, 65), ("compiled, one by one", None, 500), ("compiled", 500, 1000))

Judge = Callable[[list[float]], list[bool]]


def naive(contamination: float | None) -> Judge:
    """scikit-learn's fit at every 20th reading, and its predict for every one."""
    from sklearn.ensemble import IsolationForest

    def judge(values: list[float]) -> list[bool]:
        window: deque[float] = deque(maxlen=WINDOW)
        forest: Any = None
        labels = []
        for count, value in enumerate(values, 1):
            window.append(value)
            if count % REFIT_EVERY == 0:
                forest = IsolationForest(n_estimators=TREES, random_state=RANDOM_STATE,
                                         contamination="auto" if contamination is None else contamination)
                forest.fit(numpy.array(window).reshape(-1, 1))
            labels.append(forest is not None and bool(forest.predict(numpy.array([[value]]))[0] == -1))
        return labels
    return judge


def ours(contamination: float | None, compiled: bool, batch: int | None = None) -> Judge:
    """The bridge's detector. batch: how many readings it is handed at once, None for all."""
    forest = Forest(contamination=contamination, compiled=compiled, most_values=WINDOW, trees=TREES,
                    random_state=RANDOM_STATE)

    def judge(values: list[float]) -> list[bool]:
        detector, readings, labels = SeedDetector(forest, Models(1)), [(value, 0) for value in values], []
        for start in range(0, len(readings), batch or len(readings)):
            found = detector.update_many(readings[start:start + (batch or len(readings))])
            labels += [verdict.anomaly for verdict in found]
        return labels
    return judge


def detector(directory: Path, quick: bool) -> list[Row]:
    """All rows."""
    directory.mkdir(parents=True)
    count, repeats = (QUICK_COUNT, 1) if quick else (COUNT, REPEATS)
    share = [row for row in _speed(0.08, count, repeats) if row.unit == "ratio"]
    devices, starts = (QUICK_DEVICES, 1) if quick else (DEVICES, 3)
    return _speed(None, count, repeats) + share + _processes(directory, devices, starts)


def _speed(contamination: float | None, count: int, repeats: int) -> list[Row]:
    values = [float(load.expected(0, n)[1]["sensor2"]) for n in range(count)]
    ways = {"scikit-learn": naive(contamination), "not compiled": ours(contamination, False)}
    if kernel().compiled:
        ways = {**ways, "compiled, one by one": ours(contamination, True, 1), "compiled": ours(contamination, True)}
    labels = {name: judge(values) for name, judge in ways.items()}
    for name, found in labels.items():
        if found != labels["scikit-learn"]:
            raise RuntimeError(f"the labels of {name!r} are not scikit-learn's; `make exact` finds where they differ")
    per_s: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, judge in ways.items():
            per_s[name].append(_per_s(judge, values))
    called = "seed" if contamination is None else f"seed, {contamination:g}"
    rows = [Row(f"detector `{called}`, {name}", "readings/s", found) for name, found in per_s.items()]
    note = f"{count} readings, contamination {contamination or 'auto'}, the same labels"
    for name, at_least, goal in _TARGETS:
        if name in ways:
            ratios = [a / b for a, b in zip(per_s[name], per_s["scikit-learn"], strict=True)]
            rows.append(Row(f"detector `{called}`, {name} / scikit-learn", "ratio", ratios, at_least=at_least,
                            goal=goal, note=note))
    return rows


def _per_s(judge: Judge, values: list[float]) -> float:
    """As often as it takes to be measured well."""
    started_s, done = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - started_s) < _LEAST_S or not done:
        judge(values)
        done += len(values)
    return done / elapsed_s


def _processes(directory: Path, devices: int, repeats: int) -> list[Row]:
    environment = dict(os.environ)
    ways = {"compiled": ["seed"], "not compiled": ["seed", "uncompiled"], "scikit-learn": ["seed-sklearn"]}
    if not kernel().compiled:
        del ways["compiled"]
    if sys.dont_write_bytecode and repeats > 1:  # what an installed bridge has on disk is made for these processes
        environment["PYTHONPYCACHEPREFIX"] = str(directory / "bytecode")
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for arguments in ways.values():
            _child(environment, arguments, 0)
    rows = []
    for name, arguments in ways.items():
        ran = [_child(environment, arguments, 0) for _ in range(repeats)]
        rows += [
            Row(f"detector, {name}: start with a cache", "s", [one["start_s"] for one in ran],
                at_most=2.0 if name == "compiled" else None, note="imports, tables, compiled code; its own process"),
            Row(f"detector, {name}: memory of the process", "MB", [one["rss_mb"] for one in ran],
                note=f"{ran[0]['bare_mb']:.0f} MB before")]
    for name, arguments in ways.items():
        if name != "scikit-learn":
            many = _child(environment, arguments, devices)
            rows += [
                Row(f"detector, {name}: memory per device", "bytes", [many["device_bytes"]], at_most=10_000,
                    note=f"{devices} devices in one process, what Python and NumPy allocated"),
                Row(f"detector, {name}: {devices:,} devices in turn", "readings/s", [many["per_s"]],
                    note="one reading of each: its forest has to be fitted again")]
    return rows


def _child(environment: dict[str, str], arguments: list[str], devices: int) -> dict[str, Any]:
    name, *further = arguments
    ran = subprocess.run([sys.executable, "-m", "tests.bench.detector_child", name, str(devices), *further], cwd=ROOT,
                         env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"the process with the detector ended with {ran.returncode}: {ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
