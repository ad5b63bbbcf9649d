"""The pace of the uplink: lanes and their shares, IoT Core's rates, back-off, and receipts that are only slow."""
import time
from collections.abc import Callable

import pytest

from edge_bridge.alarms import Alarms
from edge_bridge.pacing import Bucket, full_jitter_s
from edge_bridge.receipts import Receipts
from edge_bridge.shipments import BACKFILL, LIVE
from tests.bridge_rig import until
from tests.uplink_rig import Line
from tests.uplink_rig import line as line


def seal(one: Line, count: int, lane: str, size_bytes: int = 1, first: int = 0) -> None:
    """Seal messages of so many bytes, without rows."""
    for index in range(first, first + count):
        one.parts.shipments.seal(f"{index:024d}", b"x" * size_bytes, route="readings", lane=lane, counts={"a": 1},
                                 oldest_ms=0, row_ids=[])


def test_live_data_leaves_backfill_its_share(line: Callable[..., Line]) -> None:
    one, lanes = line(), []
    seal(one, 30, LIVE)
    seal(one, 10, BACKFILL, first=30)
    for _ in range(20):
        shipment = one.uplink._outgoing._next()
        assert shipment
        lanes.append(shipment.lane)
        shipment.due_s = float("inf")
    assert lanes.count(BACKFILL) == 4 and lanes[4] == BACKFILL


def test_the_budget_is_kept(line: Callable[..., Line]) -> None:
    one = line()
    seal(one, 150, BACKFILL, size_bytes=100)
    began_s = time.monotonic()
    one.connection.connect()
    until(lambda: len(one.connection.tokens()) == 150, "all")
    assert time.monotonic() - began_s > (150 - 10) / 100, "more than 100 publishes a second"


def test_big_messages_are_held_to_the_byte_rate(line: Callable[..., Line]) -> None:
    one = line()
    seal(one, 12, BACKFILL, size_bytes=120_000)
    began_s = time.monotonic()
    one.connection.connect()
    until(lambda: len(one.connection.tokens()) == 12, "all")
    assert time.monotonic() - began_s > (12 * 120_000 - 2 * 131_072) / (512 * 1024)


def test_a_bucket_lends_once_and_waits_for_it_to_be_paid_back() -> None:
    now_s = [0.0]
    bucket = Bucket(10, 5, lambda: now_s[0])
    assert bucket.ready_in_s() == 0.0
    bucket.take(25)
    assert bucket.ready_in_s() == pytest.approx(2.1)
    now_s[0] = 100.0
    assert bucket.tokens() == 5


def test_back_off_grows_to_its_end_and_is_jittered() -> None:
    waits = [full_jitter_s(attempt, 0.5, 60.0) for attempt in (1, 3, 50) for _ in range(200)]
    assert max(waits[:200]) <= 1.0 and max(waits[200:400]) <= 4.0 and 30.0 < max(waits) <= 60.0
    assert min(waits[400:]) < 20.0


def test_a_late_receipt_is_waited_for_while_those_of_earlier_messages_come() -> None:
    now_s = [0.0]
    receipts = Receipts(10.0, Alarms(), lambda what, seconds: None, lambda: now_s[0])
    for at, name in enumerate(("first", "second", "third", "fourth")):
        now_s[0] = float(at)
        receipts.published(name, 1, accepted_before=False)
    now_s[0] = 14.0
    assert not receipts.is_coming("second", "readings")  # silence
    receipts.came("first", "readings")
    assert receipts.is_coming("second", "readings") and not receipts.is_coming("second", "alerts")
    receipts.came("third", "readings")
    assert not receipts.is_coming("second", "readings") and receipts.is_coming("fourth", "readings")  # overtaken
    now_s[0] = 25.0
    assert not receipts.is_coming("fourth", "readings")  # silence again
    assert not receipts.is_coming("of an earlier process", "readings")
