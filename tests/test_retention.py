"""Limits of the outbox: stop or drop in order, every drop counted; failing disks; a file that shrinks; odd clocks."""
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import batch, topics
from edge_bridge.anomaly import Scorer
from edge_bridge.bridge import Bridge
from edge_bridge.inbox import Inbox, Message
from edge_bridge.loopback import LoopbackConnection
from edge_bridge.outbox import Outbox
from edge_bridge.retention import AGE, SIZE, Limits, Retention
from edge_bridge.rows import ANOMALY
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, OFFERED_S
from edge_bridge.upkeep import SLACK_PAGES, Shrinker, Upkeep
from edge_bridge.uplink import Options, Uplink
from tests.bridge_rig import until
from tests.test_outbox import Parts, classified

MB = 1024 * 1024
DAY_S = 86_400.0


class Source:
    """A source of readings that notes what was acknowledged."""

    route, required = "readings", "sensor2"

    def __init__(self) -> None:
        self.acknowledged: list[Message] = []

    def acknowledge(self, messages: list[Message]) -> None:
        self.acknowledged += messages


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db", scoring=True)
    yield opened
    opened.store.close()


def retention(parts: Parts, size_bytes: int = 64 * MB, age_s: float = 30 * DAY_S, drop: bool = True) -> Retention:
    return Retention(parts.store, parts.rows, parts.shipments, parts.live, Limits(size_bytes, age_s, drop),
                     now_s=lambda: parts.now_s)


def fill(parts: Parts, size_bytes: int) -> int:
    """Commit readings until the outbox takes up so much; how many."""
    measure, count = retention(parts), 0
    while measure.used_bytes() < size_bytes:
        parts.commit(*[(f"d{i % 2}", i) for i in range(500)], extra="x" * 100)
        count += 500
    return count


def started(parts: Parts, full: Callable[[], bool]) -> tuple[Bridge, Inbox, Source]:
    inbox, source = Inbox(), Source()
    bridge = Bridge(inbox, parts.outbox, None, topic=topics.SENSOR_DATA, device_id="sensor",
                    committed=lambda first_id: None, full=full)
    bridge.start()
    return bridge, inbox, source


def send(inbox: Inbox, source: Source, n: int, **more: Any) -> None:
    for seq in range(n):
        inbox.put(source, (topics.SENSOR_DATA,), json.dumps(  # type: ignore[arg-type]
            {"timestamp": 1_800_000_000.5, "sensor2": 1, "seq": seq, **more}).encode(), 1, 0)


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
        return [s.lane for s in parts.shipments.all()], len(parts.rows.read("readings", 0, 1 << 62, 100))

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
    rows = parts.rows.read("readings", 0, 1 << 62, 1 << 30)
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
    assert [row.received_ms for row in parts.rows.read("readings", 0, 1 << 62, 9)] == [(now_s + 2 * DAY_S) * 1000]
    assert parts.counters.value("a", "dropped.age") == 1
    parts.now_s = 100.0
    parts.commit(("b", 2))
    parts.rows.drop("readings", parts.outbox.next_id - 1, None, 10, SIZE)
    parts.now_s = now_s + 3 * DAY_S
    retention(parts, age_s=DAY_S).keep_up()
    assert len(parts.rows.read("readings", 0, 1 << 62, 9)) == 1
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
    parts = Parts(tmp_path / "outbox.db")
    clock_s = [1000.0]
    parts.shipments._clock = lambda: clock_s[0]
    parts.commit(("a", 1))
    parts.packer.seal_rows(BACKFILL, everything=True)
    assert parts.shipments.due(BACKFILL)
    assert parts.shipments.drop(BACKFILL, None, 9, SIZE) == 0
    clock_s[0] += OFFERED_S + 1
    parts.shipments.all()[0].state = "in flight"
    assert parts.shipments.drop(BACKFILL, None, 9, SIZE) == 0
    parts.commit(("a", 2), ("a", 3))
    rows = parts.rows.read("readings", 0, 1 << 62, 9)
    parts.rows.drop("readings", rows[0].id + 1, None, 1, SIZE)
    assert parts.shipments.seal("x", b"x", route="readings", lane=BACKFILL, counts={"a": 2}, oldest_ms=1,
                                row_ids=[row.id for row in rows]) is None
    assert parts.rows.waiting("readings") == 1 and parts.shipments.get("x") is None
    parts.rows.dead_letter("readings", rows[0], "late", "")
    assert parts.counters.total("dead_lettered") == 0
    parts.store.close()


