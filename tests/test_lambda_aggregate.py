"""aggregate: the readings table's stream becomes minute roll-ups; a record that comes again changes nothing."""
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import rollups
from contract.rollups import Total
from lambdas import table, table_rollups
from tests.client_faults import Intercepted, throttled
from tests.cloud_tables import ENGINE, aggregated, dump, failures, fresh_container, items, persisted, streamed
from tests.messages import SITE, T0_MS, by_rule, event, row, sealed
from tests.number_strategies import exact_numbers

MINUTE = 600  # rows of the helper `row` are 100 ms apart
pytestmark = pytest.mark.usefixtures("tables")


def readings(*numbers: int, device: str = "pi-1", **other: Any) -> str:
    return by_rule(sealed("readings", {device: [row(n, {"sensor2": f"{n % 10}.5"}, **other) for n in numbers]}))


def events(*rows: Any) -> str:
    return by_rule(sealed("events", {"camera-01": list(rows)}))


def minutes(device: str = "pi-1") -> dict[str, dict[str, Total]]:
    """{"07:24": {field: Total}} of a device."""
    return {item["sk"][13:18]: table_rollups.totals_of(item) for item in items("rollups")
            if item["pk"] == f"{SITE}#{device}"}


def test_count_sum_min_max_and_anomalies_per_minute_and_field() -> None:
    rows = [row(0, {"sensor1": "20.1", "sensor2": "0.5"}),
            row(1, {"sensor1": "19.9", "sensor2": "3.5"}, mark="anomaly"),
            row(MINUTE, {"sensor2": "-1"}, mark="unclassified")]
    assert failures(persisted(by_rule(sealed("readings", {"pi-1": rows})))) == []
    assert failures(aggregated()) == []
    assert minutes() == {
        "07:24": {"sensor1": Total(2, Decimal("40.0"), Decimal("19.9"), Decimal("20.1"), 1),
                  "sensor2": Total(2, Decimal("4.0"), Decimal("0.5"), Decimal("3.5"), 1)},
        "07:25": {"sensor2": Total(1, Decimal("-1"), Decimal("-1"), Decimal("-1"), 0)}}
    assert all("untrusted" not in item for item in items("rollups"))


def test_batches_of_one_minute_are_entries_side_by_side() -> None:
    persisted(readings(1, 2), readings(3), readings(4, device="pi-2"))
    assert failures(aggregated()) == []
    assert {device: minutes(device)["07:24"]["sensor2"].n for device in ("pi-1", "pi-2")} == {"pi-1": 3, "pi-2": 1}
    [item] = [item for item in items("rollups") if item["pk"] == f"{SITE}#pi-1"]
    assert set(item) - {"pk", "sk", "expires_at"} == {i["batch"] for i in items("readings") if i["device"] == "pi-1"}
    assert item["expires_at"] == T0_MS // 1000 + 36500 * 86400


def test_records_that_come_again_change_nothing() -> None:
    persisted(readings(1, 2, MINUTE), readings(3), events(event(1, 4), event(2, 0)))
    records = streamed()
    assert failures(aggregated(records)) == []
    before = dump("rollups")
    assert failures(aggregated(records + records)) == [] and dump("rollups") == before
    for record in reversed(records):
        assert failures(aggregated([record])) == []
    fresh_container()
    persisted(readings(1, 2, MINUTE), events(event(1, 4)))
    # A put that changes nothing is a record on moto alone; AWS's engine makes none of it.
    assert len(streamed()) - len(records) == (0 if ENGINE else 2)
    assert failures(aggregated()) == [] and dump("rollups") == before


def test_persons_and_any_other_number_of_an_event_are_counted() -> None:
    persisted(events(event(1, 4), event(2, 0), event(3, 2)._replace(values={"persons_detected": Decimal(2),
                                                                            "lux": Decimal("310.5")})))
    assert failures(aggregated()) == []
    assert minutes("camera-01") == {"07:24": {
        "persons_detected": Total(3, Decimal(6), Decimal(0), Decimal(4), 0),
        "lux": Total(1, Decimal("310.5"), Decimal("310.5"), Decimal("310.5"), 0)}}


def test_more_events_than_one_update_takes() -> None:
    persisted(events(*[event(i, 1) for i in range(250)]))
    assert failures(aggregated()) == []
    assert minutes("camera-01")["07:24"]["persons_detected"] == Total(250, 250, 1, 1, 0)


@pytest.mark.parametrize("at_ms", (T0_MS + 6 * 60_000, T0_MS - 8 * 24 * 3_600_000, 0))
def test_a_timestamp_that_cannot_be_trusted_counts_in_the_minute_of_receipt_flagged(at_ms: int) -> None:
    wrong = row(0, {"sensor2": 1}, timestamp=Decimal(at_ms) / 1000, at_ms=at_ms, received_ms=T0_MS + 20)
    persisted(by_rule(sealed("readings", {"pi-1": [wrong, row(1, {"sensor2": 2}), row(MINUTE, {"sensor2": 3})]})))
    assert failures(aggregated()) == []
    assert {sk: found["sensor2"].n for sk, found in minutes().items()} == {"07:24": 2, "07:25": 1}
    assert [item.get("untrusted") for item in items("rollups") if item["sk"].startswith("m#")] == [True, None]


