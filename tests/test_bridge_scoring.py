"""Scoring on a real outbox: order, batches, restarts, a detector that fails or is slow, and every classification."""
from pathlib import Path

import pytest

from contract import alerts, payloads
from contract.batch import ANOMALY, UNCLASSIFIED
from edge_bridge import detectors
from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import UNUSUAL, Verdict
from tests.outbox_rig import Parts
from tests.scoring_rig import Above, marks, scorer
from tests.scoring_rig import parts as parts


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


class Banded(Above):
    """Says what is normal from the second reading on; a stranger thing at 99."""

    def update(self, value: float, at_ms: int) -> Verdict:
        verdict = super().update(value, at_ms)
        return verdict._replace(**{1: {}, 99: {"low": 0.0, "high": float("inf")}}.get(
            int(value), {"low": value - 1 / 3, "high": value + 1}))


def test_the_newest_verdict_says_what_is_normal_also_where_nothing_is_an_anomaly(parts: Parts) -> None:
    one = Scorer(parts.rows, Banded, fields=("sensor2",), alert_all=False, raised=lambda: None)
    parts.commit(("a", 1), ("b", 2))
    one.score_round()
    assert one.normal() == {"b": {"sensor2": (1.66667, 3.0)}}, "nothing is said of what has no band yet"
    parts.commit(("a", 5), ("a", 4))
    one.score_round()
    first = one.normal()
    assert first["a"] == {"sensor2": (3.66667, 5.0)}
    for value in (13, 99, 1):  # the detector fails, tells what no number holds, knows no longer
        parts.commit(("a", 4), ("b", value))
        one.score_round()
        assert one.normal() == {"a": {"sensor2": (3.66667, 5.0)}, "b": {}}
    one.change_detector(Above)
    parts.commit(("a", 4))
    one.score_round()
    assert one.normal() == {} and first["a"] == {"sensor2": (3.66667, 5.0)}


def test_of_fields_judged_together_no_band_is_told(parts: Parts) -> None:
    one = Scorer(parts.rows, Banded, fields=("sensor1+sensor2", "sensor2"), alert_all=True, raised=lambda: None)
    parts.commit(*[("a", 5 + i * 37 % 100 / 100) for i in range(300)])
    while one.score_round():
        pass
    [*_, (_, _, classified)] = parts.rows.waiting_alerts(1000)
    assert classified.low is not None, "one reading's own band, by the other field of that reading"
    assert set(one.normal()["a"]) == {"sensor2"}


def test_a_detector_of_ones_own_is_named_by_module_and_class() -> None:
    assert detectors.factory("tests.scoring_rig:Above") is Above
    with pytest.raises(KeyError):
        detectors.factory("oracle")
    with pytest.raises(ImportError):
        detectors.factory("no_such_module:Above")
    with pytest.raises(AttributeError):
        detectors.factory("tests.scoring_rig:Between")


def test_an_alert_holds_no_number_that_the_cloud_could_not(parts: Parts) -> None:
    class Beyond(Above):
        def update(self, value: float, at_ms: int) -> Verdict:
            return Verdict(True, -1e300 if value else float("-inf"), False, -1e300, float("nan"), UNUSUAL)

    one = Scorer(parts.rows, Beyond, fields=("sensor2",), alert_all=False, raised=lambda: None)
    parts.commit(("a", 0), ("a", 1))
    one.score_round()
    for _, _, classified in parts.rows.waiting_alerts(10):
        assert (classified.score, classified.low, classified.high) == (-1_000_000, None, None)
