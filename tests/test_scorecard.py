"""The scorecard's own parts: an oracle that fails when it should, the disk that loses power, the recording proxy."""
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract import batch
from tests.bridge_rig import until
from tests.scorecard import durable, oracle, report, rows_crash
from tests.scorecard.__main__ import ROWS, chosen
from tests.scorecard.durable import Disk
from tests.scorecard.faults import MATRIX, Fault
from tests.scorecard.recording_proxy import RecordingProxy, packets
from tests.scorecard.run import Outcome, jobs

STAMP = Decimal("1763798400.125")


def record(seq: int, sensor2: str = "0.5", spool: str | None = "s") -> dict[str, Any]:
    return {"device": "pi", "seq": seq, "timestamp": STAMP + seq, "spool": spool,
            "values": {"sensor1": Decimal("20.01"), "sensor2": Decimal(sensor2)}}


def item(*records: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """A stored item of these readings, numbered in this order."""
    rows = [batch.Row(number + index, 1763798400200, one["timestamp"], int(one["timestamp"] * 1000), one["seq"],
                      one["spool"], one["values"], {}, None, None) for index, one in enumerate(records)]
    return {"kind": "readings", "device": "pi", "n": len(rows), "series": batch.pack("pi", rows)}


def rollup(readings: int) -> dict[str, Any]:
    return {"pk": "s#pi", "sk": "m#2026-11-22T07:24Z", "id1": {"sensor2": [Decimal(readings)]}}


def verdict(made: list[dict[str, Any]], items: list[dict[str, Any]], *, counted: int | None = None, dropped: int = 0,
            shown: int = 0, acknowledged: set[oracle.Identity] | None = None) -> oracle.Verdict:
    stored = oracle.stored_readings(items)
    found = oracle.count([oracle.made_reading(one) for one in made], stored,
                         [rollup(len(stored) if counted is None else counted)], "sensor2", acknowledged)
    return oracle.judge(found, dropped=dropped, bridge_counted=shown, recover_s=0)


MADE = [record(seq) for seq in range(1, 6)]


def test_all_stored_in_order_passes() -> None:
    assert verdict(MADE, [item(*MADE[:2]), item(*MADE[2:], number=3)]).failures == []


@pytest.mark.parametrize("items, failure", [
    ([item(*MADE[:4])], "1 lost"),
    ([item(*MADE), item(MADE[2], number=6)], "1 doubled"),
    ([item(*MADE[:2], MADE[3], MADE[2], MADE[4])], "1 misordered"),
    ([item(*MADE[:3], number=10), item(*MADE[3:], number=1)], "1 misordered"),
    ([item(*MADE[:4], record(5, sensor2="0.5000001"))], "1 lost"),
    ([item(*MADE[:4], record(5, spool="another"))], "1 lost"),
])
def test_what_is_wrong_fails(items: list[dict[str, Any]], failure: str) -> None:
    assert failure in verdict(MADE, items).failures


def test_drops_must_be_counted_and_no_more_than_counted() -> None:
    assert verdict(MADE, [item(*MADE[:4])], dropped=1, shown=1).failures == []
    assert verdict(MADE, [item(*MADE[:4])], dropped=1, shown=0).failures == [
        "1 missing, 1 dropped, but the bridge counts 0 drops"]
    assert verdict(MADE, [item(*MADE[:4])], dropped=3, shown=2).failures == [], "the bridge had two of them already"
    # A bridge that explains its own loss by a drop of the publisher's is not believed.
    assert verdict(MADE, [item(*MADE[:4])], dropped=0, shown=1).failures == [
        "1 lost", "1 missing, 0 dropped, but the bridge counts 1 drops"]


def test_rollups_that_differ_and_an_empty_run_fail() -> None:
    assert verdict(MADE, [item(*MADE)], counted=6).failures == ["5 stored, but 6 in the roll-ups"]
    assert verdict([], []).failures == ["nothing was published"]


def test_every_anomaly_has_its_alert_and_every_alert_its_anomaly() -> None:
    rows = [batch.Row(number, 1763798400200, STAMP, int(STAMP * 1000), number, "s", {"sensor2": 9}, {}, mark, None)
            for number, mark in ((1, "anomaly"), (2, None), (3, "anomaly"))]
    stored = [{"kind": "readings", "device": "pi", "series": batch.pack("pi", rows)}]
    assert oracle.alerts_differ(stored, [{"number": Decimal(1)}, {"number": Decimal(3)}]) == 0
    assert oracle.alerts_differ(stored, [{"number": Decimal(1)}, {"number": Decimal(2)}]) == 2
    assert oracle.judge(oracle.Count(published=1, alerts_differ=2), dropped=0, bridge_counted=0,
                        recover_s=0).failures == ["2 anomalies and alerts do not go together"]


def test_of_a_foreign_publisher_only_the_acknowledged_is_the_bridges() -> None:
    acknowledged = {oracle.made_reading(one) for one in MADE[:4]}
    before = verdict(MADE, [item(*MADE[:4])], acknowledged=acknowledged)
    assert (before.lost, before.lost_before_bridge, before.failures) == (0, 1, [])
    lost = verdict(MADE, [item(*MADE[:3])], acknowledged=acknowledged)
    assert (lost.lost, lost.lost_before_bridge, lost.failures) == (1, 1, ["1 lost"])


def test_events_are_told_by_device_time_and_persons() -> None:
    made = [{"device_id": "c", "timestamp": f"2026-11-22T07:24:0{n}Z", "persons_detected": n} for n in range(4)]
    items = [{"kind": "event", "device": "c", "timestamp": one["timestamp"], "event_number": Decimal(9 - index),
              "values": {"persons_detected": Decimal(one["persons_detected"])}} for index, one in enumerate(made[:3])]
    found = oracle.count([oracle.made_event(one) for one in made], oracle.stored_events(items), [], "persons_detected")
    assert (found.published, found.stored, found.missing, found.misordered) == (4, 3, 1, 2)


def outcome(control: bool, *verdicts: oracle.Verdict) -> Outcome:
    return Outcome(Fault("a fault", lambda site: None, control=control), list(verdicts))


def test_the_report_adds_runs_up_and_keeps_controls_apart() -> None:
    good, bad = verdict(MADE, [item(*MADE)]), verdict(MADE, [item(*MADE[:4])])
    found = report.as_json([outcome(False, good, bad), outcome(True, bad)], seed=7)
    [row], [control] = found["faults"], found["controls"]
    assert row == {"fault": "a fault", "runs": 2, "published": 10, "stored": 9, "lost": 1, "doubled": 0,
                   "misordered": 0, "dropped_counted": 0, "lost_before_bridge": 0, "recover_s": 0, "pass": False}
    assert control["pass"] and control["lost"] == 1 and found["seed"] == 7
    assert not outcome(True, good).passed, "a control that loses nothing proves nothing"
    assert not outcome(True, dataclasses.replace(bad, broken="the bridge did not start")).passed
    assert not outcome(False).passed, "a row that never ran has not passed"
    text = report.markdown(found, "2026-11-22", {"a row": "no cc"}, full=False)
    assert "| a fault | 2 | 10 | 9 | 1 |" in text and "**no**" in text and "SEED=7" in text and "- a row: no cc" in text


def test_the_matrix_has_what_it_must() -> None:
    faults = [one for one in MATRIX.values() if not one.control]
    assert len(faults) >= 20 and len(ROWS) == 10
    assert {one.name for one in MATRIX.values() if one.control} == {
        "power cut with synchronous=NORMAL", "power cut with synchronous=OFF"}
    killing = [one for one in faults if one.act.__module__ == rows_crash.__name__ and str(rows_crash.KILLS) in one.name]
    assert sum(one.runs for one in killing) * rows_crash.KILLS >= 50
    assert sum(one.full_runs for one in killing) * rows_crash.KILLS >= 1000
    assert chosen(["kill_between"])[0].act is rows_crash.kill_between_puback_and_receipt


def test_runs_have_distinct_names_and_the_long_ones_begin() -> None:
    todo = jobs(MATRIX.values(), 7, full=False)
    assert len({job.name for job in todo}) == len(todo)
    assert [job.fault.slow_s for job in todo] == sorted((job.fault.slow_s for job in todo), reverse=True)
    assert len(jobs(MATRIX.values(), 7, full=True)) > len(todo)


# A disk that loses power.

needs_disk = pytest.mark.skipif(durable.missing() is not None, reason=durable.missing() or "")
COMMITS = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = " + sys.argv[2])
db.execute("CREATE TABLE IF NOT EXISTS t (n)")
fd = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
os.fsync(fd)
for n in range(500):
    db.execute("INSERT INTO t VALUES (?)", (n,))
    print(n, flush=True)
os.kill(os.getpid(), 9)
"""


def commit_and_die(tmp_path: Path, synchronous: str) -> int:
    """500 commits, then the power goes: how many of them are left (-1: not even the table)."""
    import sqlite3
    directory = tmp_path / synchronous
    disk = Disk(directory, tmp_path / f"{synchronous}-work")
    done = subprocess.run([sys.executable, "-c", COMMITS, str(directory / "t.db"), synchronous], stdout=subprocess.PIPE,
                          env={**os.environ, **disk.environment()}, text=True)
    assert done.returncode == -signal.SIGKILL and done.stdout.splitlines()[-1] == "499"
    disk.cut_power()
    db = sqlite3.connect(directory / "t.db")
    try:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])
    except sqlite3.OperationalError as error:
        assert "no such table" in str(error), error
        return -1
    finally:
        db.close()


@needs_disk
def test_a_power_cut_leaves_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    assert commit_and_die(tmp_path, "FULL") == 500
    assert commit_and_die(tmp_path, "NORMAL") < 500
    assert commit_and_die(tmp_path, "OFF") == -1


FILES = """
import os, sys
d = sys.argv[1]
def write(name, data, sync):
    fd = os.open(os.path.join(d, name), os.O_CREAT | os.O_RDWR)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    return fd
synced = write("synced", b"one", True)
write("unsynced", b"two", False)
old = write("old", b"old content", True)
directory = os.open(d, os.O_RDONLY)
os.fsync(directory)
write("nameless", b"three", True)
os.pwrite(synced, b"X", 0)
os.ftruncate(old, 3)
os.fsync(old)
os.unlink(os.path.join(d, "unsynced"))
os.kill(os.getpid(), 9)
"""


@needs_disk
def test_names_and_lengths_are_as_durable_as_they_were_synced(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "files", tmp_path / "work")
    subprocess.run([sys.executable, "-c", FILES, str(tmp_path / "files")], env={**os.environ, **disk.environment()})
    assert (tmp_path / "files" / "nameless").exists()
    assert disk.cut_power() > 0
    left = {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    assert left == {"synced": b"one", "unsynced": b"", "old": b"old"}


@needs_disk
def test_the_disk_fills_up_and_fails_when_told(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "files", tmp_path / "work")
    code = ("import os,sys\nfd = os.open(sys.argv[1] + '/f', os.O_CREAT | os.O_RDWR)\n"
            "try:\n    os.write(fd, b'x')\n    os.fsync(fd)\nexcept OSError as e:\n    sys.exit(e.errno)")

    def exit_code() -> int:
        return subprocess.run([sys.executable, "-c", code, str(tmp_path / "files")],
                              env={**os.environ, **disk.environment()}).returncode

    import errno
    disk.fill(True)
    assert exit_code() == errno.ENOSPC
    disk.fill(False)
    disk.fail(True)
    assert exit_code() == errno.EIO
    disk.fail(False)
    assert exit_code() == 0


# The recording proxy.

def publish(packet_id: int, payload: bytes, qos: int = 1) -> bytes:
    body = b"\x00\x01t" + (packet_id.to_bytes(2, "big") if qos else b"") + b"\x00" + payload
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) % 128 | 0x80, len(body) // 128])
    return bytes([0x30 | qos << 1]) + length + body


def test_the_proxy_notes_what_was_acknowledged(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        proxy = RecordingProxy(broker.getsockname()[1])
        bridge = socket.create_connection(("127.0.0.1", proxy.port), 5)
        served, _ = broker.accept()
        try:
            long = json.dumps({"note": "x" * 300}).encode()
            for piece in (publish(1, b"first")[:3], publish(1, b"first")[3:] + publish(2, long), publish(3, b"third"),
                          publish(0, b"qos 0", qos=0)):
                served.sendall(piece)
            expected = len(publish(1, b"first") + publish(2, long) + publish(3, b"third") + publish(0, b"qos 0", 0))
            received = b""
            while len(received) < expected:
                received += bridge.recv(4096)
            assert proxy.acknowledged == []
            bridge.sendall(b"\x40\x02\x00\x02" + b"\x40\x03\x00\x01\x97" + b"\x40\x02\x00\x03")
            assert until(lambda: len(proxy.acknowledged) == 2, "two acknowledgements") and served.recv(64)
            assert proxy.acknowledged == [long, b"third"], "a PUBACK that fails acknowledges nothing"
        finally:
            bridge.close()
            served.close()
            proxy.close()
    until(lambda: threading.active_count() < 50, "the proxy's threads to end")


def test_packets_wait_for_their_end() -> None:
    held = bytearray(publish(7, b"whole") + publish(8, b"x" * 200)[:-1])
    assert [kind for kind, _ in packets(held)] == [0x32] and held[0] == 0x32
    held += b"x"
    assert len(list(packets(held))) == 1 and held == b""
