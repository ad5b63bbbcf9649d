"""Disks that are full or read-only: every writer of the outbox stops, and each goes on by itself."""
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract import topics
from contract.batch import ANOMALY
from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import Verdict
from edge_bridge.loopback import LoopbackConnection
from edge_bridge.retention import AGE, SIZE
from edge_bridge.rows import EVERY_ID
from edge_bridge.shipments import BACKFILL
from edge_bridge.upkeep import Upkeep
from edge_bridge.uplink import Options, Uplink
from tests.bridge_rig import until
from tests.outbox_rig import Parts, classified
from tests.retention_rig import retention, send, started


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


class Flags:
    """A detector that finds nothing."""

    def update(self, value: float, at_ms: int) -> Verdict:
        return Verdict(False, None, False)

    def state(self) -> str:
        return "{}"

    def restore(self, state: str) -> None:
        """Nothing to restore."""


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
        "drop": lambda: parts.rows.drop("readings", EVERY_ID, None, 9, SIZE),
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
