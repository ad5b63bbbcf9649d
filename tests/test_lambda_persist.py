"""persist: batches from SQS become items, exactly and the same each time; then, and only then, the receipt goes out."""
import json
import os
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import batch, numbers
from lambdas import persist, table, table_delivery, table_items
from tests.client_faults import Intercepted, throttled
from tests.cloud_tables import dump, failures, fresh_container, items, persisted, published
from tests.messages import EXAMPLES, OUTBOX, SITE, T0_MS, by_rule, event, row, sealed, sqs
from tests.number_strategies import exact_numbers

RECEIPTS = f"edgecloud/receipts/{SITE}"
pytestmark = pytest.mark.usefixtures("tables")


def body(number: int = 1, site: str | None = SITE) -> str:
    return by_rule(sealed("readings", {"pi-1": [row(number, {"sensor1": "20.01", "sensor2": "0.5"})]}), site)


def ids(*bodies: str) -> list[str]:
    return sorted(json.loads(one)["id"] for one in bodies)


def test_one_item_per_device_and_batch_holds_every_row() -> None:
    rows = {"pi-1": [row(i, {"sensor1": "20.01", "sensor2": i}) for i in range(50)],
            "pi-2": [row(7, {"sensor2": "-1E-130"})]}
    text = by_rule(sealed("readings", rows))
    assert failures(persisted(text)) == []
    first, second = items("readings")
    assert (first["pk"], first["sk"]) == (f"{SITE}#pi-1", f"r#00000000000000000#{ids(text)[0]}")
    assert (second["pk"], second["sk"]) == (f"{SITE}#pi-2", f"r#00000000000000007#{ids(text)[0]}")
    assert first["n"] == 50 and first["received"] == T0_MS + 20 and first["batch"] == ids(text)[0]
    assert first["expires_at"] == T0_MS // 1000 + int(os.environ["RETENTION_DAYS"]) * 86400
    assert {item["device"]: table_items.rows_of(item) for item in (first, second)} == rows
    assert published() == [(RECEIPTS, {"v": 1, "ids": ids(text)})]


def test_one_item_per_event_and_it_names_no_batch() -> None:
    text = by_rule((EXAMPLES / "batch_events.json").read_bytes())
    assert failures(persisted(text)) == []
    stored = items("readings")
    assert [item["sk"] for item in stored] == [
        f"e#edge-data#0#{117 + i:020d}#{T0_MS + 1000 * i + 4}" for i in range(3)]
    assert stored[2] == {
        "pk": f"{SITE}#camera-01", "sk": stored[2]["sk"], "kind": "event", "site": SITE, "device": "camera-01",
        "event": batch.event_id("edge-data", 0, 119, T0_MS + 2004), "event_number": 1795330000000002,
        "received": T0_MS + 2035, "timestamp": "2026-11-22T07:24:02Z", "at": T0_MS + 2000,
        "values": {"persons_detected": 3}, "extra": '{"zone":"gate"}', "expires_at": stored[2]["expires_at"]}
    assert ids(text)[0] not in json.dumps(dump("readings"))


def test_an_event_delivered_by_two_batches_is_one_item() -> None:
    one, two = (by_rule(sealed("events", {"camera-01": [event(5, 2), event(n, 3)]})) for n in (6, 7))
    assert ids(one) != ids(two) and failures(persisted(one, two)) == []
    assert [item["values"] for item in items("readings")] == [{"persons_detected": n} for n in (2, 3, 3)]


def test_the_same_batches_again_change_nothing_and_bring_the_receipt_again() -> None:
    bodies = [body(1), body(2), by_rule(sealed("events", {"camera-01": [event(i, i) for i in range(60)]}))]
    assert failures(persisted(*bodies)) == []
    before, receipts = dump("readings"), published()
    assert len(before) == 62 and receipts == [(RECEIPTS, {"v": 1, "ids": ids(*bodies)})]
    assert failures(persisted(*bodies, *bodies)) == []
    assert dump("readings") == before and published() == receipts


