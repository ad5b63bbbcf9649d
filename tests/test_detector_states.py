"""What of a detector is on disk: its state, or an older one and the readings since; what is another's is left aside."""
from pathlib import Path

import pytest

from edge_bridge import detectors
from edge_bridge.anomaly import Scorer
from edge_bridge.detector_states import LARGE_CHARS, MOST_SINCE, DetectorStates
from tests.outbox_rig import Parts
from tests.scoring_rig import Above


def test_another_detectors_state_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for make, value in ((detectors.factory("seed"), 0.5), (detectors.factory("forest"), 0.5), (Above, 20)):
        parts = Parts(tmp_path / "outbox.db", scoring=True)
        parts.commit(("a", value))
        one = Scorer(parts.rows, make, fields=("sensor2",), alert_all=False, raised=lambda: None)
        one.score_round()
        assert not one._judges._failing
        parts.store.close()
    assert sum("begins anew" in record.message for record in caplog.records) == 2


class Large(Above):
    """Its state is too large to be written with every round."""

    def state(self) -> str:
        return ",".join(str(value) for value in self.seen) + "," * LARGE_CHARS


def test_of_a_large_state_only_what_came_since_is_written(tmp_path: Path) -> None:
    written: list[int] = []
    stored: dict[tuple[str, str], str] = {}
    key, states, detector = ("a", "sensor2"), DetectorStates({}), Large()
    for i in range(3 * MOST_SINCE):
        detector.update(i % 10, i)
        news = states.to_write(key, detector, [(i % 10, i)])
        written.append(len(news.get(key, "")))
        stored.update(news)
        if i % 97 == 0:
            again = DetectorStates(stored).restored(key, Large)
            assert again.seen == detector.seen
            states = DetectorStates(stored)
            states.restored(key, Large)
    assert sum(size > LARGE_CHARS for size in written) <= 4 and len(detector.seen) == 3 * MOST_SINCE


@pytest.mark.parametrize("ends", ["it fails", "another is chosen"])
def test_what_came_since_dies_with_its_detector(ends: str) -> None:
    key, stored = ("a", "sensor2"), {}
    states, detector = DetectorStates({}), Large()
    for i in range(3):
        detector.update(i, i)
        stored.update(states.to_write(key, detector, [(i, i)]))
    if ends == "it fails":
        states.forget(key)
        new: Above = Large()
    else:
        states = DetectorStates(stored)
        new = states.restored(key, Above)
    new.update(7, 7)
    stored.update(states.to_write(key, new, [(7, 7)]))
    assert DetectorStates(stored).restored(key, type(new)).seen == [7]
