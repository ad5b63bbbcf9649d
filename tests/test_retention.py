"""Limits of the outbox: stop or drop in order, oldest first, every drop counted; and what is not dropped."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.batch import ANOMALY
from edge_bridge.retention import SIZE
from edge_bridge.rows import EVERY_ID
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, OFFERED_S
from tests.bridge_rig import until
from tests.outbox_rig import Parts, classified
from tests.retention_rig import DAY_S, MB, fill, retention, send, started


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    opened = Parts(tmp_path / "outbox.db", scoring=True)
    yield opened
    opened.store.close()


def test_stop_acknowledges_nothing_until_there_is_room_and_drops_nothing(parts: Parts, caplog: Any) -> None:
    caplog.set_level("INFO")
    committed = fill(parts, 2 * MB)
    limits = retention(parts, 2 * MB, drop=False)
    bridge, inbox, source = started(parts, limits.full)
    try:
        send(inbox, source, 5)
        until(lambda: "nothing is acknowledged" in caplog.text, "the bridge to say so")
        limits.keep_up()
        assert source.acknowledged == [] and parts.rows.waiting("readings") == committed
        parts.now_s += 11
        parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
        while parts.packer.seal_rows(BACKFILL, everything=True):
            parts.shipments.delivered([s.name for s in parts.shipments.all()])
        until(lambda: len(source.acknowledged) == 5, "the room to be used")
        assert caplog.text.count("nothing is acknowledged") == 1 and "alarm outbox_full is over" in caplog.text
        assert parts.counters.total("dropped.size") == 0
    finally:
        bridge.stop(5)


def test_a_full_outbox_with_nothing_to_deliver_still_takes_readings(parts: Parts) -> None:
    assert not retention(parts, 1, drop=False).full()


def test_the_oldest_backfill_goes_first_and_alerts_last(parts: Parts) -> None:
    parts.commit(("a", 0))
    [row] = parts.rows.unscored(1)
    parts.rows.mark(row.id, {row.id: ANOMALY}, [(row.id, "a", classified(row))], {})
    parts.packer.seal_alerts(1)
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.live.connected(True)
    parts.commit(("a", 1))
    parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
    parts.packer.seal_rows(LIVE, everything=True)
    parts.live.connected(False)
    parts.commit(("a", 2), ("b", 3))
    parts.live.connected(True)
    parts.commit(("a", 4))
    limits = retention(parts)

    def held() -> tuple[list[str], int]:
        return [s.lane for s in parts.shipments.all()], len(parts.rows.read("readings", 0, EVERY_ID, 100))

    steps = [held()]
    while limits._drop_some(None, SIZE):
        steps.append(held())
    assert steps == [([ALERTS, BACKFILL, LIVE], 3), ([ALERTS, BACKFILL, LIVE], 1), ([ALERTS, LIVE], 1), ([ALERTS], 1),
                     ([ALERTS], 0), ([], 0)]
    assert parts.counters.by_device()["a"]["dropped.size"] == 4 and parts.counters.value("b", "dropped.size") == 1
    assert parts.counters.value("a", "alerts_dropped.size") == 1
    assert parts.store.witness.now.rows == parts.store.witness.now.gone == 5


def test_dropping_keeps_the_outbox_below_its_limit_and_says_so_once(parts: Parts, caplog: Any) -> None:
    limits = retention(parts, 3 * MB)
    committed = 0
    for _ in range(4):
        committed += fill(parts, limits.used_bytes() + MB)
        limits.keep_up()
        assert limits.used_bytes() < 3 * MB and not limits.full()
    dropped = parts.counters.total("dropped.size")
    rows = parts.rows.read("readings", 0, EVERY_ID, 1 << 30)
    assert dropped > 0 and len(rows) + dropped == committed == parts.rows.waiting("readings") + dropped
    assert caplog.text.count("are dropped") == 1
    device = [row.number for row in rows if row.device == "d0"]
    assert device == list(range(device[0], device[0] + len(device))), "the newest are kept, without a gap"


def test_age_drops_what_is_too_old_but_not_what_a_clock_at_1970_stamped(parts: Parts) -> None:
    now_s = parts.now_s
    parts.commit(("a", 0))
    parts.now_s = now_s + 2 * DAY_S
    parts.commit(("a", 1))
    retention(parts, age_s=DAY_S).keep_up()
    assert [row.received_ms for row in parts.rows.read("readings", 0, EVERY_ID, 9)] == [(now_s + 2 * DAY_S) * 1000]
    assert parts.counters.value("a", "dropped.age") == 1
    parts.now_s = 100.0
    parts.commit(("b", 2))
    parts.rows.drop("readings", parts.outbox.next_id - 1, None, 10, SIZE)
    parts.now_s = now_s + 3 * DAY_S
    retention(parts, age_s=DAY_S).keep_up()
    assert len(parts.rows.read("readings", 0, EVERY_ID, 9)) == 1
    stopping = retention(parts, age_s=DAY_S, drop=False)
    stopping.keep_up()
    assert not stopping.full()


def test_age_with_stop_acknowledges_nothing(parts: Parts) -> None:
    parts.commit(("a", 0))
    limits = retention(parts, age_s=DAY_S, drop=False)
    limits.keep_up()
    assert not limits.full()
    parts.now_s += DAY_S + 1
    limits.keep_up()
    assert limits.full() and parts.counters.total("dropped.age") == 0


def test_what_is_on_its_way_out_is_not_dropped_and_what_was_dropped_is_not_sealed(tmp_path: Path) -> None:
    clock_s = [1000.0]
    parts = Parts(tmp_path / "outbox.db", clock=lambda: clock_s[0])
    parts.commit(("a", 1))
    parts.packer.seal_rows(BACKFILL, everything=True)
    assert parts.shipments.due(BACKFILL)
    assert parts.shipments.drop(BACKFILL, None, 9, SIZE) == 0
    clock_s[0] += OFFERED_S + 1
    parts.shipments.all()[0].state = "in flight"
    assert parts.shipments.drop(BACKFILL, None, 9, SIZE) == 0
    parts.commit(("a", 2), ("a", 3))
    rows = parts.rows.read("readings", 0, EVERY_ID, 9)
    parts.rows.drop("readings", rows[0].id + 1, None, 1, SIZE)
    assert parts.shipments.seal("x", b"x", route="readings", lane=BACKFILL, counts={"a": 2}, oldest_ms=1,
                                row_ids=[row.id for row in rows]) is None
    assert parts.rows.waiting("readings") == 1 and parts.shipments.get("x") is None
    parts.rows.dead_letter("readings", rows[0], "late", "")
    assert parts.counters.total("dead_lettered") == 0
    parts.store.close()
