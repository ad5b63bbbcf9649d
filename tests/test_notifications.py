"""One notice an incident reaches a person: at least once, never none, in words; quiet hours hold it, not for ever."""
from decimal import Decimal

import pytest

from lambdas import alert_notices, alert_words, table, watch
from tests.client_faults import Killed, fail_once
from tests.cloud_tables import alerted, failures, fresh_container, items, notices, published
from tests.incidents_rig import CLOSED, LATER, OPENED, Clock, body, told
from tests.messages import SITE, T0_MS, anomaly

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def notice_of(number: int = 0) -> str | None:
    found: str | None = items("incidents")[number].get("notice")
    return found


# --- once

def test_one_notice_in_words() -> None:
    assert failures(alerted(body(OPENED))) == []
    (subject, text), = notices()
    assert subject == "[warning] pi-1 at EdgeCloudAWS: sensor2 = 1.2, normal 0.3 to 0.7"
    assert text.splitlines()[:7] == [
        "pi-1 at EdgeCloudAWS: sensor2 is not as it normally is (a reading far outside).", "",
        "  farthest out    1.2   (normal: 0.3 to 0.7)", "  anomalies       1 so far",
        "  began           2026-11-22 07:24:00 UTC", "  last one        2026-11-22 07:24:00 UTC",
        "  severity        warning"]
    assert f"  GET /sites/EdgeCloudAWS/devices/pi-1/readings?from={T0_MS // 1000 - 60}&to={T0_MS // 1000 + 240}" in text
    assert OPENED.incident["id"] in text
    assert failures(alerted(body(OPENED), body(LATER), body(CLOSED))) == [] and notices() == []


def test_an_incident_whose_opening_comes_late_is_told_of_too() -> None:
    assert failures(alerted(body(LATER), body(CLOSED), body(OPENED))) == []
    (subject, text), = notices()
    assert subject == "[warning] pi-1 at EdgeCloudAWS: sensor2 = 1.9, normal 0.3 to 0.7" and "anomalies       2" in text
    assert failures(alerted(body(told(900, "closed", 4, opened=800)))) == []
    (_, text), = notices()
    assert "over since" in text and "normal: not told" in text


def test_each_incident_has_its_own() -> None:
    alerted(body(OPENED), body(told(1, "opened", 1, device="pi-2"), device="pi-2"), body(OPENED, site="SiteB"))
    assert sorted(subject.split(":")[0] for subject, _ in notices()) == [
        "[warning] pi-1 at EdgeCloudAWS", "[warning] pi-1 at SiteB", "[warning] pi-2 at EdgeCloudAWS"]


def test_an_anomaly_without_an_incident_tells_nobody() -> None:
    assert failures(alerted(body(anomaly(1, "1.7")))) == [] and notices() == []


# --- at least once, never none

@pytest.mark.parametrize("later", ("the message again", "watch"))
def test_a_crash_between_publish_and_mark_tells_again(later: str, clock: Clock) -> None:
    clock.ms = LATER.received_ms
    fail_once("dynamodb", "update_item", Killed(), fits="':notice'")
    with pytest.raises(Killed):
        alerted(body(LATER))
    assert len(notices()) == 1 and notice_of() is None
    fresh_container()
    clock.ms += alert_notices.LEASE_MS + 1  # before, the queue does not show the message again
    if later == "watch":
        watch.handler({}, None)
    else:
        assert failures(alerted(body(LATER))) == []
    assert len(notices()) == 1 and notice_of() == "sent"
    assert failures(alerted(body(LATER))) == [] and notices() == []


def test_a_crash_before_publish_tells_later(clock: Clock) -> None:
    fail_once("sns", "publish", Killed())
    with pytest.raises(Killed):
        alerted(body(OPENED))
    fresh_container()
    assert notices() == []
    assert failures(alerted(body(OPENED))) == ["m0"]  # it may be on its way: come again and see
    clock.ms += alert_notices.LEASE_MS + 1
    assert failures(alerted(body(OPENED))) == [] and len(notices()) == 1


