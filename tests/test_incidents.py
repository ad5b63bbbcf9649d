"""Incidents: one opens, continues, is closed by quiet; over restarts and crashes; and as messages."""
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract import alerts, numbers
from contract.alerts import CLOSED, OPEN, OPENED, Classified
from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import SHIFT, SPIKE, Verdict
from edge_bridge.incidents import QUIET_MS, QUIET_READINGS, SILENT_MS, Incidents
from tests.outbox_rig import Parts

EXAMPLES = Path(__file__).parent.parent / "contract" / "examples"


def found(number: int, at_ms: int, value: str = "2.5", score: str | None = "-1.5", reason: str | None = SPIKE,
          band: tuple[str, str] | None = None, field: str = "sensor2") -> Classified:
    low, high = map(Decimal, band) if band else (None, None)
    return Classified(number, at_ms, Decimal(at_ms) / 1000, at_ms, field, Decimal(value), Decimal(value), True,
                      None if score is None else Decimal(score), low, high, reason, None)


def said(classified: Classified | dict[str, Any] | None) -> tuple[Any, ...]:
    incident = classified.incident if isinstance(classified, Classified) else classified
    assert incident is not None
    return incident["state"], incident["count"], incident["peak"], incident["reason"]


def test_one_opens_later_ones_continue_quiet_closes() -> None:
    device = Incidents("pi-1")
    assert device.normal(0) is None and not device.is_open
    first = device.anomaly(found(7, 1000))
    assert said(first) == (OPENED, 1, Decimal("2.5"), SPIKE) and first.incident["opened"] == 1000
    assert said(device.anomaly(found(8, 1100, "9", "-8", SHIFT))) == (OPEN, 2, Decimal("9"), SPIKE)
    last = device.anomaly(found(9, 1200, "3", "-2", SHIFT))
    assert said(last) == (OPEN, 3, Decimal("9"), SHIFT), "the farthest value, and what most of them were"
    assert last.incident["id"] == first.incident["id"] and last.incident["opened"] == 1000
    states = [device.normal(1200 + QUIET_MS * i // QUIET_READINGS) for i in range(1, QUIET_READINGS + 1)]
    assert states[:-1] == [None] * (QUIET_READINGS - 1) and said(states[-1]) == (CLOSED, 3, Decimal("9"), SHIFT)
    assert not device.is_open
    again = device.anomaly(found(900, 200_000))
    assert said(again)[:2] == (OPENED, 1) and again.incident["id"] != first.incident["id"]


def test_many_readings_in_a_moment_are_not_quiet_and_neither_are_few_in_an_hour() -> None:
    device = Incidents("pi-1")
    device.anomaly(found(1, 0))
    assert not any(device.normal(1000 + i) for i in range(1000))
    device = Incidents("pi-1")
    device.anomaly(found(1, 0))
    assert not any(device.normal(3_600_000 * i) for i in range(1, QUIET_READINGS))
    device.anomaly(found(2, 3_600_000 * 10))
    assert not device.normal(3_600_000 * 11), "the count of normal readings began anew"


def test_a_device_that_has_gone_is_given_up_after_a_day() -> None:
    device = Incidents("pi-1")
    device.anomaly(found(5, 1000))
    assert device.silent(1000 + SILENT_MS - 1) is None
    closed = device.silent(1000 + SILENT_MS)
    assert closed is not None and said(closed)[:2] == (CLOSED, 1) and (closed.number, closed.anomaly) == (5, False)
    assert device.silent(1 << 60) is None


def test_the_id_is_made_of_what_opened_it_and_of_nothing_else() -> None:
    ids = {Incidents("pi-1").anomaly(found(7, at_ms, value)).incident["id"] for at_ms, value in ((1, "2"), (2, "3"))}
    assert len(ids) == 1
    others = {Incidents(device).anomaly(found(number, 1)).incident["id"]
              for device, number in (("pi-2", 7), ("pi-1", 8))}
    assert len(others | ids) == 3 and all(len(one) == 24 for one in others)


def test_without_score_and_reason() -> None:
    device = Incidents("pi-1")
    device.anomaly(found(1, 0, "2.5", None, None))
    assert said(device.anomaly(found(2, 1, "9", None, None))) == (OPEN, 2, Decimal("2.5"), None)


@pytest.mark.parametrize("score", ["-1.5", None])
def test_a_restart_goes_on_with_the_open_incident(score: str | None) -> None:
    device = Incidents("pi-1")
    first = device.anomaly(found(7, 1000, score=score))
    device.normal(2000)
    again = Incidents("pi-1", device.state())
    assert again.state() == device.state()
    assert said(again.anomaly(found(8, 3000, "9", "-8"))) == said(device.anomaly(found(8, 3000, "9", "-8")))
    assert again.state() == device.state()
    for _ in range(QUIET_READINGS - 1):
        assert again.normal(4000) is None
    closed = again.normal(3000 + QUIET_MS)
    assert closed is not None and closed["id"] == first.incident["id"] and again.state() == ""


# --- the peak: the value that was farthest out

BAND = ("0.3", "0.7")


def peaks(*anomalies: Classified) -> list[str]:
    device = Incidents("pi-1")
    return [str(said(device.anomaly(one))[2]) for one in anomalies]


def test_the_peak_is_the_value_farthest_from_the_band_whatever_the_scores() -> None:
    """A detector scores by limits of the moment: the lowest score is not the farthest value."""
    assert peaks(found(1, 0, "1.99", "-4", band=("0.2", "0.8")), found(2, 1, "-0.8727", "-5.8", band=BAND)) == [
        "1.99", "1.99"]
    assert peaks(found(1, 0, "1.1", "-9", band=BAND), found(2, 1, "-0.5", "-1", band=BAND)) == ["1.1", "-0.5"]


def test_a_band_that_is_narrower_within_a_run_makes_no_nearer_value_the_peak() -> None:
    assert peaks(found(1, 0, "10", "-1.5", band=("-4", "4")), found(2, 1, "9", "-8", band=("-1", "1"))) == ["10", "10"]


def test_a_band_that_moves_counts_as_it_was_with_each_value() -> None:
    assert peaks(found(1, 0, "15", band=("5", "9")), found(2, 1, "20", band=("17", "19"))) == ["15", "15"]


@pytest.mark.parametrize("band", [None, BAND])
def test_without_a_band_at_either_of_two_the_lower_score_decides(band: tuple[str, str] | None) -> None:
    assert peaks(found(1, 0, "9", "-2", band=band), found(2, 1, "8", "-3"), found(3, 2, "7", "-2.5", band=band),
                 found(4, 3, "6", None)) == ["9", "8", "8", "8"]


def test_each_field_has_its_own_peak_and_the_one_of_the_last_anomaly_is_told() -> None:
    """400 kg are not farther out than 2 m/s."""
    weight = {"band": ("380", "420"), "field": "weight_kg"}
    assert peaks(found(1, 0, "2", band=BAND), found(2, 1, "500", "-9", **weight), found(3, 2, "1", band=BAND),
                 found(4, 3, "470", "-1", **weight)) == ["2", "500", "2", "500"]


def test_the_peak_is_remembered_with_its_distance() -> None:
    device = Incidents("pi-1")
    device.anomaly(found(1, 0, "1.99", "-4", band=("0.2", "0.8")))
    device.anomaly(found(2, 1, "0.9", "-1", band=BAND))
    again = Incidents("pi-1", device.state())
    assert said(again.anomaly(found(3, 2, "-0.8727", "-5.8", band=BAND)))[2] == Decimal("1.99")
    assert said(again.anomaly(found(4, 3, "-1.2", "-1", band=BAND)))[2] == Decimal("-1.2")


# As versions up to 0.1 wrote it: one peak with its score, for whatever fields.
EARLIER = ('{"field":"sensor2","number":7,"opened":1000,"count":2,"peak":-0.8727,"lowest":-5.8,"reasons":{"spike":2},'
           '"quiet":3,"last":[8,1100,1.1,1100,"sensor2",-0.8727,-0.8727,true,-5.8,0.289,0.691,"spike",null]}')


@pytest.mark.parametrize(("value", "score", "band", "peak"), [
    ("0.9", "-9", BAND, "-0.8727"), ("1.99", "-3", BAND, "1.99"), ("1.2", "-6", None, "1.2"),
    ("1.99", "-5", None, "-0.8727")])
def test_what_an_earlier_version_remembered_is_read(value: str, score: str, band: tuple[str, str] | None, peak: str,
                                                    ) -> None:
    device = Incidents("pi-1", EARLIER)
    again = device.anomaly(found(9, 2000, value, score, band=band))
    assert said(again) == (OPEN, 3, Decimal(peak), SPIKE) and again.incident["opened"] == 1000
    assert again.incident["id"] == Incidents("pi-1").anomaly(found(7, 1)).incident["id"]


def test_what_is_remembered_can_be_read_by_the_version_before() -> None:
    """An image may be set back to the one before: the names that it knows stay, with what they mean."""
    device = Incidents("pi-1")
    device.anomaly(found(7, 1000, "1.99", "-4", band=BAND))
    remembered = numbers.loads(device.state())
    assert (str(remembered["peak"]), remembered["lowest"]) == ("1.99", -4)
    assert set(numbers.loads(EARLIER)) <= set(remembered)


# --- with the outbox

class Above:
    """Calls everything above 10 an anomaly."""

    def update(self, value: float, at_ms: int) -> Verdict:
        return Verdict(value > 10, 10 - value, False, 0.0, 10.0, SPIKE if value > 10 else None)

    def state(self) -> str:
        return ""

    def restore(self, state: str) -> None:
        pass


class Site:
    """An outbox with a scorer; readings come at one a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self, now_s: float = 1_800_000_000.0) -> None:
        self.parts = Parts(self.path, scoring=True, now_s=now_s)
        self.scorer = Scorer(self.parts.rows, Above, fields=("sensor2",), alert_all=False, raised=lambda: None,
                             now_s=lambda: self.parts.now_s)

    def commit(self, *values: float, device: str = "a") -> None:
        for value in values:
            self.parts.now_s += 1
            self.parts.commit((device, value))

    def score(self) -> None:
        while self.scorer.score_round():
            pass
        self.scorer.close_silent()

    def told(self) -> list[tuple[bool, str, int]]:
        """(anomaly, incident's state, its count) of every alert that waits, in the order of the readings."""
        waiting = sorted((c for _, _, c in self.parts.rows.waiting_alerts(100)), key=lambda c: c.number)
        return [(c.anomaly, c.incident["state"], c.incident["count"]) for c in waiting]

    def ids(self) -> set[str]:
        return {c.incident["id"] for _, _, c in self.parts.rows.waiting_alerts(100)}


@pytest.fixture
def site(tmp_path: Path) -> Any:
    made = Site(tmp_path / "outbox.db")
    yield made
    made.parts.store.close()


def test_anomalies_carry_their_incident_and_quiet_sends_one_message(site: Site) -> None:
    site.commit(1, 20, 1, 30, *[1] * 70, 40)
    site.score()
    assert site.told() == [(True, OPENED, 1), (True, OPEN, 2), (False, CLOSED, 2), (True, OPENED, 1)]
    assert len(site.ids()) == 2
    assert site.parts.counters.total("anomalies") == 3 and site.parts.rows.waiting("alerts") == 4


def test_one_incident_for_a_device_whatever_fields_and_each_device_its_own(site: Site) -> None:
    site.commit(20)
    site.commit(20, device="b")
    site.score()
    assert site.told() == [(True, OPENED, 1)] * 2 and len(site.ids()) == 2


def test_a_restart_between_two_anomalies_is_the_same_incident(site: Site) -> None:
    site.commit(20)
    site.score()
    now_s = site.parts.now_s
    site.parts.store.close()
    site.start(now_s)
    site.commit(30, *[1] * 61)
    site.score()
    assert site.told() == [(True, OPENED, 1), (True, OPEN, 2), (False, CLOSED, 2)] and len(site.ids()) == 1


def test_a_crash_before_the_commit_gives_the_same_incident_the_same_id(site: Site, monkeypatch: pytest.MonkeyPatch,
                                                                      ) -> None:
    site.commit(20, 1)
    tried: list[str] = []

    def dies(last_id: int, marks: Any, told: Any, states: Any) -> int:
        tried.extend(classified.incident["id"] for _, _, classified in told)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(site.parts.rows, "mark", dies)
        site.scorer._score_all()
    assert site.told() == [] and len(tried) == 1
    site.scorer._score_all()
    assert site.told() == [(True, OPENED, 1)] and site.ids() == set(tried), "scored again, not counted again"


def test_a_device_that_goes_silent_is_closed_by_the_clock_once(site: Site) -> None:
    site.commit(20)
    site.score()
    site.parts.now_s += SILENT_MS / 1000
    site.score()
    site.score()
    assert sorted(site.told()) == [(False, CLOSED, 1), (True, OPENED, 1)]
    now_s = site.parts.now_s
    site.parts.store.close()
    site.start(now_s)
    site.score()
    assert len(site.told()) == 2


def test_closing_is_told_although_its_reading_was_sealed_meanwhile(site: Site) -> None:
    site.commit(20)
    site.score()
    site.commit(*[1] * 70)
    site.parts.now_s += 20
    assert site.parts.packer.seal_rows("backfill", everything=True)
    rows = site.parts.rows.read("readings", 0, 1 << 62, 100)
    assert rows == [], "all sealed, before they were scored"
    site.commit(*[1] * 70)
    site.score()
    assert site.told()[-1][:2] == (False, CLOSED)


def test_messages_are_sealed_and_read_again(site: Site) -> None:
    site.commit(20, *[1] * 70)
    site.score()
    site.parts.packer.seal_alerts(20)
    read = [c for s in site.parts.shipments.all() for c in alerts.read(site.parts.shipments.sealed(s)).classified]
    opened = next(c for c in read if c.anomaly)
    assert (opened.low, opened.high, opened.reason) == (Decimal("0"), Decimal("10"), SPIKE)
    assert {c.incident["state"] for c in read} == {OPENED, CLOSED}
    first = numbers.dumps(list(numbers.loads(site.parts.shipments.sealed(site.parts.shipments.all()[0]))))
    assert first.startswith('["timestamp","sensor2","anomaly"')


# --- the contract

def test_the_golden_message_says_the_same_today() -> None:
    message = alerts.read((EXAMPLES / "alert_incident.json").read_bytes())
    anomaly, closing = message.classified
    assert (anomaly.anomaly, anomaly.reason, anomaly.low, anomaly.incident["state"]) == (
        True, "spike", Decimal("0.298514"), OPEN)
    assert (closing.anomaly, closing.reason, closing.incident["state"]) == (False, None, CLOSED)
    assert anomaly.incident["id"] == closing.incident["id"] == alerts.incident(
        "pi-1", "sensor2", 1795330000000002, OPEN, 0, 0, 0, None)["id"]
    sealed = alerts.seal("0123456789abcdef01", "pi-1", message.classified)[1]
    assert sealed == (EXAMPLES / "alert_incident.json").read_bytes().strip()


@pytest.mark.parametrize("name", ["alert", "alert_also"])
def test_older_messages_are_read_and_say_no_more_than_they_did(name: str) -> None:
    for classified in alerts.read((EXAMPLES / f"{name}.json").read_bytes()).classified:
        assert classified.anomaly and (classified.low, classified.high, classified.reason, classified.incident) == (
            None, None, None, None)
