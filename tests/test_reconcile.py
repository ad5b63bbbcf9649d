"""The demo's verdict: it must see what is lost, doubled, changed or turned round, wherever it happens."""
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from contract import batch, numbers
from deploy import reconcile

Made = list[dict[str, Any]]


def row(seq: int, value: str = "0.5", mark: str | None = None, number: int | None = None) -> batch.Row:
    return batch.Row(1000 + seq if number is None else number, 1_700_000_000_000 + seq, Decimal(seq), seq * 1000, seq,
                     "sp", {"sensor2": Decimal(value)}, {}, mark, None)


def made(*seqs: int) -> Made:
    return [{"device": "pi-1", "seq": seq, "timestamp": seq, "values": {"sensor2": Decimal("0.5")}} for seq in seqs]


def rollup(device: str, field: str, *values: str, n: int | None = None) -> dict[str, Any]:
    """A minute item of 1970-01-01T00:00 with one batch's entry."""
    numbers_ = [Decimal(value) for value in values]
    entry = [Decimal(len(numbers_) if n is None else n), sum(numbers_), min(numbers_), max(numbers_), Decimal(0)]
    return {"pk": f"s#{device}", "sk": "m#1970-01-01T00:00Z", "b1": {field: entry}}


def cloud(rows: list[batch.Row]) -> tuple[Made, Made, list[batch.Batch]]:
    """Items, roll-ups and archive that hold these rows as one batch."""
    series = batch.pack("pi-1", rows)
    batch_id, sealed = batch.seal_series("readings", "ob", [series])
    items = [{"kind": "readings", "device": "pi-1", "batch": batch_id, "series": series}]
    minutes = [rollup("pi-1", "sensor2", *(str(row.values["sensor2"]) for row in rows))]
    return items, minutes, [batch.read(sealed)]


def test_all_there_is_whole() -> None:
    counts, wrong = reconcile.count_readings(made(1, 2, 3), *cloud([row(1), row(2), row(3)]))
    assert not wrong
    assert vars(counts) == {"published": 3, "stored": 3, "in_rollups": 3, "archived": 3, "lost": 0, "duplicated": 0,
                            "misordered": 0}


@pytest.mark.parametrize(("rows", "figures"), [
    ([row(1), row(3)], {"lost": 1, "stored": 2}),
    ([row(1), row(2), row(2), row(3)], {"duplicated": 1, "stored": 4}),
    ([row(1), row(2, value="0.50001"), row(3)], {"lost": 1, "duplicated": 1}),
    ([row(1), row(2)._replace(timestamp=Decimal("2.001"), at_ms=2001), row(3)], {"lost": 1, "duplicated": 1}),
    ([row(1), row(2, number=1009), row(3)], {"misordered": 1}),
])
def test_every_fault_of_the_table_is_seen(rows: list[batch.Row], figures: dict[str, int]) -> None:
    counts, wrong = reconcile.count_readings(made(1, 2, 3), *cloud(rows))
    assert wrong
    assert {name: getattr(counts, name) for name in figures} == figures


@pytest.mark.parametrize(("damage", "what"), [
    (lambda items, minutes, archive: minutes.clear(), "roll-ups"),
    (lambda items, minutes, archive: minutes.append(rollup("pi-1", "sensor2", "0.5")), "roll-ups"),
    (lambda items, minutes, archive: minutes[0]["b1"]["sensor2"].__setitem__(1, Decimal("1.1")), "roll-ups"),
    (lambda items, minutes, archive: minutes[0]["b1"]["sensor2"].__setitem__(3, Decimal("0.6")), "roll-ups"),
    (lambda items, minutes, archive: archive.clear(), "archive"),
    (lambda items, minutes, archive: archive.__setitem__(0, cloud([row(1), row(2, value="0.4")])[2][0]), "archive"),
])
def test_damaged_rollups_and_archive_are_seen(damage: Callable[..., None], what: str) -> None:
    held = cloud([row(1), row(2)])
    damage(*held)
    assert reconcile.count_readings(made(1, 2), *held)[1] == [what]


def test_an_archive_object_delivered_twice_is_no_fault() -> None:
    items, minutes, archive = cloud([row(1), row(2)])
    assert reconcile.count_readings(made(1, 2), items, minutes, archive * 2)[1] == []


def test_other_devices_are_not_counted_and_nothing_is_not_whole() -> None:
    items, minutes, archive = cloud([row(1)])
    assert reconcile.count_readings(made(1), items, [*minutes, rollup("other", "sensor2", "1")], archive)[1] == []
    assert reconcile.count_readings([], [], [], [])[1] == ["nothing was published"]


def event(number: int, second: int, persons: int) -> dict[str, Any]:
    return {"kind": "event", "device": "cam", "event_number": Decimal(number),
            "timestamp": f"1970-01-01T00:00:0{second}Z", "values": {"persons_detected": Decimal(persons)}}


def sent(*seconds: int) -> Made:
    return [{"device_id": "cam", "timestamp": f"1970-01-01T00:00:0{s}Z", "persons_detected": s} for s in seconds]


def events_archive(*seconds: int) -> list[batch.Batch]:
    rows = [batch.Row(s, s, f"1970-01-01T00:00:0{s}Z", s * 1000, None, None, {"persons_detected": Decimal(s)}, {}, None,
                      ("edge-data", 0, s, s)) for s in seconds]
    _, sealed = batch.seal_series("events", "ob", [batch.pack("cam", rows)])
    return [batch.read(sealed)]


@pytest.mark.parametrize(("events", "figures"), [
    ([event(1, 1, 1), event(2, 2, 2)], {"misordered": 0, "lost": 0, "duplicated": 0}),
    ([event(2, 1, 1), event(1, 2, 2)], {"misordered": 1}),
    ([event(1, 1, 1)], {"lost": 1}),
    ([event(1, 1, 1), event(2, 2, 2), event(3, 2, 2)], {"duplicated": 1}),
])
def test_events_lost_doubled_and_turned_round_are_seen(events: Made, figures: dict[str, int]) -> None:
    counts, wrong = reconcile.count_events(
        sent(1, 2), events, [rollup("cam", "persons_detected", "1", "2")], events_archive(1, 2))
    assert {name: getattr(counts, name) for name in figures} == figures
    assert bool(wrong) == any(figures.values())


def test_an_alert_without_its_reading_or_the_other_way_round_is_seen() -> None:
    items, _, _ = cloud([row(1), row(2, mark="anomaly")])
    alert = {"device": "pi-1", "number": Decimal(1002)}
    counts, agree = reconcile.count_alerts(items, [alert, alert])
    assert (counts.raised, counts.stored, agree) == (1, 1, True)
    assert reconcile.count_alerts(items, [])[1] is False
    assert reconcile.count_alerts(items, [{"device": "pi-1", "number": Decimal(1001)}])[1] is False


def test_records_keep_numbers_exact(tmp_path: Any) -> None:
    path = tmp_path / "pi-1.jsonl"
    path.write_text('{"device": "pi-1", "seq": 1, "values": {"sensor2": 0.30000000000000004}}\n')
    (record,) = reconcile.recorded([path, tmp_path / "absent.jsonl"])
    assert numbers.dumps(record["values"]) == '{"sensor2":0.30000000000000004}'
