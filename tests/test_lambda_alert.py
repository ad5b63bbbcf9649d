"""alert: one item per anomaly, whatever message brings it and how often; the receipt names the message."""
import json
from decimal import Decimal

import pytest

from contract import alerts
from tests.cloud_tables import alerted, dump, failures, items, published
from tests.messages import EXAMPLES, OUTBOX, SITE, T0_MS, anomaly, by_rule

pytestmark = pytest.mark.usefixtures("tables")


def body(*classified: alerts.Classified, device: str = "pi-1", site: str | None = SITE) -> str:
    return by_rule(alerts.seal(OUTBOX, device, list(classified))[1], site)


def receipt(*bodies: str) -> list[tuple[str, object]]:
    return [(f"edgecloud/receipts/{SITE}", {"v": 1, "ids": sorted(json.loads(one)["id"] for one in bodies)})]


def test_one_item_per_anomaly_and_a_receipt() -> None:
    text = by_rule((EXAMPLES / "alert_also.json").read_bytes())
    assert failures(alerted(text)) == []
    first, second = items("alerts")
    assert first == {
        "pk": f"{SITE}#pi-1", "sk": "a#01795330000000002", "site": SITE, "device": "pi-1", "number": 1795330000000002,
        "timestamp": Decimal("1795332240.2"), "at": T0_MS + 200, "received": T0_MS + 220, "field": "sensor2",
        "value": Decimal("1.9034"), "sensor2": Decimal("1.9034"), "score": Decimal("-0.61"),
        "message": json.loads(text)["id"], "expires_at": first["expires_at"], "day": "2026-11-22",
        "recent": f"{T0_MS + 220}#{SITE}#pi-1#01795330000000002"}
    assert (second["timestamp"], second["field"], second["value"], second["sensor2"]) == (
        "2026-11-22T07:24:00.3Z", "pressure", Decimal("23.5"), Decimal("0.4955"))
    assert published() == receipt(text)


def test_the_same_messages_again_change_nothing_and_bring_the_receipt_again() -> None:
    bodies = [body(*(anomaly(i, "1.7") for i in range(30))), body(anomaly(40, "2"), device="pi-2")]
    assert failures(alerted(*bodies)) == []
    before = dump("alerts")
    assert len(before) == 31 and published() == receipt(*bodies)
    assert failures(alerted(*bodies, *bodies)) == []
    assert dump("alerts") == before and published() == receipt(*bodies)


def test_an_anomaly_in_two_messages_is_one_item() -> None:
    assert failures(alerted(body(anomaly(1, "1.7")), body(anomaly(1, "1.7"), anomaly(2, "1.8")))) == []
    assert [item["number"] for item in items("alerts")] == [1, 2]


def test_what_was_classified_as_normal_is_receipted_but_not_stored() -> None:
    bodies = [body(anomaly(1, "0.5", anomaly=False)), body(anomaly(2, "0.5", anomaly=False), anomaly(3, "1.7"))]
    assert failures(alerted(*bodies)) == []
    assert [item["number"] for item in items("alerts")] == [3] and published() == receipt(*bodies)


def test_without_a_score() -> None:
    assert failures(alerted(body(anomaly(1, "1.7", score=None)))) == []
    assert "score" not in items("alerts")[0]


@pytest.mark.parametrize("bad", (
    "{", '{"timestamp":1,"sensor2":2,"anomaly":true}', body(anomaly(1, "1"), site=None),
    body(anomaly(1, "1")).replace('"pi-1"', '"pi/1"'), body(anomaly(1, "1")).replace('"field":"sensor2",', ""),
    body(anomaly(1, "1")).replace('"score":-0.61', '"score":1E+400')))
def test_a_bad_message_is_named_and_does_not_stop_the_others(bad: str) -> None:
    good = body(anomaly(5, "1.7"))
    assert failures(alerted(bad, good)) == ["m0"]
    assert [item["number"] for item in items("alerts")] == [5] and published() == receipt(good)


def test_what_closes_an_incident_is_receipted_and_only_the_anomaly_is_stored() -> None:
    text = by_rule((EXAMPLES / "alert_incident.json").read_bytes())
    assert failures(alerted(text)) == []
    assert [item["number"] for item in items("alerts")] == [1795330000000014] and published() == receipt(text)
