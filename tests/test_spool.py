"""The device's spool: real SQLite files, a SIGKILL in the middle, corrupt bytes, a full disk's answer."""
import json
import os
import random
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from device import record
from device.message import reading_text
from device.spool import Spool, SpoolError

ROOT = Path(__file__).resolve().parent.parent


def held(spool: Spool) -> list[int]:
    return [seq for seq, _ in spool.read(0, 10 ** 6)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "spool.db")  # the directory is made


def test_numbers_go_by_one_and_on_after_a_restart(path: str) -> None:
    spool = Spool(path)
    assert (spool.first, spool.last, spool.opened_last) == (1, 0, 0)
    assert spool.add(["a", "b"]) == 1 and spool.add(["c"]) == 3
    assert spool.read(2, 5) == [(2, "b"), (3, "c")]
    spool.forget(3)
    spool.close()
    again = Spool(path)
    assert (again.first, again.last, again.opened_last) == (4, 3, 3), "empty, but the numbers are not given twice"
    assert again.add(["d"]) == 4
    again.close()


def test_the_id_is_the_files_own(tmp_path: Path) -> None:
    ids = []
    for name in ("a.db", "b.db", "a.db"):
        spool = Spool(str(tmp_path / name))
        ids.append(spool.id)
        spool.close()
    assert ids[0] == ids[2] != ids[1]


def test_beyond_the_bound_the_oldest_go_and_are_counted(path: str) -> None:
    spool = Spool(path, max_readings=10)
    spool.add(["x"] * 8)
    spool.add(["x"] * 5)
    assert (spool.first, spool.last, spool.dropped) == (4, 13, 3)
    assert held(spool) == list(range(4, 14))
    spool.forget(9)
    spool.add(["x"] * 15)
    assert (spool.first, spool.last, spool.dropped) == (19, 28, 3 + 9)
    spool.close()
    again = Spool(path, max_readings=10)
    assert (again.first, again.dropped) == (19, 12)
    again.close()


def test_forgotten_readings_are_gone_whatever_is_claimed(path: str) -> None:
    spool = Spool(path)
    spool.add(["a", "b", "c"])
    spool.forget(2)
    spool.forget(1)  # an older acknowledgement takes nothing back
    assert (spool.first, spool.read(0, 9)) == (3, [(3, "c")])
    spool.forget(99)
    assert (spool.first, spool.last) == (4, 3)
    spool.close()


_WRITER = """
import sys
from device.spool import Spool
spool = Spool(sys.argv[1])
while True:
    seq = spool.add(["reading %d" % (spool.last + 1 + i) for i in range(3)])
    print(seq + 2, flush=True)
"""


