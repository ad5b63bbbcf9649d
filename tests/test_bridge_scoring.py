"""Scoring on a real outbox: order, batches, restarts, a detector that fails or is slow, and every classification."""
from pathlib import Path
from typing import Any

import pytest

from contract import alerts
from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import Verdict
from edge_bridge.rows import ANOMALY, UNCLASSIFIED
from tests.test_outbox import Parts


class Above:
    """A detector that calls everything above 10 an anomaly, and keeps what it was given."""

    seen: list[float]

    def __init__(self) -> None:
        self.seen = []

    def update(self, value: float, at_ms: int) -> Verdict:
        if value == 13:
            raise ArithmeticError("it cannot bear 13")
        self.seen.append(value)
        return Verdict(value > 10, -value)

    def state(self) -> str:
        return ",".join(str(value) for value in self.seen)

    def restore(self, state: str) -> None:
        self.seen = [float(value) for value in state.split(",") if value]


def scorer(parts: Parts, **options: Any) -> Scorer:
    chosen = {"fields": ("sensor2",), "alert_all": False, "raised": lambda: None, **options}
    return Scorer(parts.rows, Above, **chosen)


def marks(parts: Parts) -> list[str | None]:
    return [row.mark for row in parts.rows.read("readings", 0, 1 << 62, 100)]


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db", scoring=True)
    yield opened
    opened.store.close()


def test_rows_are_scored_in_order_and_marked_with_their_alerts(parts: Parts) -> None:
    raised: list[bool] = []
    one = scorer(parts, raised=lambda: raised.append(True))
    parts.commit(("a", 1), ("b", 20), ("a", 30))
    assert one.score_round() and not one.score_round()
    assert marks(parts) == [None, ANOMALY, ANOMALY] and raised == [True]
    assert one._detectors["a", "sensor2"].seen == [1, 30] and one._detectors["b", "sensor2"].seen == [20]
    parts.packer.seal_alerts(20)
    found = [alerts.read(parts.shipments.sealed(s)) for s in parts.shipments.all()]
    assert [(a.device, int(a.classified[0].value), a.classified[0].anomaly) for a in found] == [
        ("b", 20, True), ("a", 30, True)]


def test_every_classification_when_asked(parts: Parts) -> None:
    one = scorer(parts, alert_all=True)
    parts.commit(("a", 1), ("a", 20))
    one.score_round()
    assert [c.anomaly for _, _, c in parts.rows.waiting_alerts(10)] == [False, True]
    assert parts.counters.total("anomalies") == 1 and parts.rows.waiting("alerts") == 2


def test_a_restart_goes_on_with_the_state_of_the_last_committed_round(tmp_path: Path) -> None:
    first = Parts(tmp_path / "outbox.db", scoring=True)
    first.commit(("a", 1), ("a", 2))
    scorer(first).score_round()
    first.commit(("a", 3))
    first.store.close()
    second = Parts(tmp_path / "outbox.db", scoring=True)
    again = scorer(second)
    assert again.score_round()
    assert again._detectors["a", "sensor2"].seen == [1, 2, 3]
    second.store.close()


def test_a_failing_detector_lets_the_readings_go_on(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    one = scorer(parts)
    parts.commit(("a", 13), ("b", 20))
    one.score_round()
    parts.commit(("a", 13))
    one.score_round()
    parts.commit(("a", 30))
    one.score_round()
    assert marks(parts) == [UNCLASSIFIED, ANOMALY, UNCLASSIFIED, ANOMALY]
    assert sum(r.levelname == "ERROR" for r in caplog.records) == 1, "told once, not once per reading"
    parts.packer.seal_rows("backfill", everything=True)
    assert parts.counters.total("unclassified") == 2


def test_another_field_can_be_scored_and_may_be_absent(parts: Parts) -> None:
    one = scorer(parts, fields=("absent", "sensor1"))
    parts.commit(("a", 99))
    one.score_round()
    assert one._detectors["a", "sensor1"].seen == [20] and ("a", "absent") not in one._detectors
    [(_, _, classified)] = parts.rows.waiting_alerts(10)
    assert (classified.field, classified.value, classified.sensor2) == ("sensor1", 20, 99)
    parts.packer.seal_alerts(20)
    [shipment] = parts.shipments.all()
    assert alerts.read(parts.shipments.sealed(shipment)).classified[0].value == 20


def test_rounds_shrink_to_the_detectors_speed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scorer(parts)
    parts.commit(*[("a", 1)] * 16)
    one.score_round()
    assert one._per_round > 16
    clock = iter(range(100))
    monkeypatch.setattr("edge_bridge.anomaly.time.monotonic", lambda: float(next(clock)))
    parts.commit(("a", 1))
    one.score_round()
    assert one._per_round == 16


def test_the_thread_scores_what_is_committed_and_what_is_left_at_the_end(parts: Parts) -> None:
    one = scorer(parts)
    one.start()
    assert one.loaded.wait(5)
    parts.commit(("a", 1))
    one.wake()
    parts.commit(("a", 20))
    one.stop(5.0)
    assert marks(parts) == [None, ANOMALY] and parts.rows.unscored(10) == []


def test_rows_are_settled_when_their_marks_are_on_disk_and_not_before(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db", scoring=True)
    last_id = parts.commit(("a", 1), ("a", 9)) + 1
    settled: list[int] = []
    with parts.store.write() as db:
        db.set_trace_callback(lambda sql: settled.append(parts.rows.settled_to()) if sql == "COMMIT" else None)
    settled.clear()
    parts.rows.mark(last_id, {last_id: ANOMALY}, [], {})
    assert settled == [0] and parts.rows.settled_to() == last_id
    parts.store.close()