def disk_full(parts: Parts) -> Callable[[], None]:
    """SQLITE_FULL, for real; returns what gives room again."""
    def limit(pages: int) -> None:
        with parts.store._lock:
            parts.store._writer.execute(f"PRAGMA max_page_count = {pages}")

    with parts.store.write() as db:  # so that everything that is written needs a page
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    limit(1)
    return lambda: limit(1_000_000)


def test_a_full_disk_stops_every_writer_and_each_recovers_by_itself(tmp_path: Path, caplog: Any) -> None:
    """Intake, marks, sealing, notes of PUBACKs and receipts, retention: real threads on a file that cannot grow."""
    parts = Parts(tmp_path / "outbox.db", scoring=True, now_s=time.time())
    cloud = LoopbackConnection("T", receipt=False)
    uplink = Uplink(cloud, parts.shipments, parts.packer, parts.live, Options(
        "T", {"readings": "r", "events": "e", "alerts": "a"}, True, 600.0))
    scorer = Scorer(parts.rows, Flags, fields=("sensor2",), alert_all=False, raised=uplink.wake)
    limits = retention(parts)
    bridge, inbox, source = started(parts, limits.full)
    upkeep = Upkeep(parts.store, parts.rows, limits, inbox, topics.SENSOR_DATA)
    for part in (uplink, scorer, upkeep):
        part.start()
    try:
        cloud.connect()
        until(lambda: uplink.connected, "the cloud")
        send(inbox, source, 3)
        until(lambda: len(source.acknowledged) == 3, "the first three")
        give_room = disk_full(parts)
        big = {"note": "n" * 3000, "device_id": "full"}
        send(inbox, source, 50, **big)
        until(lambda: "nothing is acknowledged" in caplog.text, "the intake to meet it")
        scorer.wake()
        parts.now_s += 60
        uplink.wake()
        assert len(source.acknowledged) == 3
        threads = {thread.name for thread in threading.enumerate()}
        assert {"intake", "uplink", "scorer", "upkeep"} <= threads, "nothing has died"
        give_room()
        until(lambda: len(source.acknowledged) == 53, "the intake to go on")
        scorer.wake()
        until(lambda: not parts.rows.unscored(1), "the marks, or the sealing of what waited too long for them")
        parts.now_s += 60
        uplink.wake()

        def receipts() -> bool:
            parts.now_s += 1
            cloud.send_receipt(*cloud.tokens())
            uplink.wake()
            return parts.counters.total("delivered") == 53

        until(receipts, "all to be delivered")
        assert parts.counters.total("sent") == 53 and parts.rows.waiting("readings") == 0
    finally:
        bridge.stop(5)
        scorer.stop(5)
        upkeep.stop(5)
        uplink.stop(1)
        parts.store.close()


class Flags:
    """A detector that finds nothing."""

    def update(self, value: float, at_ms: int) -> Any:
        from edge_bridge.detectors import Verdict
        return Verdict(False, None, False)

    def state(self) -> str:
        return "{}"

    def restore(self, state: str) -> None:
        """Nothing to restore."""


@pytest.mark.parametrize("step", ["commit", "mark", "seal", "sent", "delivered", "drop", "alerts"])
def test_each_write_that_fails_leaves_everything_as_it_was(tmp_path: Path, step: str) -> None:
    parts = Parts(tmp_path / "outbox.db", scoring=True)
    parts.commit(("a", 0), ("a", 1))
    parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.commit(("a", 2))
    [row] = parts.rows.unscored(9)
    if step == "alerts":
        parts.rows.mark(row.id, {row.id: ANOMALY}, [(row.id, "a", classified(row))], {})
    [shipment] = parts.shipments.all()
    writes: dict[str, Callable[[], Any]] = {
        "commit": lambda: parts.commit(("b", 5)),
        "mark": lambda: parts.rows.mark(row.id, {row.id: ANOMALY}, [(row.id, "a", classified(row))], {}),
        "seal": lambda: parts.packer.seal_rows(BACKFILL, everything=True),
        "sent": lambda: parts.shipments.sent([shipment]),
        "delivered": lambda: parts.shipments.delivered([shipment.name]),
        "drop": lambda: parts.rows.drop("readings", 1 << 62, None, 9, SIZE),
        "alerts": lambda: parts.rows.drop_alerts(9, AGE)}

    def state() -> Any:
        return (parts.counters.by_device(), parts.store.witness.now, [s.name for s in parts.shipments.all()],
                parts.rows.scored_to, parts.store.read().execute("SELECT * FROM readings").fetchall())

    parts.now_s += 60
    before = state()
    parts.store._writer.execute("PRAGMA query_only = ON")  # SQLITE_READONLY, as on a disk that was mounted so
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        writes[step]()
    assert state() == before
    parts.store._writer.execute("PRAGMA query_only = OFF")
    writes[step]()
    assert state() != before
    parts.store.close()


