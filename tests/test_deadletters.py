"""Dead letters: bounded, listed, replayed through the intake, dropped; beside a running bridge and without one."""
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract import numbers, topics
from edge_bridge import deadletters
from edge_bridge.bridge import Bridge
from edge_bridge.deadletters import MOST_BYTES, MOST_LETTERS, DeadLetter, origin_of
from edge_bridge.inbox import Inbox
from edge_bridge.outbox import Intake
from edge_bridge.retention import Limits, Retention
from edge_bridge.rows import EVERY_ID
from edge_bridge.schema import SCHEMA_VERSION
from edge_bridge.upkeep import Upkeep
from tests.bridge_rig import ROOT, until
from tests.outbox_rig import Parts

GOOD = {"timestamp": 1_800_000_000.5, "sensor2": 0.5, "device_id": "pi", "spool": "s", "seq": 4, "first": 1}


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


class Running:
    """Intake and upkeep of a bridge, in this process."""

    def __init__(self, parts: Parts) -> None:
        inbox = Inbox()
        self.bridge = Bridge(inbox, parts.outbox, None, topic=topics.SENSOR_DATA, device_id="sensor",
                             committed=lambda first_id: None, now_s=lambda: parts.now_s)
        self.upkeep = Upkeep(parts.store, parts.rows, Retention(
            parts.store, parts.rows, parts.shipments, parts.live, Limits(1 << 40, 1e9, False)), inbox,
            topics.SENSOR_DATA)
        self.bridge.start()
        self.upkeep.start()

    def stop(self) -> None:
        self.upkeep.stop(5)
        self.bridge.stop(5)


def keep(parts: Parts, *payloads: Any, origin: Any = ("sensor/data",), size_bytes: int | None = None) -> list[int]:
    """Put letters there; their ids."""
    intake = Intake()
    for payload in payloads:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        intake.dead_letters.append((1, "broken", "why", numbers.dumps(list(origin)), size_bytes or len(raw), raw))
    parts.outbox.commit(intake)
    return [row[0] for row in parts.store.read().execute("SELECT id FROM dead_letters ORDER BY id")][-len(payloads):]


def cli(parts: Parts, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edge_bridge", "deadletters", *arguments], cwd=ROOT, text=True,
                          capture_output=True, timeout=60,
                          env={"OUTBOX": parts.store.path, "PYTHONIOENCODING": "utf-8"})


def ids(parts: Parts) -> list[int]:
    return [row[0] for row in parts.store.read().execute("SELECT id FROM dead_letters ORDER BY id")]