def test_each_site_gets_its_own_receipt() -> None:
    north, south = body(1, "north"), body(1, "south")
    assert failures(persisted(north, south)) == []
    assert published() == [("edgecloud/receipts/north", {"v": 1, "ids": ids(north)}),
                           ("edgecloud/receipts/south", {"v": 1, "ids": ids(south)})]
    assert [item["pk"] for item in items("readings")] == ["north#pi-1", "south#pi-1"]


@pytest.mark.parametrize("bad", (
    "not json", "{}", body(9, site=None), body(9, site=""), body(9).replace('"v":1', '"v":99'),
    body(9).replace('"kind":"readings"', '"kind":"weather"'), body(9).replace('"kind":"readings"', '"kind":"events"'),
    body(9).replace('"device":"pi-1"', '"device":"a#b"'), body(9).replace('"values":', '"was":'),
    body(9).replace('"n":1', '"n":2'), body(9).replace(f'"id":"{ids(body(9))[0]}"', '"id":"expires_at"')))
def test_a_bad_batch_is_named_and_does_not_stop_the_others(bad: str) -> None:
    good = [body(1), body(2)]
    assert failures(persisted(good[0], bad, good[1])) == ["m1"]
    assert {item["number"] for item in items("readings")} == {1, 2}
    assert published() == [(RECEIPTS, {"v": 1, "ids": ids(*good)})]


def test_the_log_names_the_batch_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    bad = body(9).replace('"values":', '"was":')
    persisted(bad)
    assert [(r.levelname, r.batch, r.message_id) for r in caplog.records] == [("ERROR", ids(body(9))[0], "m0")]


