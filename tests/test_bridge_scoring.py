"""Scoring on a real outbox: order, batches, restarts, a detector that fails or is slow, and every classification."""
from pathlib import Path
from typing import Any

import pytest

from contract import alerts, payloads
from edge_bridge import detectors
from edge_bridge.anomaly import Scorer
from edge_bridge.detector_states import LARGE_CHARS, MOST_SINCE, DetectorStates
from edge_bridge.detectors import UNUSUAL, Verdict
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
    detectors_of = one._judges._detectors
    assert detectors_of["a", "sensor2"].seen == [1, 30] and detectors_of["b", "sensor2"].seen == [20]
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
    assert again._judges._detectors["a", "sensor2"].seen == [1, 2, 3]
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
    assert one._judges._detectors["a", "sensor1"].seen == [20] and ("a", "absent") not in one._judges._detectors
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


def test_two_fields_are_judged_together_and_the_one_that_stands_out_is_named(parts: Parts) -> None:
    one = scorer(parts, fields=("sensor2", "sensor1+sensor2"))
    parts.commit(*[("a", 5 + i * 37 % 100 / 100) for i in range(300)])
    parts.commit(("a", 9.9))
    while one.score_round():
        pass
    [(_, _, classified)] = parts.rows.waiting_alerts(10)
    assert classified.field in ("sensor1", "sensor2") and classified.reason is not None
    assert classified.low is not None and classified.high is not None
    parts.commit(("a", 50))
    one.score_round()
    [_, (_, _, classified)] = parts.rows.waiting_alerts(10)
    assert (classified.field, classified.value) == ("sensor2", 50), "the field alone comes first"


def test_a_detector_gets_the_very_numbers_that_the_contract_reads(parts: Parts) -> None:
    one = scorer(parts)
    texts = ["0.1", "1e3", "-0.30000000000000004", "123456789012345678", "1E-30", "9.007199254740993e15"]
    for text in texts:
        parts.commit(("a", float(text)))
    with parts.store.write() as db:
        for row, text in zip(parts.rows.unscored(100), texts, strict=True):
            db.execute("UPDATE readings SET payload = ? WHERE id = ?",
                       (b'{"timestamp": "2026-11-22T07:24:00.3Z", "sensor2": %s}' % text.encode(), row.id))
    expected = [float(payloads.read(row.payload).values["sensor2"]) for row in parts.rows.unscored(100)]
    one.score_round()
    assert one._judges._detectors["a", "sensor2"].seen == expected


def test_rows_that_cannot_be_read_are_left_to_the_packer(parts: Parts) -> None:
    one = scorer(parts)
    parts.commit(("a", 20), ("a", 30), ("a", 40))
    first, second, _ = parts.rows.unscored(10)
    with parts.store.write() as db:
        db.execute("UPDATE readings SET payload = ? WHERE id = ?", (b"{", first.id))
        db.execute("UPDATE readings SET payload = ? WHERE id = ?",
                   (b'{"timestamp": 1, "sensor2": 30, "sensor1": "broken"}', second.id))
    one.score_round()
    assert [int(c.value) for _, _, c in parts.rows.waiting_alerts(10)] == [40]


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


class Below(Above):
    """Calls everything below 5 an anomaly."""

    def update(self, value: float, at_ms: int) -> Verdict:
        super().update(value, at_ms)
        return Verdict(value < 5, value)


def test_the_detector_is_changed_between_two_rounds(parts: Parts) -> None:
    one = scorer(parts)
    parts.commit(("a", 1), ("a", 20))
    one.score_round()
    one.change_detector(Below)
    parts.commit(("a", 1), ("a", 20))
    one.score_round()
    one.change_detector(Above)
    parts.commit(("a", 1), ("a", 20))
    one.score_round()
    assert marks(parts) == [None, ANOMALY, ANOMALY, None, None, ANOMALY]
    assert one._judges._detectors["a", "sensor2"].seen == [1, 20], "each begins anew where the state is another's"


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


def test_an_incident_gives_an_alert_its_reason_and_band(parts: Parts) -> None:
    one = Scorer(parts.rows, detectors.factory("forest"), fields=("sensor2",), alert_all=False, raised=lambda: None)
    parts.commit(*[("a", 0.5 + (i * 37 % 100 - 50) / 1000) for i in range(200)], ("a", 3))
    while one.score_round():
        pass
    parts.packer.seal_alerts(20)
    [shipment] = parts.shipments.all()
    [classified] = alerts.read(parts.shipments.sealed(shipment)).classified
    assert classified.anomaly and classified.reason in ("spike", UNUSUAL) and classified.low < 0.5 < classified.high < 3
    assert classified.incident["state"] == "opened" and classified.score < 0


def test_a_detector_of_ones_own_is_named_by_module_and_class() -> None:
    assert detectors.factory("tests.test_bridge_scoring:Above") is Above
    with pytest.raises(KeyError):
        detectors.factory("oracle")
    with pytest.raises(ImportError):
        detectors.factory("no_such_module:Above")
    with pytest.raises(AttributeError):
        detectors.factory("tests.test_bridge_scoring:Between")


def test_an_alert_holds_no_number_that_the_cloud_could_not(parts: Parts) -> None:
    class Beyond(Above):
        def update(self, value: float, at_ms: int) -> Verdict:
            return Verdict(True, -1e300 if value else float("-inf"), False, -1e300, float("nan"), UNUSUAL)

    one = Scorer(parts.rows, Beyond, fields=("sensor2",), alert_all=False, raised=lambda: None)
    parts.commit(("a", 0), ("a", 1))
    one.score_round()
    for _, _, classified in parts.rows.waiting_alerts(10):
        assert (classified.score, classified.low, classified.high) == (-1_000_000, None, None)
