"""A process with a detector: what starting takes, how much memory it holds, and with many devices.

`python -m tests.bench.detector_child NAME DEVICES [uncompiled]`: NAME as in DETECTOR; uncompiled: as if numba were not
installed. Prints one line of JSON.
"""
import gc
import json
import sys
import time
import tracemalloc
from typing import Any

from edge_bridge.detectors import factory, judged
from tests.bench import load
from tests.bench.bridge_child import rss_mb

_READINGS, _SOME = 120, 2000


def measure(name: str, devices: int) -> dict[str, Any]:
    """start_s: until the first reading is judged; rss_mb: resident memory then; device_bytes: allocated for each of so
    many devices, without the models they share; per_s: one reading of each."""
    bare_mb, _ = rss_mb()
    started_s = time.perf_counter()
    make = factory(name)
    first = make()
    first.update(0.5, 0)
    found = {"start_s": time.perf_counter() - started_s, "bare_mb": bare_mb, "rss_mb": rss_mb()[0]}
    return {**found, **(_many(make, devices) if devices else {})}


def _many(make: Any, devices: int) -> dict[str, float]:
    values = [(float(load.expected(0, n)[1]["sensor2"]), n) for n in range(_READINGS)]
    from edge_bridge.detectors.seed import MODELS_KEPT

    first = make()
    judged(first, values)
    state = first.state()
    shared = [make() for _ in range(MODELS_KEPT)]
    for one in shared:  # what all share is full then
        one.restore(state)
        one.update(0.5, 0)
    gc.collect()
    tracemalloc.start()  # not resident memory: what compiling left free would be taken for nothing
    kept = [make() for _ in range(devices)]
    for one in kept:
        one.restore(state)
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    some = kept[:_SOME]
    started_s = time.perf_counter()
    for one in some:
        one.update(0.5, 0)
    return {"device_bytes": allocated / devices, "per_s": len(some) / (time.perf_counter() - started_s)}


if __name__ == "__main__":
    if sys.argv[3:] == ["uncompiled"]:
        sys.modules["numba"] = None  # type: ignore[assignment]  # an import of it fails
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