def test_items_left_unprocessed_are_tried_again() -> None:
    asked: list[int] = []

    def half(operation: str, request: Any) -> Any:
        waiting = request["RequestItems"].get("readings", [])
        if not waiting:  # the list of devices
            return None
        asked.append(len(waiting))
        if len(waiting) == 1:
            return None
        table.client("dynamodb").batch_write_item(RequestItems={"readings": waiting[:len(waiting) // 2]})
        return {"UnprocessedItems": {"readings": waiting[len(waiting) // 2:]}}

    Intercepted("dynamodb", half)
    text = by_rule(sealed("events", {"camera-01": [event(i, i) for i in range(30)]}))
    assert failures(persisted(text)) == [] and asked == [25, 13, 7, 4, 2, 1, 5, 3, 2, 1]
    fresh_container()
    assert len(dump("readings")) == 30


def test_a_throttled_table_fails_the_records_and_sends_no_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PUT_ATTEMPTS", 2)
    Intercepted("dynamodb", lambda operation, request: {"UnprocessedItems": request["RequestItems"]})
    assert failures(persisted(body(1), body(2))) == ["m0", "m1"] and published() == []


class ShortOfTime:
    """Lambda's context, asked before each record and each chunk of items: it has time for so many of these steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def get_remaining_time_in_millis(self) -> int:
        self._steps -= 1
        return table_delivery.SPARE_MS if self._steps >= 0 else table_delivery.SPARE_MS - 1


def test_records_for_which_no_time_is_left_come_again_and_the_others_are_receipted() -> None:
    bodies = [body(n) for n in range(5)]
    assert failures(persist.handler(sqs(*bodies), ShortOfTime(4))) == ["m2", "m3", "m4"]
    assert published() == [(RECEIPTS, {"v": 1, "ids": ids(*bodies[:2])})] and len(dump("readings")) == 2


def test_a_batch_of_many_events_takes_no_time_from_the_receipts_of_the_others() -> None:
    """A full batch of events is hundreds of writes: one throttled partition must not cost the whole invocation."""
    bodies = [body(1), by_rule(sealed("events", {"camera-01": [event(i, i) for i in range(60)]})), body(2)]
    assert failures(persist.handler(sqs(*bodies), ShortOfTime(5))) == ["m1", "m2"]
    assert published() == [(RECEIPTS, {"v": 1, "ids": ids(bodies[0])})]
    assert len(dump("readings")) == 1 + 2 * table.PUT_CHUNK
    fresh_container()
    assert failures(persisted(*bodies)) == [] and len(dump("readings")) == 62


def test_one_refused_write_fails_its_record_alone() -> None:
    def refuse(operation: str, request: Any) -> None:
        if "r#00000000000000002" in str(request):
            raise throttled(operation)

    Intercepted("dynamodb", refuse)
    bodies = body(1), body(2), body(3)
    assert failures(persisted(*bodies)) == ["m1"]
    assert published() == [(RECEIPTS, {"v": 1, "ids": ids(bodies[0], bodies[2])})]


def test_a_receipt_that_does_not_go_out_brings_its_records_again() -> None:
    def refuse(operation: str, request: Any) -> None:
        if request["topic"].endswith("north"):
            raise throttled(operation)

    Intercepted("iot-data", refuse)
    bodies = body(1, "north"), body(1, "south"), body(2, "north")
    assert failures(persisted(*bodies)) == ["m0", "m2"]
    assert published() == [("edgecloud/receipts/south", {"v": 1, "ids": ids(bodies[1])})]
    fresh_container()
    before = dump("readings")
    assert failures(persisted(*bodies)) == [] and dump("readings") == before
    assert [topic for topic, _ in published()] == ["edgecloud/receipts/north", "edgecloud/receipts/south"]


def test_a_receipt_fits_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_delivery, "RECEIPT_IDS", 2)
    bodies = [body(n) for n in range(5)]
    assert failures(persisted(*bodies)) == []
    receipts = published()
    assert [len(receipt["ids"]) for _, receipt in receipts] == [2, 2, 1]
    assert sorted(i for _, receipt in receipts for i in receipt["ids"]) == ids(*bodies)
    monkeypatch.undo()
    assert len(numbers.dumps({"v": 1, "ids": ["f" * 24] * table_delivery.RECEIPT_IDS})) < batch.MAX_BYTES


def test_receipts_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIPTS", "off")
    assert failures(persisted(body())) == [] and published() == [] and len(dump("readings")) == 1


@pytest.mark.parametrize("text", ("x", "é", "\U0001f321", "\\"))
def test_the_largest_batch_fits_into_an_item(text: str) -> None:
    """128 KiB may be written in escapes of up to six bytes a letter when the rule has written it anew, unescaped."""
    overhead = len(sealed("readings", {"d" * 128: [row(1, {"sensor2": 1}, extra={"text": ""})]}))
    length = (batch.MAX_BYTES - overhead) // len(text.encode())
    noise = "".join(random.Random(1).choices((text, "a", "b", "c"), (7, 1, 1, 1), k=length))  # it is compressed
    series = batch.pack("d" * 128, [row(1, {"sensor2": 1}, extra={"text": ""})])
    raw = json.dumps({"v": 1, "id": "0" * 24, "outbox": OUTBOX, "kind": "readings", "site": "s" * 128,
                      "series": [{**json.loads(series), "extra": [[0, {"text": noise}]]}]}, ensure_ascii=False)
    assert failures(persisted(raw)) == []
    [item] = dump("readings")
    size_bytes = sum(len(key) + len(str(next(iter(value.values())))) for key, value in item.items())
    assert 5_000 < size_bytes < 400 * 1024
    assert table_items.rows_of(items("readings")[0])[0].extra == {"text": noise}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(("sensor1", "sensor2", "third", "ü", "N", "#", "a.b", "size")), exact_numbers,
                       min_size=1))
def test_every_number_is_stored_exactly(values: dict[str, Decimal]) -> None:
    plain = row(3, {})._replace(values={"persons_detected": Decimal(1), **values})
    bodies = (by_rule(sealed("readings", {"pi-1": [plain]})),
              by_rule(sealed("events", {"cam": [plain._replace(kafka=("t", 0, 1, 1))]})))
    assert failures(persisted(*bodies)) == []
    rows = {item.get("batch", "event"): table_items.rows_of(item)[0] for item in items("readings")}
    assert rows[ids(bodies[0])[0]] == plain
    assert rows["event"].values == plain.values


def test_ten_full_batches() -> None:
    rows = [row(i, {"sensor1": "20.01", "sensor2": "0.4987"}) for i in range(5000)]
    bodies = [by_rule(sealed("readings", {f"pi-{n}": rows})) for n in range(10)]
    assert failures(persisted(*bodies)) == []
    assert sum(item["n"] for item in items("readings")) == 50_000
