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


def cloud(rows: list[batch.Row]) -> tuple[Made, Made, list[batch.Batch]]:
    """Items, roll-ups and archive that hold these rows as one batch."""
    series = batch.pack("pi-1", rows)
    batch_id, sealed = batch.seal_series("readings", "ob", [series])
    items = [{"kind": "readings", "device": "pi-1", "batch": batch_id, "series": series}]
    rollups = [{"pk": "s#pi-1", "sk": "m#2026", batch_id: {"sensor2": [Decimal(len(rows)), 0, 0, 0, 0]}}]
    return items, rollups, [batch.read(sealed)]


def test_all_there_is_whole() -> None:
    counts = reconcile.count_readings(made(1, 2, 3), *cloud([row(1), row(2), row(3)]))
    assert counts.whole
    assert vars(counts) == {"published": 3, "stored": 3, "in_rollups": 3, "archived": 3, "lost": 0, "duplicated": 0,
                            "misordered": 0}


@pytest.mark.parametrize(("rows", "wrong"), [
    ([row(1), row(3)], {"lost": 1, "stored": 2}),
    ([row(1), row(2), row(2), row(3)], {"duplicated": 1, "stored": 4}),
    ([row(1), row(2, value="0.50001"), row(3)], {"lost": 1, "duplicated": 1}),
    ([row(1), row(2, number=1009), row(3)], {"misordered": 1}),
])
def test_every_fault_of_the_table_is_seen(rows: list[batch.Row], wrong: dict[str, int]) -> None:
    counts = reconcile.count_readings(made(1, 2, 3), *cloud(rows))
    assert not counts.whole
    assert {name: getattr(counts, name) for name in wrong} == wrong


@pytest.mark.parametrize("damage", [
    lambda items, rollups, archive: rollups.clear(),
    lambda items, rollups, archive: archive.clear(),
    lambda items, rollups, archive: rollups.append({"sk": "m#2027", "other": {"sensor2": [1, 0, 0, 0, 0]}}),
])
def test_missing_or_surplus_rollups_and_archive_are_seen(damage: Callable[..., None]) -> None:
    held = cloud([row(1), row(2)])
    damage(*held)
    assert not reconcile.count_readings(made(1, 2), *held).whole


def event(number: int, second: int, persons: int) -> dict[str, Any]:
    return {"kind": "event", "device": "cam", "event_number": Decimal(number),
            "timestamp": f"2026-11-22T00:00:0{second}Z", "values": {"persons_detected": Decimal(persons)}}


def sent(*seconds: int) -> Made:
    return [{"device_id": "cam", "timestamp": f"2026-11-22T00:00:0{s}Z", "persons_detected": s} for s in seconds]


def events_archive(n: int) -> list[batch.Batch]:
    rows = [batch.Row(i, i, Decimal(i), i * 1000, None, None, {"persons_detected": Decimal(i)}, {}, None,
                      ("edge-data", 0, i, i)) for i in range(n)]
    _, sealed = batch.seal_series("events", "ob", [batch.pack("cam", rows)])
    return [batch.read(sealed)]


def test_events_lost_doubled_and_turned_round_are_seen() -> None:
    rollups = [{"sk": "m#2026", "e1": {"persons_detected": [2, 0, 0, 0, 0]}}]
    good = reconcile.count_events(sent(1, 2), [event(1, 1, 1), event(2, 2, 2)], rollups, events_archive(2))
    assert good.whole
    turned = reconcile.count_events(sent(1, 2), [event(2, 1, 1), event(1, 2, 2)], rollups, events_archive(2))
    assert (turned.misordered, turned.whole) == (1, False)
    lost = reconcile.count_events(sent(1, 2), [event(1, 1, 1)], rollups, events_archive(2))
    assert (lost.lost, lost.whole) == (1, False)
    doubled = reconcile.count_events(sent(1, 2), [event(1, 1, 1), event(2, 2, 2), event(3, 2, 2)], rollups,
                                     events_archive(2))
    assert (doubled.duplicated, doubled.whole) == (1, False)


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
