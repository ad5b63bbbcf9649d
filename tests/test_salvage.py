"""A damaged outbox: set aside, what can be read of it carried over, the loss counted. Real files, really damaged."""
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import salvage_tables
from edge_bridge.counters import Counters
from edge_bridge.rows import EVERY_ID, Rows
from edge_bridge.salvage import open_store
from edge_bridge.schema import StoreError
from edge_bridge.store import DamagedOutbox, Store, marker_path
from tests.bridge_rig import ROOT, BridgeProcess, Cloud, free_port, until
from tests.outbox_rig import Parts
from tests.salvage_rig import PAGE, Reopened, filled, one_row, overwrite, pages_of

SEED = 20261122


def test_pages_of_rows_are_destroyed_and_the_rest_is_recovered(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "outbox.db"
    bytes_of = filled(path)
    pages = pages_of(path, "readings")
    for page in pages[len(pages) // 3], pages[len(pages) // 2], pages[len(pages) // 2 + 1]:
        overwrite(path, page)
    damaged = path.read_bytes()
    store = open_store(str(path))  # the small tables can be read: the damage is not seen yet
    rows = Rows(store, Counters(store), scoring=True)
    with pytest.raises(DamagedOutbox, match="Start it again"):
        rows.read("readings", 0, EVERY_ID, 1 << 30)
    store.close()
    assert marker_path(str(path)).exists()
    caplog.clear()
    again = Reopened(path)
    try:
        values = again.values()
        lost = 3400 - len(values)
        assert 0 < lost < 3 * 80 and len(set(values)) == len(values)
        assert again.counters.value("", "lost") == lost and f"Lost: {lost} readings" in caplog.text
        assert "outbox.db.corrupt-1" in caplog.text and not marker_path(str(path)).exists()
        assert {s.name: again.shipments.sealed(s) for s in again.shipments.all()} == bytes_of
        assert again.outbox.turns.last("pi", "spool") == 7
        assert again.rows.detector_states() == {("d0", "sensor2"): "{}"}
        assert next(row[2] for row in again.rows.waiting_alerts(9)).field == "sensor2"
        assert again.store.read().execute("SELECT reason, payload FROM dead_letters").fetchall() == [
            ("broken JSON", b"{x}")]
        assert again.in_the_ledger() == 0
        assert (tmp_path / "outbox.db.corrupt-1").read_bytes() == damaged, "the evidence is left as it was"
    finally:
        again.store.close()
    once_more = Reopened(path)
    assert once_more.values() == values and once_more.counters.value("", "lost") == lost
    once_more.store.close()


@pytest.mark.parametrize("seed", range(6))
def test_noise_anywhere_neither_stops_nor_invents(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "outbox.db"
    bytes_of = filled(path, rows=1500)
    chance = random.Random(SEED + seed)
    for _ in range(4):
        page = chance.randrange(2, path.stat().st_size // PAGE + 1)
        overwrite(path, page, chance.choice([0, 8, chance.randrange(PAGE - 64)]), chance.randbytes(48))
    salvaged = marker_path(str(path))
    salvaged.touch()  # as the bridge leaves it that met the damage
    again = Reopened(path)
    try:
        assert again.in_the_ledger() == 0
        for shipment in again.shipments.all():
            assert bytes_of[shipment.name] == again.shipments.sealed(shipment)
        again.outbox.commit(one_row())
        assert again.rows.waiting("readings") == len(again.rows.read("readings", 0, EVERY_ID, 1 << 30))
        assert again.rows.waiting("readings") > 500
    finally:
        again.store.close()


def zero_length(path: Path) -> None:
    path.write_bytes(b"")


def text_file(path: Path) -> None:
    path.write_text("this is no database\n" * 500)


def first_page(path: Path) -> None:
    overwrite(path, 1, 0, b"\0" * PAGE)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [zero_length, text_file, first_page, half])
def test_a_file_that_is_hardly_there_is_set_aside_and_the_loss_told(tmp_path: Path, damage: Callable[[Path], None],
                                                                    caplog: Any) -> None:
    path = tmp_path / "outbox.db"
    filled(path)
    damage(path)
    damaged = path.read_bytes()
    again = Reopened(path)
    try:
        assert again.counters.value("", "lost") == 3400 - len(again.values()) > 0
        assert again.counters.value("", "salvages") == 1 and "is set aside as" in caplog.text
        assert (tmp_path / "outbox.db.corrupt-1").read_bytes() == damaged
        again.outbox.commit(one_row())
    finally:
        again.store.close()


def test_a_new_file_of_no_bytes_is_a_new_outbox(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.touch()
    again = Reopened(path)
    assert again.counters.value("", "salvages") == 0 and not list(tmp_path.glob("*.corrupt*"))
    again.store.close()


def test_a_camera_goes_on_counting_though_the_last_numbers_were_lost(tmp_path: Path) -> None:
    """With a clock at 1970, nothing else keeps a number from being given twice."""
    path = tmp_path / "outbox.db"
    parts = Parts(path)
    for _ in range(3):
        parts.outbox.commit(one_row("events"))
    number = parts.rows.read("events", 0, EVERY_ID, 9)[-1].number
    [(page,)] = parts.store.read().execute("SELECT rootpage FROM sqlite_master WHERE name = 'devices'").fetchall()
    parts.store.close()
    overwrite(path, page)
    again = Reopened(path, now_s=10.0)
    again.outbox.commit(one_row("events"))
    assert [row.number for row in again.rows.read("events", 0, EVERY_ID, 9)][-2:] == [number, number + 1]
    again.store.close()


def test_damage_met_by_a_write_stops_too_and_other_faults_do_not(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, rows=3000, sealed=0)
    for page in pages_of(path, "readings"):
        overwrite(path, page)
    store = Store(str(path))
    with pytest.raises(DamagedOutbox), store.write() as db:
        db.execute("DELETE FROM readings WHERE number > 0")
    with pytest.raises(sqlite3.OperationalError), store.write() as db:
        db.execute("SELECT * FROM no_such_table")
    store.close()


def test_a_newer_schema_is_not_salvaged(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path, rows=10, sealed=0)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="start the newer version"):
        open_store(str(path))
    assert not list(tmp_path.glob("*.corrupt*")) and not marker_path(str(path)).exists()
    with pytest.raises(StoreError, match="start the newer version"):
        open_store(str(path))


KILLER = """
import os, signal, sys
sys.path.insert(0, {root!r})
from edge_bridge import salvage, store
left = int(sys.argv[2])
def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
os.replace = counted(os.replace)
salvage.sync_directory = counted(salvage.sync_directory)
store._Connection.execute = counted(store._Connection.execute)
store._Connection.executemany = counted(store._Connection.executemany)
salvage.open_store(sys.argv[1]).close()
"""


def test_sigkill_at_every_step_of_a_salvage(tmp_path: Path) -> None:
    """Each time the next start begins anew, and the result is that of a salvage without a kill."""
    original = tmp_path / "original"
    original.mkdir()
    bytes_of = filled(original / "outbox.db", rows=300, sealed=100)
    overwrite(original / "outbox.db", pages_of(original / "outbox.db", "readings")[1])
    marker_path(str(original / "outbox.db")).touch()
    results, killed = set(), 0
    for step in (*range(12), *range(12, 110, 9)):
        directory = tmp_path / str(step)
        shutil.copytree(original, directory)
        done = subprocess.run([sys.executable, "-c", KILLER.format(root=str(ROOT)), str(directory / "outbox.db"),
                               str(step)], capture_output=True, timeout=60)
        assert done.returncode in (0, -9), done.stderr.decode()
        killed += done.returncode == -9
        again = Reopened(directory / "outbox.db")
        assert {s.name: again.shipments.sealed(s) for s in again.shipments.all()} == bytes_of
        results.add((tuple(again.values()), again.counters.value("", "lost"), again.in_the_ledger()))
        again.store.close()
        assert [p.name for p in directory.glob("*.corrupt-?")] == ["outbox.db.corrupt-1"]
        assert (directory / "outbox.db.corrupt-1").read_bytes() == (original / "outbox.db").read_bytes()
        assert not marker_path(str(directory / "outbox.db")).exists()
    assert len(results) == 1 and killed > 10


def test_the_whole_bridge_stops_and_salvages_at_its_next_start(tmp_path: Path) -> None:
    """Damage that is met while it sends: exit code 1, and all the rest is delivered by the next start."""
    cloud = Cloud(tmp_path)
    path = tmp_path / "outbox.db"
    filled(path, rows=300, sealed=0)
    overwrite(path, pages_of(path, "readings")[2])
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(free_port()), METRICS_PORT="0")
    try:
        bridge.start()
        assert bridge.process and bridge.process.wait(60) == 1
        assert "is damaged" in bridge.log() and marker_path(str(path)).exists()
        bridge.start()
        until(lambda: "is set aside as" in bridge.log(), "the salvage", 30)
        until(lambda: len(cloud.rows) > 200, "the rest to be delivered", 30)
        until(lambda: bridge.status() and not sum(bridge.status()["waiting"].values()), "all receipts", 30)
        assert len(cloud.rows) < 300 and f"Lost: {300 - len(cloud.rows)} readings" in bridge.log()
        assert bridge.stop() == 0
    finally:
        bridge.close()
        cloud.close()


def test_the_parts_are_those_of_the_schema(tmp_path: Path) -> None:
    """A table that is added must be salvaged, too."""
    store = Store(str(tmp_path / "outbox.db"))
    tables = {row[0] for row in store.read().execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    assert tables == {*salvage_tables._BY_ID, *salvage_tables._BY_NAME}
    store.close()
