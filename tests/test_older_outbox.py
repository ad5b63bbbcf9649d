"""An outbox that is older than it was: a log cut off, a copy restored; loss and repeats are counted, and told once."""
import shutil
from pathlib import Path
from typing import Any

from contract import batch
from edge_bridge.shipments import BACKFILL, Shipments
from tests.outbox_rig import Parts
from tests.salvage_rig import Reopened


def test_a_cut_off_log_keeps_what_came_before_and_the_rest_is_counted(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "outbox.db"
    parts = Parts(path)
    for start in range(0, 600, 100):
        parts.commit(*[("a", start + i) for i in range(100)])
    for tail in ("", "-wal", ".lock"):  # as a killed process leaves them
        shutil.copy(f"{path}{tail}", tmp_path / f"killed.db{tail}")
    parts.store.close()
    killed = tmp_path / "killed.db"
    wal = Path(f"{killed}-wal")
    wal.write_bytes(wal.read_bytes()[:wal.stat().st_size * 2 // 3])
    again = Reopened(killed)
    try:
        kept = len(again.values())
        assert 0 < kept < 600 and again.values() == list(range(kept)), "whole commits, from the first on"
        assert again.counters.value("", "lost") == 600 - kept and "its log was cut off" in caplog.text
        assert again.in_the_ledger() == 0
    finally:
        again.store.close()
    caplog.clear()
    once_more = Reopened(killed)
    assert once_more.counters.value("", "lost") == 600 - kept and caplog.text == "", "told and counted once"
    once_more.store.close()


def test_an_older_copy_loses_nothing_it_holds_and_what_may_come_twice_is_counted(tmp_path: Path, caplog: Any) -> None:
    """The receiver's view: by (device, number), with the id of the message that brought it."""
    path, received = tmp_path / "outbox.db", {}
    parts = Parts(path)

    def deliver(shipments: Shipments) -> None:
        for shipment in shipments.all():
            sealed = shipments.sealed(shipment)
            for series in batch.read(sealed).series:
                for row in batch.unpack(series):
                    received.setdefault((series["device"], row.number), set()).add(shipment.name)
            shipments.delivered([shipment.name])

    parts.commit(*[("a", i) for i in range(100)])
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.commit(*[("a", i) for i in range(100, 150)], *[("b", i) for i in range(30)])
    with parts.store.write() as db:
        assert db.execute("SELECT count(*) FROM readings").fetchone() == (80,)
    for tail in ("", "-wal"):
        shutil.copy(f"{path}{tail}", tmp_path / f"copy.db{tail}")
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.commit(*[("a", i) for i in range(150, 160)])
    parts.packer.seal_rows(BACKFILL, everything=True)
    deliver(parts.shipments)
    parts.store.close()
    for tail in ("-wal", "-shm", ""):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    for tail in ("", "-wal"):
        shutil.copy(tmp_path / f"copy.db{tail}", f"{path}{tail}")
    again = Reopened(path)
    try:
        assert again.values() == sorted([*range(150), *range(30)]), "all that the copy holds"
        assert again.counters.total("possible_duplicates") == 80 and "restored from a copy" in caplog.text
        assert (again.counters.value("a", "possible_duplicates"), again.counters.value("b", "possible_duplicates")) == (
            50, 30)
        assert again.counters.value("", "lost") == 0, "what came later was delivered"
        deliver(again.shipments)
        assert all(len(names) == 1 for (device, number), names in received.items()), "sealed in the copy: the same ids"
        assert again.in_the_ledger() == 0
    finally:
        again.store.close()
