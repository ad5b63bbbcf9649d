"""Incidents in the cloud: the bridge's newest word counts, whatever order it comes in and how often; silence closes."""
import itertools
import time
from decimal import Decimal
from typing import Any

import pytest

from contract import alerts, incidents, numbers
from lambdas import alert, alert_incidents, alert_notices, table
from tests.api_rig import get, pages
from tests.cloud_tables import alerted, dump, failures, items, notices
from tests.incidents_rig import CLOSED, LATER, OPENED, body, told
from tests.messages import EXAMPLES, SITE, T0_MS, anomaly, by_rule

ID = "8f84213c776f84d0fd1160a3"
QUARTER_MS = 15 * 60 * 1000
pytestmark = pytest.mark.usefixtures("tables")


def only() -> dict[str, Any]:
    found, = items("incidents")
    return found


def test_the_golden_message_as_it_is_stored() -> None:
    assert failures(alerted(by_rule((EXAMPLES / "alert_incident.json").read_bytes()))) == []
    assert only() == {
        "pk": f"{SITE}#pi-1", "sk": f"i#{ID}", "site": SITE, "device": "pi-1", "incident": ID, "state": "closed",
        "rank": 2 * 1795330000000614 + 1, "opened": 1795332240220, "closed": 1795332301420, "closed_by": "bridge",
        "count": 2, "peak": Decimal("2.0117"), "reason": "spike", "number": 1795330000000014, "seen": 1795332241420,
        "field": "sensor2", "value": Decimal("2.0117"), "low": Decimal("0.298514"), "high": Decimal("0.701102"),
        "score": Decimal("-6.558812"), "day": "2026-11-22", "recent": f"1795332240220#{SITE}#pi-1#{ID}",
        "expires_at": only()["expires_at"], "notice": "sent"}


@pytest.mark.parametrize("order", list(itertools.permutations((OPENED, LATER, CLOSED))))
def test_any_order_and_repeats_end_alike(order: tuple[alerts.Classified, ...]) -> None:
    for one in (*order, *order):
        assert failures(alerted(body(one))) == []
    found = only()
    assert (found["state"], found["count"], found["peak"]) == ("closed", 2, Decimal("1.9"))
    assert (found["number"], found["seen"], found["closed"]) == (5, LATER.received_ms, CLOSED.received_ms)
    before = dump("incidents")
    assert failures(alerted(body(OPENED, LATER, CLOSED), body(LATER))) == [] and dump("incidents") == before


def test_counts_are_set_never_added() -> None:
    assert failures(alerted(body(OPENED), body(told(9, "open", 40)), body(LATER))) == []
    assert only()["count"] == 40 and only()["number"] == 9


def test_two_sites_and_two_devices_have_incidents_of_their_own() -> None:
    other = told(1, "opened", 1, device="pi-2")
    assert failures(alerted(body(OPENED), body(OPENED, site="SiteB"), body(other, device="pi-2"))) == []
    assert sorted(item["pk"] for item in items("incidents")) == [f"{SITE}#pi-1", f"{SITE}#pi-2", "SiteB#pi-1"]


def test_an_anomaly_without_an_incident_is_none() -> None:
    assert failures(alerted(body(anomaly(1, "1.7")))) == [] and items("incidents") == []


@pytest.mark.parametrize("broken", (
    body(OPENED).replace('"state":"opened"', '"state":"ended"'), body(OPENED).replace('"count":1', '"count":"many"'),
    body(OPENED).replace('"peak":1.2', '"peak":1E+400'), body(OPENED._replace(received_ms=10 ** 20)),
    body(OPENED._replace(incident={**OPENED.incident, "opened": 10 ** 20})),
    body(OPENED).replace('"incident":{', '"incident":{"x":{},')
    .replace(f'"id":"{OPENED.incident["id"]}"', '"id":"#"')))
def test_a_broken_incident_fails_its_message_alone(broken: str) -> None:
    assert failures(alerted(broken, body(told(3, "open", 7)))) == ["m0"]
    assert only()["count"] == 7


# --- silence

def test_silence_closes_once_and_the_bridge_may_open_again() -> None:
    alerted(body(OPENED, LATER))
    item, = alert_incidents.open_ones()
    last_ms = LATER.received_ms
    assert not alert_incidents.close_silent(item, last_ms + QUARTER_MS - 1)
    assert alert_incidents.close_silent(item, last_ms + QUARTER_MS)
    assert (only()["state"], only()["closed_by"], only()["closed"]) == ("closed", "cloud", last_ms + QUARTER_MS)
    assert list(alert_incidents.open_ones()) == []
    before = dump("incidents")
    assert not alert_incidents.close_silent(item, last_ms + 2 * QUARTER_MS) and dump("incidents") == before
    alerted(body(LATER))  # a repeat does not open it, ...
    assert dump("incidents") == before
    alerted(body(told(400, "open", 3)))  # ... a later word does, ...
    assert only()["state"] == "open" and not {"closed", "closed_by"} & set(only())
    alerted(body(told(900, "closed", 3)))  # ... and the bridge's own end is the last
    assert (only()["state"], only()["closed_by"]) == ("closed", "bridge")


