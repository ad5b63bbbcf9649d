"""The detector's and the scoring rows of the bench: what they count as done, and how the compiler is hidden."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_bridge import settings
from edge_bridge.counters import Counters
from edge_bridge.detectors.compiler import kernel
from edge_bridge.rows import Rows
from edge_bridge.store import Store
from tests.bench import detector, detector_child, ingest, load
from tests.bench.bridge_run import ROOT


def test_what_is_scored_is_read_from_the_outbox(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    assert ingest._scored(path) == 0, "no file yet"
    load.fill_outbox(path, 50)
    assert ingest._scored(path) == 50
    store = Store(str(path))
    try:
        rows = Rows(store, Counters(store), scoring=True)
        with store.write() as db:
            db.execute("UPDATE meta SET value = value - 20 WHERE name = 'scored_to'")
        assert ingest._scored(path) == 30
        rows.mark(rows.scored_to - 5, {}, [], {})
        assert ingest._scored(path) == 45
    finally:
        store.close()


def test_every_way_of_scoring_is_settings_that_the_bridge_takes() -> None:
    known = {setting.name for setting in settings.TABLE} | {"PYTHONPATH"}
    ways = ingest.scorings()
    assert all(way["SCORED_FIELDS"] == "sensor2" and set(way) <= known for way in ways.values())
    hidden = subprocess.run([sys.executable, "-c", "import numba"], cwd=ROOT, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": ways["seed, not compiled"]["PYTHONPATH"]})
    assert "hidden by the bench" in hidden.stderr


def test_ways_that_disagree_stop_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "naive", lambda contamination: lambda values: [True] * len(values))
    with pytest.raises(RuntimeError, match="labels of 'not compiled' are not scikit-learn's"):
        detector._speed(None, 30, 1)


def test_a_process_tells_what_its_detector_takes() -> None:
    found = detector_child.measure("seed", 20)
    assert found["start_s"] > 0 and found["rss_mb"] >= found["bare_mb"] > 5 and found["per_s"] > 0
    assert "device_bytes" in found


@pytest.mark.skipif(not kernel().compiled, reason="numba is not installed on this machine")
def test_with_a_compiler_both_ways_are_measured() -> None:
    assert list(ingest.scorings()) == ["seed, compiled", "default", "seed, not compiled"]