def test_sigkill_loses_nothing_that_was_added(path: str) -> None:
    rng, last_said = random.Random(5), 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(rng.randrange(5, 60)):
            last_said = int(writer.stdout.readline())
        writer.kill()
        last_said = max([last_said, *(int(line) for line in writer.stdout.read().splitlines(keepends=True)
                                      if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()
        spool = Spool(path)
        assert spool.last >= last_said
        assert [(seq, text) for seq, text in spool.read(0, 10 ** 6)] == [
            (seq, f"reading {seq}") for seq in range(1, spool.last + 1)]
        spool.close()


def test_a_commit_reaches_the_disk_before_it_is_said(path: str) -> None:
    """A kill leaves the page cache and proves nothing about a power cut; the fsync is a matter of these settings."""
    spool = Spool(path)
    settings = {name: spool._db.execute(f"PRAGMA {name}").fetchone()[0] for name in (
        "synchronous", "fullfsync", "checkpoint_fullfsync", "journal_mode", "locking_mode")}
    assert settings == {"synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1, "journal_mode": "wal",
                        "locking_mode": "exclusive"}
    spool.close()


@pytest.mark.parametrize("damage", ["no database", "overwritten pages", "another schema"])
def test_a_corrupt_file_is_set_aside_and_a_new_spool_begun(path: str, damage: str) -> None:
    spool = Spool(path)
    spool.add([f"{i} " * 50 for i in range(500)])
    spool.close()
    old_id = spool.id
    if damage == "no database":
        Path(path).write_bytes(b"this is not SQLite " * 100)
    elif damage == "overwritten pages":
        with open(path, "r+b") as raw:
            raw.seek(4096)
            raw.write(os.urandom(8 * 4096))
    else:
        Path(path).unlink()
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE spool (name TEXT)")
        db.commit()
        db.close()
    spool = Spool(path)
    assert (spool.set_aside, spool.first, spool.last, spool.opened_last) == (1, 1, 0, 0)
    assert spool.id != old_id and spool.add(["x"]) == 1
    spool.close()
    assert len(list(Path(path).parent.glob("spool.db.corrupt-*"))) >= 1, "kept, for who wants to look"


def test_a_file_that_turns_out_corrupt_while_in_use_is_set_aside_too(path: str) -> None:
    spool = Spool(path)
    spool.add(["x" * 500] * 2000)
    spool.close()
    spool = Spool(path)  # nothing of it is in this connection's cache beyond the first pages
    old_id = spool.id
    with open(path, "r+b") as raw:
        raw.seek(0, os.SEEK_END)
        size = raw.tell()
        raw.seek(3 * 4096)
        raw.write(b"\xff" * (size - 3 * 4096))
    for _ in range(3000):
        spool.add(["y"])
        spool.read(1, 5000)
        if spool.id != old_id:
            break
    assert spool.id != old_id and spool.set_aside == 1
    assert spool.last >= 1 and spool.read(1, 1)[0][1] == "y"
    spool.close()


def test_what_cannot_be_written_changes_nothing_and_can_be_tried_again(path: str) -> None:
    spool = Spool(path)
    spool.add(["a"])
    spool._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to be full, as on a full disk
    with pytest.raises(sqlite3.OperationalError, match="full"):
        spool.add(["b" * 100000])
    assert (spool.first, spool.last) == (1, 1)
    spool._db.execute("PRAGMA max_page_count = 1000000")
    assert spool.add(["b" * 100000]) == 2
    spool.close()


def test_a_spool_in_use_is_refused_with_the_next_step(path: str) -> None:
    spool = Spool(path)
    with pytest.raises(SpoolError, match=r"another publisher is using it.*--spool"):
        Spool(path, busy_s=0.05)
    spool.close()
    Spool(path, busy_s=0.05).close()


_ON_A_FULL_DISK = """
import resource, sys
from device.spool import Spool, SpoolError
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file may grow
try:
    Spool(sys.argv[1])
except SpoolError as error:
    print(error)
"""


def test_a_disk_that_takes_nothing_is_no_damage(path: str) -> None:
    spool = Spool(path)
    spool.add(["a", "b"])
    spool.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=DELETE")  # as a copy made by VACUUM INTO has it: opening it has to write
    db.close()
    told = subprocess.run([sys.executable, "-c", _ON_A_FULL_DISK, path], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert f"cannot use the spool {path}" in told.stdout, told
    assert [file.name for file in Path(path).parent.iterdir()] == ["spool.db"], "nothing is set aside"
    again = Spool(path)
    assert (again.id, again.set_aside, held(again)) == (spool.id, 0, [1, 2])
    again.close()


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="give another place with --spool"):
        Spool(str(tmp_path / "file" / "spool.db"))


def test_a_renewed_spool_keeps_only_what_is_new(path: str) -> None:
    spool = Spool(path)
    spool.add(["a", "b"])
    spool.close()
    spool = Spool(path)
    old_id = spool.id
    spool.add(["c"])
    spool.renew()
    assert spool.id != old_id and spool.read(0, 9) == [(3, "c")]
    spool.close()
    again = Spool(path)
    assert (again.id, again.first) == (spool.id, 3)
    again.close()


def test_opening_a_long_backlog_loads_none_of_it(path: str) -> None:
    spool = Spool(path)
    text = reading_text({"sensor1": 20, "sensor2": 1}, 1795333375.0, "pi")
    for _ in range(10):
        spool.add([text] * 10000)
    spool.close()
    tracemalloc.start()
    spool = Spool(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (spool.first, spool.last) == (1, 100000) and peak_bytes < 100_000
    spool.close()


def test_the_record_knows_where_it_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "made" / "r.jsonl")
    assert record.last_seq(path, "s") == 0
    text = reading_text({"sensor2": 0, "sensor1": 3}, 2.0, "pi")
    record.append(path, "pi", "s", [(4, text), (5, text)])
    record.append(path, "pi", "other", [(9, text)])
    assert (record.last_seq(path, "s"), record.last_seq(path, "new")) == (5, 0)
    with open(path, "a") as torn:
        torn.write('{"device": "pi", "se')
    assert record.last_seq(path, "s") == 5
    record.append(path, "pi", "s", [(6, text)])
    assert [json.loads(line)["seq"] for line in Path(path).read_text().splitlines()] == [4, 5, 9, 6]


@pytest.mark.parametrize("garbage", [b"\0" * 300, b"\xff\xfe", b"[1]", b'{"seq": 7}', b'{"spool": "s"}'])
def test_what_a_power_cut_left_in_the_record_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    path, text = str(tmp_path / "r.jsonl"), reading_text({"sensor2": 0}, 2.0, "pi")
    record.append(path, "pi", "s", [(4, text)])
    with open(path, "ab") as lines:
        lines.write(garbage + b"\n")
    record.append(path, "pi", "s", [(5, text)])
    assert record.last_seq(path, "s") == 5