def test_what_the_bridge_says_meanwhile_keeps_it_open() -> None:
    alerted(body(OPENED))
    item, = alert_incidents.open_ones()
    alerted(body(LATER))
    assert not alert_incidents.close_silent(item, OPENED.received_ms + QUARTER_MS)
    assert only()["state"] == "open"


def test_an_incident_of_which_only_the_end_was_heard() -> None:
    assert failures(alerted(body(CLOSED))) == []
    assert only()["state"] == "closed" and "seen" not in only()


def test_a_rebuild_stores_the_same_and_tells_nobody() -> None:
    alerted(body(OPENED), body(LATER), body(CLOSED))
    before = dump("incidents")
    notices()
    for attributes in before:
        table.client("dynamodb").delete_item(TableName="incidents", Key={k: attributes[k] for k in ("pk", "sk")})
    for _ in range(2):
        for one in (LATER, OPENED, CLOSED):
            for news in alert.opened(body(one)).news:
                alert_notices.spare(alert_incidents.keep(news))
    assert dump("incidents") == before and notices() == []


# --- severity

@pytest.mark.parametrize(("count", "reason", "peak", "band", "severity"), (
    (1, "spike", "0.8", ("0.3", "0.7"), "info"), (2, "spike", "1.0", ("0.3", "0.7"), "info"),
    (1, "spike", "1.1", ("0.3", "0.7"), "warning"), (1, "spike", "-0.1", ("0.3", "0.7"), "warning"),
    (3, "spike", "0.8", ("0.3", "0.7"), "warning"), (1, "flat", "0.5", ("0.3", "0.7"), "warning"),
    (1, "spike", "900", ("0.3", "0.7"), "warning"), (3, "spike", "2.7", ("0.3", "0.7"), "critical"),
    (99, "shift", "0.8", ("0.3", "0.7"), "warning"), (100, "shift", "0.8", ("0.3", "0.7"), "critical"),
    (1, None, "5", None, "info"), (5, None, "5", None, "warning"), (3, "spike", "5", ("2", "2"), "warning")))
def test_severity(count: int, reason: str, peak: str, band: tuple[str, str] | None, severity: str) -> None:
    low, high = map(Decimal, band) if band else (None, None)
    assert incidents.severity(count, reason, Decimal(peak), low, high) == severity


def test_severities_have_an_order() -> None:
    assert [incidents.reaches(one, "warning") for one in incidents.SEVERITIES] == [False, True, True]


# --- GET /incidents

def day_before_ms() -> int:
    return int(time.time() * 1000) - 24 * 3600 * 1000


def test_the_answer_is_the_golden_one() -> None:
    alerted(by_rule((EXAMPLES / "alert_incident.json").read_bytes()))
    assert get("/incidents", day="2026-11-22") == numbers.loads((EXAMPLES / "api_incidents.json").read_bytes())


def test_the_api_lists_open_ones_first_then_the_days() -> None:
    several = [told(one, "open" if one in (2, 5) else "closed", one, opened=one) for one in (1, 2, 3, 4, 5)]
    alerted(*(body(one) for one in several))
    found = get("/incidents", day="2026-11-22")["incidents"]
    assert [(one["count"], one["state"]) for one in found] == [
        (5, "open"), (2, "open"), (4, "closed"), (3, "closed"), (1, "closed")]
    assert found[0] == {
        "incident": several[4].incident["id"], "severity": "warning", "site": SITE, "device": "pi-1", "state": "open",
        "opened": T0_MS + 520, "seen": T0_MS + 520, "count": 5, "peak": Decimal("1.9"), "field": "sensor2",
        "value": Decimal("1.9"), "low": Decimal("0.3"), "high": Decimal("0.7"), "score": Decimal("-0.61"),
        "reason": "spike", "notice": "sent"}
    assert [one["count"] for one in get("/incidents", day="2026-11-21")["incidents"]] == []
    of_two = pages("/incidents", day="2026-11-22", limit=2)
    assert [[one["count"] for one in page["incidents"]] for page in of_two] == [[5, 2], [4, 3], [1]]


def test_without_a_day_open_ones_of_any_day_are_there() -> None:
    old = told(1, "open", 1, opened=1)
    old = old._replace(incident={**old.incident, "opened": day_before_ms()})
    alerted(body(old))
    assert [one["count"] for one in get("/incidents")["incidents"]] == [1]
    assert get("/incidents", day=table.day_text(int(time.time() * 1000)))["incidents"] == []
    assert numbers.dumps(get("/incidents", day=table.day_text(day_before_ms()))["incidents"]) != "[]"