def test_the_table_is_bounded_in_count_and_bytes_and_what_went_is_counted(parts: Parts) -> None:
    for _ in range(11):
        keep(parts, *[b"{"] * (MOST_LETTERS // 10))
    assert len(ids(parts)) == MOST_LETTERS
    assert parts.counters.value("", "dead_letters_dropped") == MOST_LETTERS // 10
    last = keep(parts, *[b"x" * 60_000] * 300)
    held = parts.store.read().execute("SELECT sum(length(payload)) FROM dead_letters").fetchone()[0]
    assert MOST_BYTES - 60_000 < held <= MOST_BYTES and ids(parts)[-1] == last[-1]
    assert parts.counters.value("", "dead_letters_dropped") == MOST_LETTERS * 11 // 10 + 300 - len(ids(parts))


def test_list_show_and_drop_beside_a_running_bridge(parts: Parts) -> None:
    first, second, third = keep(parts, b"{broken \xff", GOOD, {"a": 1})
    listed = cli(parts, "list")
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 3
    assert f"{first}  1970-01-01T00:00:00Z  broken  9 bytes  from [\"sensor/data\"]  why" in listed.stdout
    shown = cli(parts, "show", str(first)).stdout
    assert "reason: broken" in shown and "{broken \\xff" in shown
    assert cli(parts, "drop", str(first), str(third)).returncode == 0 and ids(parts) == [second]
    assert "1 dead letters dropped" in cli(parts, "drop", "--all").stdout and ids(parts) == []


def test_replay_goes_through_the_intake_of_the_running_bridge_once(parts: Parts) -> None:
    running = Running(parts)
    try:
        parts.outbox.turns._last["pi", "s"] = 9  # its turn was taken when it was refused
        [good, bad, event] = [*keep(parts, GOOD, b"{"), *keep(
            parts, {"timestamp": 1, "persons_detected": 2}, origin=("edge-data", 0, 7, 1))]
        said = cli(parts, "replay", "--all")
        assert said.returncode == 0 and "3 dead letters will be taken in again by the running bridge" in said.stdout
        until(lambda: parts.counters.total("replayed") == 3, "the replay")
        until(lambda: len(ids(parts)) == 1, "the letters to be struck off")
        assert ids(parts)[0] > event > bad > good, "the broken one came back under a new id"
        [row] = parts.rows.read("readings", 0, EVERY_ID, 9)
        assert row.device == "pi" and json.loads(row.payload) == GOOD
        [row] = parts.rows.read("events", 0, EVERY_ID, 9)
        assert row.kafka == '["edge-data",0,7,1]'
        assert parts.outbox.turns.last("pi", "s") == 9, "a replay takes no turn"
        assert parts.store.read().execute("SELECT count(*) FROM replays").fetchone() == (0,)
    finally:
        running.stop()


def test_replay_without_a_bridge_waits_for_its_start(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    [letter] = keep(parts, GOOD)
    parts.store.close()
    said = cli(parts, "replay", str(letter))
    assert said.returncode == 0 and "when the bridge starts" in said.stdout
    assert "to be replayed" in cli(parts, "list").stdout
    again = Parts(tmp_path / "outbox.db")
    running = Running(again)
    until(lambda: len(again.rows.read("readings", 0, EVERY_ID, 9)) == 1, "the replay")
    assert ids(again) == []
    running.stop()
    again.store.close()


def test_letter_and_order_go_with_the_commit_or_stay(parts: Parts) -> None:
    [letter] = keep(parts, GOOD)
    with parts.store.write() as db:
        db.execute("INSERT INTO replays VALUES (?)", (letter,))
    failing = Intake()
    failing.replayed.append(letter)
    failing.rows["readings"].append(("pi", 1, None, None))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        parts.outbox.commit(failing)
    assert [order.id for order in deadletters.orders(parts.store.read(), 9)] == [letter] == ids(parts)


def test_what_cannot_be_replayed_says_why(parts: Parts) -> None:
    [cut] = keep(parts, b"{" * 100, size_bytes=5000)
    said = cli(parts, "replay", str(cut))
    assert said.returncode == 1 and "only 100 of its 5000 bytes were kept" in said.stderr
    unknown = DeadLetter(1, 1, "", "", '["sensor/da', 1, b"x")
    with pytest.raises(ValueError, match="was cut off"):
        origin_of(unknown, "sensor/data")
    refused = DeadLetter(1, 1, "", "", '{"device":"pi"}', 1, b"x")
    assert origin_of(refused, "sensor/data") == ("readings", ("sensor/data/pi",))


def test_an_outbox_that_cannot_be_used_is_one_clear_line_and_nothing_is_ordered(parts: Parts) -> None:
    [letter] = keep(parts, GOOD)
    Path(parts.store.path + ".lock").rename(parts.store.path + ".kept")
    Path(parts.store.path + ".lock").mkdir()  # what may not be opened: root may open any file
    said = cli(parts, "replay", str(letter))
    assert said.returncode == 1 and len(said.stderr.splitlines()) == 1 and "cannot be used" in said.stderr
    assert deadletters.orders(parts.store.read(), 9) == []


def test_wrong_orders_are_one_clear_line(parts: Parts, tmp_path: Path) -> None:
    for arguments in ([], ["list", "1"], ["show"], ["replay"], ["drop", "x"], ["drop", "1", "--all"], ["burn"]):
        said = cli(parts, *arguments)
        assert said.returncode == 2 and said.stderr.startswith("usage: python -m edge_bridge deadletters"), arguments
    assert "no dead letter 7" in cli(parts, "drop", "7").stderr
    with parts.store.write() as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert f"expected {SCHEMA_VERSION}" in cli(parts, "list").stderr
    parts.store.path = str(tmp_path / "nowhere.db")
    assert "no such outbox" in cli(parts, "list").stderr and not (tmp_path / "nowhere.db").exists()
