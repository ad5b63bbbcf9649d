"""hours: minutes become hours and days, put whole; late, repeated and simultaneous changes end with the same item."""
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import rollups
from contract.rollups import Total
from lambdas import hours, table, table_rollups
from tests.client_faults import Intercepted, throttled
from tests.cloud_tables import aggregated, dump, failures, fresh_container, items, persisted, streamed
from tests.messages import SITE, T0_MS, by_rule, event, row, sealed

PK = f"{SITE}#pi-1"
HOUR_MS = table_rollups.start_of("hour", T0_MS)
DAY_S = table.DAY_S
pytestmark = pytest.mark.usefixtures("tables")


def interrupted(operation: str, act: Callable[[], None]) -> None:
    """Let another do something just before each such call to DynamoDB."""
    Intercepted("dynamodb", lambda called, request: act() if called == operation else None)


def send(*at_s: float, value: int = 1, device: str = "pi-1", **other: Any) -> None:
    """Readings at these seconds after 07:24, persisted and in their minutes."""
    rows = [row(int(10 * s), {"sensor2": value}, **other) for s in at_s]
    assert failures(persisted(by_rule(sealed("readings", {device: rows})))) == []
    assert failures(aggregated()) == []


def hourly(records: list[dict[str, Any]] | None = None) -> list[str]:
    """Hand the roll-ups table's records to hours."""
    return failures(hours.handler({"Records": streamed("rollups") if records is None else records}, None))


def coarse(prefix: str, pk: str = PK) -> dict[str, Total]:
    """{"22T07:00Z": Total of sensor2} of the hours or days."""
    return {item["sk"][10:]: table_rollups.totals_of(item)["sensor2"] for item in items("rollups")
            if item["pk"] == pk and item["sk"].startswith(prefix)}


def test_hours_are_made_of_minutes_and_days_of_hours() -> None:
    send(0, 1, 60, value=2)
    send(3600, value=5)
    send(24 * 3600, value=-1)
    assert hourly() == []
    assert coarse("h#") == {"22T07:00Z": Total(3, Decimal(6), 2, 2, 0), "22T08:00Z": Total(1, Decimal(5), 5, 5, 0),
                            "23T07:00Z": Total(1, Decimal(-1), -1, -1, 0)}
    assert coarse("d#") == {"22": Total(4, Decimal(11), 2, 5, 0), "23": Total(1, Decimal(-1), -1, -1, 0)}
    [hour] = [item for item in items("rollups") if item["sk"] == "h#2026-11-22T07:00Z"]
    assert hour["expires_at"] == HOUR_MS // 1000 + 36500 * DAY_S and "untrusted" not in hour


def test_records_that_come_again_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    send(0, 60)
    assert hourly() == []
    before, writes = dump("rollups"), []
    interrupted("put_item", lambda: writes.append(1))
    assert hourly() == [] and hourly(streamed("rollups") * 2) == []
    fresh_container()
    assert writes == [] and dump("rollups") == before


def test_late_data_correct_the_minute_the_hour_and_the_day() -> None:
    send(0, 3600)
    assert hourly() == []
    six_days_ms = 6 * rollups.DAY_MS
    seen = len(streamed("rollups"))
    send(1, value=9, received_ms=T0_MS + six_days_ms)
    assert hourly(streamed("rollups", since=seen)) == []
    assert coarse("h#")["22T07:00Z"] == Total(2, Decimal(10), 1, 9, 0)
    assert coarse("d#") == {"22": Total(3, Decimal(11), 1, 9, 0)}


def test_an_untrusted_minute_shows_in_its_hour_and_day() -> None:
    send(0)
    send(60, timestamp=0, at_ms=0)
    send(3600)
    assert hourly() == []
    flagged = {item["sk"]: item.get("untrusted", False) for item in items("rollups") if item["sk"][0] in "hd"}
    assert flagged == {"h#2026-11-22T07:00Z": True, "h#2026-11-22T08:00Z": False, "d#2026-11-22": True}


def test_an_event_that_moves_to_another_hour_leaves_nothing_behind() -> None:
    wrong = {"timestamp": 0, "at_ms": 0}
    camera = f"{SITE}#camera-01"
    for received_ms in (T0_MS, T0_MS + 3_600_000):
        persisted(by_rule(sealed("events", {"camera-01": [event(1, 4, **wrong, received_ms=received_ms)]})))
        assert failures(aggregated()) == [] and hourly() == []
    keys = [item["sk"] for item in items("rollups") if item["pk"] == camera and item["sk"].startswith("h#")]
    assert keys == ["h#2026-11-22T08:00Z"]


def test_who_read_the_minutes_earlier_does_not_write_over_who_read_them_later() -> None:
    """Two invocations make one hour: the other sees a minute more, and ends first."""
    send(0)

    def another() -> None:
        if not others:
            others.append(1)
            send(60, value=7)
            assert hourly() == []

    others: list[int] = []
    for before in ("put_item", "query"):
        others.clear()
        records = streamed("rollups")
        interrupted(before, another)
        assert hourly(records) == [] and others == [1]
        fresh_container()
        assert coarse("h#") == {"22T07:00Z": Total(2, Decimal(8), 1, 7, 0)}
        assert coarse("d#") == {"22": Total(2, Decimal(8), 1, 7, 0)}
        for item in items("rollups"):
            if item["sk"][0] in "hd":
                table.client("dynamodb").delete_item(TableName="rollups", Key=table.to_attributes(
                    {"pk": item["pk"], "sk": item["sk"]}))