def test_an_event_received_again_leaves_the_minute_that_it_was_counted_in() -> None:
    wrong = {"timestamp": 0, "at_ms": 0}
    persisted(events(event(1, 4, **wrong, received_ms=T0_MS), event(2, 1)))
    assert failures(aggregated()) == [] and minutes("camera-01")["07:24"]["persons_detected"].n == 2
    persisted(events(event(1, 4, **wrong, received_ms=T0_MS + 3 * 60_000)))
    for records in (streamed()[2:], streamed()):
        assert failures(aggregated(records)) == []
        assert {sk: found["persons_detected"].n for sk, found in minutes("camera-01").items()
                if found} == {"07:24": 1, "07:27": 1}


def test_devices_are_entered_once_with_their_kind() -> None:
    persisted(readings(1), readings(2), readings(3, device="pi-2"), events(event(1, 1)))
    fresh_container()  # aggregate's own
    writes, records = list[str](), streamed()
    Intercepted("dynamodb", lambda operation, request: writes.append(operation))
    assert failures(aggregated(records)) == [] == failures(aggregated(records))
    assert writes.count("batch_write_item") == 3
    fresh_container()
    assert [(item["sk"], item["kind"], item["site"], item["device"]) for item in items("rollups")
            if item["pk"] == "devices"] == [
        (f"events#{SITE}#camera-01", "events", SITE, "camera-01"),
        (f"readings#{SITE}#pi-1", "readings", SITE, "pi-1"), (f"readings#{SITE}#pi-2", "readings", SITE, "pi-2")]


def test_items_that_are_deleted_stay_counted() -> None:
    persisted(readings(1, 2))
    aggregated()
    before = dump("rollups")
    [item] = dump("readings")
    table.client("dynamodb").delete_item(TableName="readings", Key={"pk": item["pk"], "sk": item["sk"]})
    [removed] = [record for record in streamed() if record["eventName"] == "REMOVE"]
    assert failures(aggregated([removed])) == [] and dump("rollups") == before


def test_a_broken_item_is_named_by_its_sequence_number_and_does_not_stop_the_others() -> None:
    persisted(readings(1), readings(2, device="pi-2"), readings(3))
    records = streamed()
    records[1]["dynamodb"]["NewImage"]["series"] = {"S": "{}"}
    assert failures(aggregated(records)) == [records[1]["dynamodb"]["SequenceNumber"]]
    assert minutes()["07:24"]["sensor2"].n == 2 and minutes("pi-2") == {}


def test_an_update_that_is_refused_names_every_record_behind_it() -> None:
    persisted(readings(1), readings(2, device="pi-2"), readings(3))
    records = streamed()

    def refuse(operation: str, request: Any) -> None:
        if operation == "update_item" and request["Key"]["pk"]["S"].endswith("#pi-1"):
            raise throttled(operation)

    Intercepted("dynamodb", refuse)
    assert failures(aggregated(records)) == [records[i]["dynamodb"]["SequenceNumber"] for i in (0, 2)]
    fresh_container()
    assert minutes() == {} and minutes("pi-2")["07:24"]["sensor2"].n == 1
    assert failures(aggregated(records)) == [] and minutes()["07:24"]["sensor2"].n == 2


def test_a_sum_beyond_what_dynamodb_holds_is_kept() -> None:
    huge = Decimal("9E+125")
    persisted(by_rule(sealed("readings", {"pi-1": [row(i, {})._replace(values={"x": huge}) for i in range(2)]})))
    assert failures(aggregated()) == []
    assert minutes()["07:24"]["x"] == Total(2, Decimal("1.8E+126"), huge, huge, 0)
    [entry] = [value["M"]["x"]["L"] for item in dump("rollups") for value in item.values() if "M" in value]
    assert entry[1] == {"S": "1.8E+126"}  # DynamoDB itself refuses it as a number; moto would not


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 1200), exact_numbers), min_size=1, max_size=4), min_size=1,
                max_size=4))
def test_roll_ups_are_the_totals_of_all_rows_however_batched(batches: list[list[tuple[int, Decimal]]]) -> None:
    for name in ("readings", "rollups"):
        for item in dump(name):
            table.client("dynamodb").delete_item(TableName=name, Key={"pk": item["pk"], "sk": item["sk"]})
    since = len(streamed())
    rows = [[row(n, {})._replace(values={"x": value}, number=i) for i, (n, value) in enumerate(one)] for one in batches]
    bodies = {by_rule(sealed("readings", {"pi-1": one})) for one in rows}
    assert failures(persisted(*bodies)) == [] and failures(aggregated(streamed(since=since))) == []
    distinct = {str(one): one for one in rows}.values()
    whole = rollups.totals([one for some in distinct for one in some])
    got = {key: found["x"] for key, found in minutes().items()}
    assert {key: total._replace(sum=0) for key, total in got.items()} == {
        table_rollups.minute_text(minute)[11:16]: total._replace(sum=0) for (minute, _), total in whole.items()}
    for (minute, _), total in whole.items():
        most = max(abs(total.min), abs(total.max)) * total.n
        assert abs(got[table_rollups.minute_text(minute)[11:16]].sum - total.sum) <= most * Decimal("1E-32")