def test_a_topic_that_refuses_fails_the_message_after_its_receipt(clock: Clock) -> None:
    fail_once("sns", "publish", RuntimeError("AuthorizationError"), times=2)
    good = body(anomaly(1, "1.7"), device="pi-3")
    assert failures(alerted(body(OPENED), good)) == ["m0"]
    assert len(published()[0][1]["ids"]) == 2 and len(items("alerts")) == 2  # stored and receipted
    for waits in (True, False):
        clock.ms += alert_notices.LEASE_MS + 1
        assert failures(alerted(body(OPENED))) == (["m0"] if waits else [])
    assert len(notices()) == 1


def test_two_invocations_with_messages_of_one_incident_send_one(clock: Clock) -> None:
    alerted(body(OPENED))
    notices()
    stale = {key: value for key, value in items("incidents")[0].items() if key != "notice"}
    alert_notices.tell(stale)
    assert notices() == []
    table.client("dynamodb").update_item(
        TableName="incidents", Key=table.to_attributes({"pk": stale["pk"], "sk": stale["sk"]}),
        UpdateExpression="SET lease = :lease REMOVE notice",
        ExpressionAttributeValues=table.to_attributes({":lease": clock.ms + 1}))
    with pytest.raises(alert_notices.InHand, match="another invocation"):
        alert_notices.tell(stale)
    assert notices() == []


# --- severity and quiet hours

def test_below_the_least_severity_nobody_is_told_until_it_is_grave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIN_SEVERITY", "critical")
    alerted(body(OPENED), body(LATER))
    assert notices() == [] and notice_of() is None
    alerted(body(told(70, "open", 8, "4.4")))
    (subject, _), = notices()
    assert subject.startswith("[critical] pi-1") and notice_of() == "sent"


