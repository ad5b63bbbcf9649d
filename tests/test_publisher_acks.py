"""Acknowledgements and the spool's turn, with the publisher in this process: lost, late, of another spool, none."""
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from device import sensors, settings
from device.link import Link
from device.message import reading_text
from device.publisher import Publisher
from device.spool import Spool
from device.turn import Turn
from tests.publisher_rig import Bridge, Broker
from tests.publisher_rig import bridge as bridge
from tests.publisher_rig import broker as broker


def publish(broker: Broker, spool_path: Path, count: int, turn: Turn | None = None, wait_s: float = 20,
            open_spool: Callable[[str], Spool] = Spool) -> tuple[int, Spool]:
    """A run in this process: (exit code, its spool)."""
    config = settings.read(["--count", str(count), "--rate", "1000", "--device-id", "pi", "--wait", str(wait_s)], {})
    spool = open_spool(str(spool_path))
    publisher = Publisher(config, sensors.simulated(1), spool,
                          lambda post: Link("127.0.0.1", broker.port, "edgecloud-pi", post, ack_topic="sensor/ack/pi"),
                          turn)
    return publisher.run(), spool


def test_lost_messages_and_lost_acks_are_made_good(broker: Broker, tmp_path: Path) -> None:
    bridge = Bridge(broker.port, seed=3, lose=0.03)
    try:
        code, spool = publish(broker, tmp_path / "s.db", 200, Turn(window=50, in_flight=10, stall_s=0.1))
        assert bridge.seqs() == list(range(1, 201))
        assert (code, spool.first, spool.last) == (0, 201, 200)
    finally:
        bridge.close()


def test_a_missing_bridge_is_said_once(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert publish(broker, tmp_path / "s.db", 3, Turn(stall_s=0.1), wait_s=1)[0] == 3
    assert caplog.text.count("no acknowledgement comes on sensor/ack/pi: is the bridge running?") == 1


def test_a_retained_ack_of_another_spool_is_ignored(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    for name in ("old.db", "new.db"):  # a re-flashed card: same device, new file
        assert publish(broker, tmp_path / name, 20)[0] == 0
    spools = [spool for _, spool, _ in bridge.taken]
    assert bridge.seqs() == [*range(1, 21), *range(1, 21)] and len(set(spools)) == 2


def test_a_restored_older_copy_of_the_spool_loses_nothing(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    publish(broker, path, 20)
    shutil.copy(path, tmp_path / "image.db")
    publish(broker, path, 30)
    shutil.copy(tmp_path / "image.db", path)
    code, _ = publish(broker, path, 25)  # their seqs, 21 to 45, are taken: the bridge would call them repeats
    assert code == 0
    assert bridge.seqs() == [*range(1, 51), *range(21, 46)]
    assert len({spool for _, spool, _ in bridge.taken}) == 2


def test_what_was_just_made_is_spooled_even_without_a_wait(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    code, spool = publish(broker, tmp_path / "s.db", 7, wait_s=0)
    assert (code, spool.first, spool.last) == (3, 1, 7)


class FullAtFirst(Spool):
    """A spool whose disk is full for the first two commits."""

    refusals = 2

    def add(self, readings: list[str]) -> int:
        if readings and self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return super().add(readings)


def test_a_full_disk_is_waited_out_and_the_count_stays_exact(broker: Broker, bridge: Bridge, tmp_path: Path,
                                                             caplog: pytest.LogCaptureFixture) -> None:
    assert publish(broker, tmp_path / "s.db", 1500, open_spool=FullAtFirst)[0] == 0
    assert bridge.seqs() == list(range(1, 1501))
    assert caplog.text.count("database or disk is full; trying again") == 1


def test_what_the_bound_dropped_is_skipped_and_the_turn_goes_on(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    publish(broker, tmp_path / "s.db", 10)
    spool = Spool(str(tmp_path / "s.db"), max_readings=5)
    text = reading_text({"sensor2": 1}, 1.0, "pi")
    spool.add([text] * 8)
    spool.close()
    code, spool = publish(broker, tmp_path / "s.db", 1)
    assert code == 0 and spool.dropped == 3
    assert bridge.seqs() == [*range(1, 11), *range(14, 20)] and bridge.skipped == 3