def test_the_file_shrinks_after_a_drain_in_short_steps(parts: Parts, tmp_path: Path) -> None:
    fill(parts, 9 * MB)
    shrinker = Shrinker(parts.store, parts.rows)
    parts.rows.mark(parts.outbox.next_id - 1, {}, [], {})
    assert shrinker.step() == 0.0, "a backlog waits: the pages are in use, or will be"
    while parts.rows.drop("readings", 1 << 62, None, 10_000, SIZE):
        pass  # until nothing waits
    large = os.path.getsize(tmp_path / "outbox.db")
    steps = 0
    with parts.store._lock:  # another writer is at it
        held = threading.Thread(target=lambda: results.append(shrinker.step()))
        results: list[float] = []
        held.start()
        held.join()
    assert results[0] > 0 and large > 7 * MB
    while shrinker.step():
        steps += 1
    assert steps > 3
    parts.store.close()
    small = os.path.getsize(tmp_path / "outbox.db")
    assert small <= (SLACK_PAGES + 200) * 4096 + MB < large, (large, small)


def test_a_clock_at_1970_or_one_that_jumps_breaks_neither_order_nor_identity(tmp_path: Path) -> None:
    path, sealed = tmp_path / "outbox.db", []
    for now_s in (1_800_000_000.0, 5.0, 1_800_003_600.0, 1_799_990_000.0):  # set, at 1970, an hour ahead, set back
        parts = Parts(path, now_s=now_s)
        for jump_s in (0, 3600, -7200):
            parts.now_s = max(1.0, now_s + jump_s)
            parts.commit(("a", len(sealed)))
            sealed.append(len(sealed))
        parts.packer.seal_rows(BACKFILL, everything=True)
        parts.store.close()
    parts = Parts(path)
    rows = [row for shipment in parts.shipments.all()
            for series in batch.read(parts.shipments.sealed(shipment)).series for row in batch.unpack(series)]
    assert [int(row.values["sensor2"]) for row in sorted(rows, key=lambda row: row.number)] == sealed
    assert len({row.number for row in rows}) == len(sealed)
    parts.store.close()


def test_a_timestamp_that_cannot_be_trusted_is_counted_per_device(parts: Parts) -> None:
    source = Source()
    bridge = Bridge(Inbox(), parts.outbox, None, topic=topics.SENSOR_DATA, device_id="sensor",
                    committed=lambda first_id: None, now_s=lambda: 1_800_000_000.0)
    for device, timestamp in (("a", 0.5), ("a", 1_800_000_000.5), ("b", 1_800_000_400.5), ("c", 1_799_999_000.5)):
        payload = json.dumps({"timestamp": timestamp, "sensor2": 1, "device_id": device}).encode()
        bridge.take_in([Message(source, (topics.SENSOR_DATA,), payload, len(payload))])
    assert {name: parts.counters.value(name, "clock_untrusted") for name in "abc"} == {"a": 1, "b": 1, "c": 0}
    assert parts.rows.waiting("readings") == 4


def test_an_outbox_is_opened_without_loading_what_waits(parts: Parts, tmp_path: Path) -> None:
    """What is read at opening does not grow with the rows: counted in rows that SQLite hands out."""
    fill(parts, 6 * MB)
    handed: list[str] = []
    parts.store.read().set_trace_callback(handed.append)
    Outbox(parts.store, parts.counters)
    assert handed and not any("FROM readings" in text and "max(id)" not in text for text in handed)