def test_quiet_hours_hold_and_one_summary_tells_all(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setenv("QUIET_HOURS", "22:00-06:30")
    clock.at("2026-11-22 23:10")
    alerted(body(OPENED), body(LATER), body(CLOSED), body(told(1, "opened", 1, device="pi-2"), device="pi-2"))
    assert notices() == [] and {item["notice"] for item in items("incidents") if "notice" in item} == {"held"}
    assert alert_notices.release(clock.ms) == 0 and notices() == []
    clock.at("2026-11-23 06:30")
    assert alert_notices.release(clock.ms) == 2
    (subject, text), = notices()
    assert subject == "[warning] 2 incidents in the quiet hours"
    assert "[warning] pi-1 at EdgeCloudAWS: sensor2 = 1.9, normal 0.3 to 0.7, 2 anomalies" in text
    assert "over since 2026-11-22 07:24:09 UTC" in text and "pi-2" in text and "still going on" in text
    assert {item["notice"] for item in items("incidents")} == {"sent"}  # and the rows of the held ones are gone
    assert alert_notices.release(clock.ms) == 0 and notices() == []
    assert failures(alerted(body(LATER), body(CLOSED))) == [] and notices() == []


def test_critical_breaks_through_and_what_was_held_may_become_so(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setenv("QUIET_HOURS", "22:00-06:30")
    clock.at("2026-11-22 02:00")
    alerted(body(OPENED))
    assert notices() == [] and notice_of() == "held"
    alerted(body(told(70, "open", 100)))
    (subject, _), = notices()
    assert subject.startswith("[critical] pi-1")
    clock.at("2026-11-22 07:00")
    assert alert_notices.release(clock.ms) == 0 and notices() == []
    assert [item["sk"][:2] for item in items("incidents")] == ["i#"]


def test_a_crash_between_the_summary_and_its_marks_tells_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setenv("QUIET_HOURS", "22:00-06:30")
    clock.at("2026-11-22 02:00")
    alerted(body(OPENED))
    clock.at("2026-11-22 06:31")
    fail_once("dynamodb", "update_item", Killed(), fits="':notice'")
    with pytest.raises(Killed):
        alert_notices.release(clock.ms)
    fresh_container()
    assert alert_notices.release(clock.ms) == 1 and len(notices()) == 2


@pytest.mark.parametrize(("hours", "zone", "at", "quiet"), (
    ("", "UTC", "2026-11-22 03:00", False), ("22:00-06:30", "UTC", "2026-11-22 22:00", True),
    ("22:00-06:30", "UTC", "2026-11-22 06:29", True), ("22:00-06:30", "UTC", "2026-11-22 06:30", False),
    ("22:00-06:30", "UTC", "2026-11-22 21:59", False), ("01:00-05:00", "UTC", "2026-11-22 03:00", True),
    ("01:00-05:00", "UTC", "2026-11-22 05:00", False),
    # Stockholm is one hour ahead of UTC in November, two in July.
    ("22:00-06:30", "Europe/Stockholm", "2026-11-22 21:30", True),
    ("22:00-06:30", "Europe/Stockholm", "2026-07-22 20:30", True),
    ("22:00-06:30", "Europe/Stockholm", "2026-11-22 20:30", False)))
def test_quiet_hours_by_the_users_clock(monkeypatch: pytest.MonkeyPatch, clock: Clock, hours: str, zone: str, at: str,
                                        quiet: bool) -> None:
    monkeypatch.setenv("QUIET_HOURS", hours)
    monkeypatch.setenv("TIME_ZONE", zone)
    clock.at(at)
    assert alert_notices.is_quiet(clock.ms) is quiet


def test_a_notice_tells_the_time_by_the_users_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIME_ZONE", "Europe/Stockholm")
    alerted(body(OPENED))
    assert "began           2026-11-22 08:24:00 CET" in notices()[0][1]


def test_an_unknown_zone_is_said_and_taken_as_utc(monkeypatch: pytest.MonkeyPatch, clock: Clock,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("QUIET_HOURS", "22:00-06:30")
    monkeypatch.setenv("TIME_ZONE", "Middle-earth/Shire")
    clock.at("2026-11-22 23:00")
    assert alert_notices.is_quiet(clock.ms) and "Middle-earth/Shire" in caplog.text
    monkeypatch.setenv("QUIET_HOURS", "late")
    with pytest.raises(ValueError, match="22:00-06:30"):
        alert_notices.is_quiet(clock.ms)


# --- words

@pytest.mark.parametrize("device", ("pi-1", "Küche Süd", "ab\u202eba", "x" * 128, "日本 1"))
def test_a_subject_is_what_sns_takes(device: str) -> None:
    assert failures(alerted(body(told(1, "opened", 1, device=device), device=device))) == []
    (subject, text), = notices()
    assert len(subject) < 100 and subject.isascii() and subject.isprintable() and device in text


def test_a_night_with_many_is_one_readable_notice() -> None:
    many = [{"site": SITE, "device": f"pi-{n}", "state": "open", "opened": T0_MS + n, "count": n, "field": "s",
             "peak": Decimal(2), "low": Decimal("0.3"), "high": Decimal("0.7"), "reason": None} for n in range(1, 81)]
    notice = alert_words.of_night(many, T0_MS)
    assert notice.subject == "[warning] 80 incidents in the quiet hours"
    assert notice.body.count("\n  [") == 50 and "and 30 more" in notice.body and len(notice.body) < 20_000


def test_a_night_of_two_utc_days_names_both() -> None:
    night = [{"site": SITE, "device": "pi-1", "state": "open", "opened": T0_MS + hours * 3_600_000, "count": 1,
              "peak": Decimal(2)} for hours in (0, 1, 17)]
    text = alert_words.of_night(night, T0_MS).body
    assert text.endswith("All of them: GET /incidents?day=2026-11-22, GET /incidents?day=2026-11-23")


@pytest.mark.parametrize(("number", "text"), (
    ("1.9034", "1.9034"), ("0.282800", "0.2828"), ("-0.7342", "-0.7342"), ("1013.2549999", "1013.25"), ("20.0", "20"),
    ("1E+3", "1000"), ("0", "0"), ("0.00000012", "1.2e-7"), ("123456789012", "1.23457e+11"), ("9E+125", "9e+125")))
def test_numbers_as_a_person_writes_them(number: str, text: str) -> None:
    assert failures(alerted(body(told(1, "opened", 1, number)))) == []
    assert f"sensor2 = {text}, normal 0.3 to 0.7" in notices()[0][0]


def test_attributes_for_subscribers_that_filter() -> None:
    alerted(body(OPENED))
    found = alert_words.of_incident(items("incidents")[0], T0_MS).attributes
    assert found == {"kind": "incident", "severity": "warning", "site": SITE, "device": "pi-1"}
