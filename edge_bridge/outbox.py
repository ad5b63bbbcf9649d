"""The outbox's intake: bridge.py commits each micro-batch here in one transaction; rows.py and shipments.py take it on.

Readings and events are kept as the bytes that came, with a receive number per device.
"""
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contract import payloads
from edge_bridge import deadletters
from edge_bridge.counters import Counters, Counts
from edge_bridge.handover import Committed, Handover
from edge_bridge.repeats import Repeats
from edge_bridge.schema import ROUTES, SERIES
from edge_bridge.store import Store
from edge_bridge.turns import Turns

MAX_DEAD_LETTER_BYTES = 4096
_INSERT = "INSERT INTO {route} (id, device, number, received_ms, payload, kafka) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass
class Intake:
    """What one micro-batch adds. rows: {route: [(device, received_ms, payload, kafka JSON or None)]}, in order;
    decoded: what was read of the readings, each in its place, or nothing;
    dead_letters: [(at_ms, reason, detail, origin, size_bytes, payload)]; replayed: ids of those taken in again."""

    rows: dict[str, list[tuple[str, int, bytes, str | None]]] = field(
        default_factory=lambda: {"readings": [], "events": []})
    decoded: list[payloads.Reading] = field(default_factory=list)
    dead_letters: list[tuple[int, str, str, str, int, bytes]] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)


class Outbox:
    """Commits micro-batches; knows the last receive number of each device and what was seen before. handover: takes
    what was committed to the scorer, if there is one."""

    def __init__(self, store: Store, counters: Counters, now_s: Callable[[], float] = time.time,
                 handover: Handover | None = None) -> None:
        self.store = store
        self.counters = counters
        db = store.read()
        self.turns = Turns(db.execute("SELECT device, spool, seq FROM spools"))
        self.repeats = {
            route: Repeats(db.execute("SELECT id, digests FROM seen WHERE route = ? ORDER BY id", (route,)))
            for route in ROUTES
        }
        self._opened_us = int(now_s() * 1_000_000)
        self._numbers: dict[str, int] = dict(db.execute("SELECT device, number FROM devices"))
        # A row's id is never given twice, although rows leave: what was scored or sealed is told by it.
        # Above scored_to also when all rows have left and the clock was set back: else nothing would be scored.
        self.next_id = max(self._opened_us, *(
            (db.execute(question).fetchone()[0] or 0) + 1 for question in (
                "SELECT max(id) FROM readings", "SELECT max(id) FROM events",
                "SELECT value FROM meta WHERE name = 'scored_to'")))
        self._opened_devices: set[str] = set()
        self._handover = handover
        self._last_reading_id = self.next_id - 1  # or any id between it and the next one

    def _number(self, route: str, device: str, staged: dict[str, int]) -> int:
        """The next receive number: from max(last + 1, microseconds since 1970) at each opening, then by one.

        A device that sends readings and events has a series of each: batches are told by theirs whether one is missing.
        """
        device += SERIES[route]
        if device in staged:
            number = staged[device] + 1
        elif device in self._opened_devices:
            number = self._numbers[device] + 1
        else:
            number = max(self._numbers.get(device, 0) + 1, self._opened_us)
        staged[device] = number
        return number

    def commit(self, intake: Intake) -> int:
        """Write the micro-batch; on disk when this returns (the first row's id). Raises sqlite3.Error: nothing written.

        The turns and repeats that were staged while it was put together go with it, or are forgotten with it.
        """
        numbers: dict[str, int] = {}
        next_id, inserts = self.next_id, {}
        for route, rows in intake.rows.items():
            inserts[route] = [
                (next_id + index, device, self._number(route, device, numbers), received_ms, payload, kafka)
                for index, (device, received_ms, payload, kafka) in enumerate(rows)]
            next_id += len(rows)
        try:
            seen_ids = self._write(intake, inserts, numbers)
        except BaseException:
            self.turns.forget()
            for repeats in self.repeats.values():
                repeats.forget()
            raise
        self._kept(numbers, seen_ids, intake.counts)
        self._hand_over(inserts["readings"], intake.decoded)
        first_id, self.next_id = self.next_id, next_id
        return first_id

    def _write(self, intake: Intake, inserts: dict[str, list[Any]], numbers: dict[str, int]) -> dict[str, int]:
        seen_ids = {}
        with self.store.write() as db:
            for route, rows in inserts.items():
                db.executemany(_INSERT.format(route=route), rows)
            db.executemany("INSERT OR REPLACE INTO devices VALUES (?, ?)", list(numbers.items()))
            db.executemany("INSERT OR REPLACE INTO spools VALUES (?, ?, ?)", self.turns.staged())
            for route, repeats in self.repeats.items():
                keys = repeats.staged()
                if keys:
                    cursor = db.execute("INSERT INTO seen (route, digests) VALUES (?, ?)", (route, keys))
                    seen_ids[route] = cursor.lastrowid or 0
                    db.execute("DELETE FROM seen WHERE route = ? AND id <= ?", (route, repeats.outlived()))
            intake.counts["", "dead_letters_dropped"] += deadletters.keep(db, intake.dead_letters)
            deadletters.strike_off(db, intake.replayed)
            self.counters.write(db, intake.counts)
        return seen_ids

    def _hand_over(self, rows: list[Any], decoded: list[payloads.Reading]) -> None:
        if not rows:
            return
        if self._handover and len(decoded) == len(rows):
            self._handover.put(self._last_reading_id, [
                Committed(row_id, device, number, received_ms, reading)
                for (row_id, device, number, received_ms, _, _), reading in zip(rows, decoded, strict=True)])
        self._last_reading_id = rows[-1][0]

    def _kept(self, numbers: dict[str, int], seen_ids: dict[str, int], counts: Counts) -> None:
        self._numbers.update(numbers)
        self._opened_devices.update(numbers)
        self.turns.keep()
        for route, repeats in self.repeats.items():
            repeats.keep(seen_ids.get(route, 0))
        self.counters.add(counts)
        self.store.witness.note(rows=counts["", "readings_in"] + counts["", "events_in"])
