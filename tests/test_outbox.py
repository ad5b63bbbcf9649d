"""The outbox on a real file: receive numbers, one transaction per micro-batch, and what a restart finds."""
import sqlite3
from pathlib import Path

import pytest

from contract import batch
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.rows import EVERY_ID
from edge_bridge.schema import SCHEMA_VERSION, StoreError
from edge_bridge.shipments import BACKFILL, SENT
from edge_bridge.store import Store
from tests.outbox_rig import Parts
from tests.outbox_rig import parts as parts
from tests.retention_rig import MB, fill


def test_the_file_is_opened_to_survive_a_power_cut(parts: Parts) -> None:
    with parts.store.write() as db:
        pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in (
            "journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync", "auto_vacuum")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1,
                       "auto_vacuum": 2}


def test_numbers_count_by_one_and_start_anew_above_the_clock(tmp_path: Path) -> None:
    path, now_s = tmp_path / "outbox.db", 1_800_000_000.0
    first = Parts(path, now_s=now_s)
    first.commit(("a", 1), ("b", 2), ("a", 3))
    first.commit(("a", 4))
    assert numbers_of(first) == {"a": [now_s * 1e6, now_s * 1e6 + 1, now_s * 1e6 + 2], "b": [now_s * 1e6]}
    first.store.close()
    second = Parts(path, now_s=now_s + 1)
    second.commit(("a", 5))
    assert numbers_of(second)["a"][-1] == (now_s + 1) * 1e6
    second.store.close()
    third = Parts(path, now_s=10.0)  # a clock at 1970 must not number backwards
    third.commit(("a", 6), ("c", 7))
    assert numbers_of(third)["a"][-1] == (now_s + 1) * 1e6 + 1
    assert numbers_of(third)["c"] == [10e6]
    third.store.close()


def numbers_of(parts: Parts) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in parts.rows.read("readings", 0, EVERY_ID, 1000):
        found.setdefault(row.device, []).append(row.number)
    return found


def test_row_ids_are_never_given_twice(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    first_id = parts.commit(("a", 1), ("a", 2))
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.store.close()
    again = Parts(tmp_path / "outbox.db", now_s=parts.now_s + 1)
    assert again.commit(("a", 3)) > first_id + 1
    again.store.close()


def test_a_failed_commit_leaves_nothing_and_can_be_repeated(parts: Parts) -> None:
    parts.outbox.turns.take("a", "s", 1, 1)
    intake = Intake()
    intake.rows["readings"].append(("a", 0, b"{}", None))
    intake.dead_letters.append((0, "r", "d", "o", 1, None))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        parts.outbox.commit(intake)
    assert parts.rows.read("readings", 0, EVERY_ID, 10) == []
    assert parts.outbox.turns.last("a", "s") is None
    intake.dead_letters.clear()
    parts.outbox.turns.take("a", "s", 1, 1)
    parts.outbox.commit(intake)
    assert parts.outbox.turns.last("a", "s") == 1


def test_turns_repeats_and_counts_survive_a_restart(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    parts.outbox.turns.take("a", "s", 9, 9)
    assert parts.outbox.repeats["readings"].check(b"x", 1, 5, distinct=True) == "new"
    parts.commit(("a", 1))
    parts.store.close()
    again = Parts(tmp_path / "outbox.db")
    assert again.outbox.turns.last("a", "s") == 9
    assert again.outbox.repeats["readings"].check(b"x", 1, 1, distinct=True) == "repeats"
    assert again.counters.total("committed") == 1 and again.rows.waiting("readings") == 1
    again.store.close()


def test_two_bridges_cannot_share_an_outbox(parts: Parts) -> None:
    with pytest.raises(StoreError, match="another bridge uses the outbox"):
        Store(parts.store.path)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "outbox.db")
    store = Store(path)
    with store.write() as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store.close()
    with pytest.raises(StoreError, match="start the newer version"):
        Store(path)


def test_scoring_goes_on_though_the_clock_was_set_back(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "scored.db", scoring=True)
    last = parts.commit(("a", 1))
    parts.rows.mark(last, {}, [], {})
    parts.now_s += 11
    assert parts.packer.seal_rows(BACKFILL)
    parts.store.close()
    again = Parts(tmp_path / "scored.db", scoring=True, now_s=1_700_000_000.0)
    assert again.commit(("a", 2)) > last and len(again.rows.unscored(10)) == 1
    again.store.close()


def test_sealed_bytes_are_kept_as_they_are_until_the_receipt(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    parts.commit(("a", 1))
    parts.packer.seal_rows(BACKFILL, everything=True)
    [shipment] = parts.shipments.all()
    sealed = parts.shipments.sealed(shipment)
    parts.shipments.sent([shipment])
    parts.store.close()
    again = Parts(tmp_path / "outbox.db")
    again.commit(("a", 2))
    [same] = again.shipments.all()
    assert (same.name, same.state, again.shipments.sealed(same)) == (shipment.name, SENT, sealed)
    assert [s.name for s in again.shipments.delivered([shipment.name, "unknown"])] == [shipment.name]
    assert again.shipments.delivered([shipment.name]) == [] and again.shipments.all() == []
    assert (again.counters.total("sent"), again.counters.total("delivered")) == (1, 1)
    again.store.close()


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


def test_an_outbox_is_opened_without_loading_what_waits(parts: Parts, tmp_path: Path) -> None:
    """What is read at opening does not grow with the rows: counted in rows that SQLite hands out."""
    fill(parts, 6 * MB)
    handed: list[str] = []
    parts.store.read().set_trace_callback(handed.append)
    Outbox(parts.store, parts.counters)
    assert handed and not any("FROM readings" in text and "max(id)" not in text for text in handed)
