"""The hand-over of committed readings to the scorer: in order, bounded, and the same marks as by way of the disk."""
import json
import random
from pathlib import Path
from typing import Any

import pytest

from contract import payloads
from contract.batch import ANOMALY
from edge_bridge.anomaly import Scorer
from edge_bridge.bridge import Bridge
from edge_bridge.detectors import Verdict
from edge_bridge.handover import Committed, Handover, next_unscored
from edge_bridge.inbox import Inbox, Message
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.rows import EVERY_ID
from tests.outbox_rig import Parts, Source
from tests.scoring_rig import Above


class Wary(Above):
    """Calls what is above 10, and what is twice the last one, an anomaly: its verdicts hang on the order."""

    def update(self, value: float, at_ms: int) -> Verdict:
        last = self.seen[-1] if self.seen else 0
        super().update(value, at_ms)
        return Verdict(value > 10 or value == 2 * last, -value)

    def state(self) -> str:
        return ",".join(str(value) for value in self.seen[-3:])


class HandedOver(Parts):
    """An outbox whose intake hands on what it has decoded; most: readings held at most, 0 for none."""

    def __init__(self, path: Path, most: int = 10_000) -> None:
        super().__init__(path, scoring=True)
        self.rows.handover = Handover(most)
        self.outbox = Outbox(self.store, self.counters, lambda: self.now_s, handover=self.rows.handover)

    def take_in(self, *readings: tuple[str, float], events: int = 0, decoded: bool = True) -> None:
        """Commit readings of (device, sensor2), as bridge.py does, and some events with them."""
        intake = Intake()
        for device, value in readings:
            payload = json.dumps({"timestamp": 1_800_000_000.5, "sensor2": value, "sensor1": 20}).encode()
            intake.rows["readings"].append((device, int(self.now_s * 1000), payload, None))
            intake.decoded += [payloads.read(payload)] if decoded else []
            intake.counts["", "readings_in"] += 1
        for _ in range(events):
            intake.rows["events"].append(("camera", int(self.now_s * 1000), b"{}", "[]"))
        self.outbox.commit(intake)

    def spoil(self) -> None:
        """Make all rows on disk say 1000: whoever reads them there is found out."""
        with self.store.write() as db:
            db.execute("UPDATE readings SET payload = ?", (b'{"timestamp": 1, "sensor2": 1000}',))

    def next(self, most: int = 100) -> list[float]:
        """sensor2 of the next unscored readings, which are scored by this."""
        rows = next_unscored(self.rows, most)
        if rows:
            self.rows.mark(rows[-1].id, {}, [], {})
        return [float(row.reading.values["sensor2"]) for row in rows if row.reading]


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = HandedOver(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


def scorer_of(parts: Parts) -> Scorer:
    return Scorer(parts.rows, Wary, fields=("sensor2",), alert_all=False, raised=lambda: None)


def rows(*ids: int) -> list[Committed]:
    return [Committed(row_id, "a", row_id, 0, None) for row_id in ids]


def ids(taken: list[Committed]) -> list[int]:
    return [one.id for one in taken]


def test_what_is_held_is_taken_in_order_and_only_what_comes_next() -> None:
    held = Handover()
    held.put(10, rows(11, 12, 13))
    held.put(13, rows(17, 18))  # 14 to 16 were events
    assert held.take(9, 10) == [] and held.begins_after() == 10
    assert ids(held.take(10, 2)) == [11, 12] and ids(held.take(12, 10)) == [13, 17, 18]
    assert held.take(18, 10) == [] and held.begins_after() is None


def test_what_was_scored_by_way_of_the_disk_is_passed_over() -> None:
    held = Handover()
    held.put(10, rows(11, 12, 13))
    held.put(13, rows(14))
    assert ids(held.take(12, 1)) == [13] and ids(held.take(13, 1)) == [14]
    held.put(14, rows(15))
    assert held.take(15, 5) == [] and held.begins_after() is None


def test_when_there_is_no_room_the_newest_are_left_to_the_disk() -> None:
    held = Handover(most=3)
    held.put(0, rows(1, 2))
    held.put(2, rows(3, 4))
    assert ids(held.take(0, 1)) == [1] and ids(held.take(1, 10)) == [2] and held.take(2, 10) == []
    held.put(4, rows(5, 6, 7))
    assert held.take(2, 10) == [] and held.begins_after() == 4 and ids(held.take(4, 10)) == [5, 6, 7]


def test_readings_go_from_hand_to_hand_and_not_by_way_of_the_disk(parts: HandedOver) -> None:
    parts.take_in(("a", 1), ("b", 2), events=3)
    parts.take_in(("a", 3), events=1)
    parts.spoil()
    assert parts.next(2) == [1, 2] and parts.next() == [3] and parts.next() == []


def test_the_intake_hands_on_what_it_took_in_and_nothing_else(parts: HandedOver) -> None:
    readings, events = Source("readings"), Source("events")

    def message(source: Source, payload: bytes, offset: int) -> Message:
        origin: Any = ("sensor/data/a",) if source is readings else ("edge-data", 0, offset, 1_800_000_000_000)
        return Message(source, origin, payload, len(payload), 1, 0)

    contents = [b'{"timestamp": 1800000000.%d, "sensor2": %d}' % (n, n) for n in range(1, 5)]
    event = b'{"device_id": "camera-01", "timestamp": 1800000000, "persons_detected": 5}'
    intake = Bridge(Inbox(), parts.outbox, None, topic="sensor/data", device_id="pi", committed=lambda _: None)
    intake.take_in([message(readings, contents[0], 0), message(events, event, 1), message(readings, b"{", 0),
                    message(readings, contents[1], 0), message(readings, contents[0], 0)])  # the last is a repeat
    intake.take_in([message(events, event, 2)])
    intake.take_in([message(readings, contents[2], 0)])
    parts.spoil()
    assert parts.next() == [1, 2, 3]


def test_what_was_not_handed_over_comes_from_the_disk_in_between(tmp_path: Path) -> None:
    parts = HandedOver(tmp_path / "outbox.db", most=2)
    parts.take_in(("a", 1), decoded=False)
    parts.take_in(("a", 2), ("a", 3))
    parts.take_in(("a", 4))  # no room for it
    assert [parts.next() for _ in range(2)] == [[1], [2, 3]]
    parts.take_in(("a", 5), events=2)
    parts.take_in(("a", 6))
    parts.take_in(("a", 7), decoded=False)
    assert [parts.next() for _ in range(4)] == [[4], [5, 6], [7], []]
    parts.store.close()


def test_a_crash_leaves_readings_unscored_and_not_lost(tmp_path: Path) -> None:
    first = HandedOver(tmp_path / "outbox.db")
    first.take_in(("a", 1), ("a", 2), ("a", 3))
    assert first.next(1) == [1]
    first.store.close()
    second = HandedOver(tmp_path / "outbox.db")
    second.take_in(("a", 4))
    assert second.next() == [2, 3] and second.next() == [4]
    second.store.close()


def test_what_has_left_the_outbox_unscored_is_not_scored_any_more(parts: HandedOver) -> None:
    parts.take_in(("a", 20), ("a", 30), ("a", 40))
    oldest, _ = parts.rows.oldest("readings", 0, EVERY_ID) or (0, 0)
    parts.rows.drop("readings", EVERY_ID, None, 1, "size")
    assert parts.next(1) == [30] and oldest not in [row.id for row in parts.rows.unscored(10)]
    parts.take_in(("a", 50))
    parts.now_s += 20
    assert parts.packer.seal_rows("backfill", everything=True), "unclassified: the scorer was too slow"
    parts.take_in(("a", 60))
    assert parts.next() == [60] and parts.next() == []


def test_a_reading_that_is_being_sealed_unclassified_raises_no_alert_later(parts: HandedOver) -> None:
    parts.take_in(("a", 20), ("a", 30), ("a", 40))
    scorer = scorer_of(parts)
    first, second, _ = parts.rows.unscored(10)
    parts.rows.claim(first.id, second.id)
    assert scorer.score_round()
    parts.rows.release()
    assert [int(c.value) for _, _, c in parts.rows.waiting_alerts(10)] == [40]
    assert [row.mark for row in parts.rows.read("readings", 0, EVERY_ID, 9)] == [None, None, ANOMALY]


def test_marks_of_rows_that_have_gone_are_told_from_the_others(parts: HandedOver) -> None:
    parts.take_in(*[("a", 20 + i) for i in range(5)])
    scorer = scorer_of(parts)
    taken = next_unscored(parts.rows, 10)
    with parts.store.write() as db:  # while the detector is at work
        db.execute("DELETE FROM readings WHERE id IN (?, ?)", (taken[1].id, taken[3].id))
    parts.rows.handover.put(taken[0].id - 1, taken)
    assert scorer.score_round()
    assert [int(c.value) for _, _, c in parts.rows.waiting_alerts(10)] == [20, 22, 24]


@pytest.mark.parametrize("seed", range(6))
def test_marks_alerts_and_states_are_those_that_come_by_way_of_the_disk(seed: int, tmp_path: Path) -> None:
    """Commits, rounds and restarts in any order; one outbox hands over much, one little, one nothing."""
    told = []
    for most in (10_000, 7, 0):
        chance = random.Random(seed)
        path = tmp_path / f"{most}.db"
        parts, scorer = HandedOver(path, most), None
        for _ in range(60):
            scorer = scorer or scorer_of(parts)
            does = chance.random()
            parts.now_s += chance.choice((0.1, 30))
            if does < 0.6:
                parts.take_in(*[(chance.choice("abc"), chance.choice((1, 2, 4, 20, 30)))
                                for _ in range(chance.randrange(1, 9))], events=chance.randrange(3),
                              decoded=chance.random() < 0.8)
            elif does < 0.95:
                scorer._per_round = chance.choice((1, 3, 50))
                scorer.score_round()
            else:
                parts.store.close()
                now_s = parts.now_s
                parts, scorer = HandedOver(path, most), None
                parts.now_s = now_s
        scorer = scorer or scorer_of(parts)
        while scorer.score_round():
            pass
        db = parts.store.read()
        told.append([db.execute(f"SELECT {what}").fetchall() for what in (
            "device, payload, mark FROM readings ORDER BY id", "device, field, state FROM detectors ORDER BY 1, 2",
            "device, classified FROM alerts ORDER BY id")])
        assert {mark for _, _, mark in told[-1][0]} == {None, ANOMALY}
        parts.store.close()
    assert told[0] == told[1] == told[2]