def test_an_hour_that_others_write_all_the_time_comes_again() -> None:
    send(0)
    records, turns = streamed("rollups"), iter(range(1, 10_000))

    def another() -> None:
        item = {"pk": PK, "sk": "h#2026-11-22T07:00Z", "fields": {"x": [next(turns), 1, 1, 1, 0]}}
        table.client("dynamodb").put_item(TableName="rollups", Item=table.to_attributes(item))

    interrupted("put_item", another)
    of_minutes = [r for r in records if r["dynamodb"]["Keys"]["sk"]["S"].startswith("m#")]
    assert hourly(records) == [r["dynamodb"]["SequenceNumber"] for r in of_minutes] != []
    fresh_container()
    assert hourly(records) == [] and coarse("h#") == {"22T07:00Z": Total(1, Decimal(1), 1, 1, 0)}


def test_a_refused_write_names_the_records_of_that_hour_alone() -> None:
    send(0, 3600)
    send(0, device="pi-2")

    def refuse() -> None:
        raise throttled("put_item")

    records = streamed("rollups")
    other = [r for r in records if r["dynamodb"]["Keys"]["pk"]["S"].endswith("#pi-2")]
    assert hourly(other) == []
    interrupted("put_item", refuse)
    assert hourly(records) == [r["dynamodb"]["SequenceNumber"] for r in records if r not in other
                               and r["dynamodb"]["Keys"]["sk"]["S"].startswith("m#")]
    fresh_container()
    assert hourly(records) == [] and set(coarse("h#")) == {"22T07:00Z", "22T08:00Z"}


def test_a_day_whose_writing_was_interrupted_is_made_although_its_hour_is_right() -> None:
    send(0)
    assert hours.make("hour", PK, HOUR_MS) and coarse("d#") == {}
    assert hourly() == [] and coarse("d#") == {"22": Total(1, Decimal(1), 1, 1, 0)}


def test_an_hour_whose_minutes_have_expired_only_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of it comes after months: the hour is no longer the sum of the minutes that are there."""
    monkeypatch.setenv("MINUTE_RETENTION_DAYS", "9")
    now_ms = int(time.time() * 1000)
    old_ms = now_ms - 20 * rollups.DAY_MS - now_ms % rollups.HOUR_MS
    kept = {"sensor2": [5, 10, 1, 3, 0]}
    key = {"pk": PK, "sk": table_rollups.key("hour", old_ms)}
    put = {"TableName": "rollups", "Item": table.to_attributes({**key, "fields": kept})}
    for n, left in ((3, 5), (5, 5), (6, 6)):
        table.client("dynamodb").put_item(**put)
        minute = {"pk": PK, "sk": table_rollups.key("minute", old_ms), "expires_at": now_ms // 1000 + 9 * DAY_S,
                  "a" * 24: table_rollups.entry({"sensor2": Total(n, Decimal(n), Decimal(1), Decimal(1), 0)})}
        table.client("dynamodb").put_item(TableName="rollups", Item=table.to_attributes(minute))
        assert hours.recompute([(PK, old_ms)]) == []
        assert [total.n for total in coarse("h#").values()] == [left]


def test_expired_minutes_that_dynamodb_has_not_deleted_yet_wake_nobody() -> None:
    send(0)
    assert hourly() == []
    before = dump("rollups")
    [minute] = [item for item in items("rollups") if item["sk"].startswith("m#")]
    table.client("dynamodb").delete_item(TableName="rollups", Key=table.to_attributes(
        {"pk": minute["pk"], "sk": minute["sk"]}))
    removed = [record for record in streamed("rollups") if record["eventName"] == "REMOVE"]
    assert len(removed) == 1 and hourly(removed) == []
    assert [item for item in before if item["sk"]["S"][0] != "m"] == dump("rollups")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 40 * 3600), st.integers(-9, 9)), min_size=1, max_size=8), st.randoms())
def test_hours_and_days_are_the_totals_of_their_readings_however_delivered(
        readings: list[tuple[int, int]], random: Any) -> None:
    for item in dump("rollups"):
        table.client("dynamodb").delete_item(TableName="rollups", Key={"pk": item["pk"], "sk": item["sk"]})
    since, base = len(streamed()), len(streamed("rollups"))
    rows = [row(10 * s, {"sensor2": value})._replace(number=i) for i, (s, value) in enumerate(readings)]
    for one in rows:
        persisted(by_rule(sealed("readings", {"pi-1": [one]})))
    assert failures(aggregated(streamed(since=since))) == []
    records = streamed("rollups", since=base)
    random.shuffle(records)
    cut = random.randint(0, len(records))
    assert hourly(records[:cut]) == [] and hourly(records) == []
    for prefix, length in (("h#", 13), ("d#", 10)):
        want: dict[str, int] = {}
        for one in rows:
            key = table_rollups.minute_text(one.at_ms)[:length]
            want[key] = want.get(key, 0) + int(one.values["sensor2"])
        got = {item["sk"][2:2 + length]: table_rollups.totals_of(item)["sensor2"].sum for item in items("rollups")
               if item["sk"].startswith(prefix)}
        assert got == want
