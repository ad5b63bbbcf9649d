"""Rows of the outbox from their commit on: marked by anomaly.py, sealed by packer.py, or dropped by retention.py."""
import sqlite3
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import takewhile
from typing import NamedTuple

from contract import numbers
from contract.alerts import Classified
from edge_bridge import deadletters
from edge_bridge.counters import Counters
from edge_bridge.handover import Handover
from edge_bridge.schema import ROUTES
from edge_bridge.store import Store

EVERY_ID = 1 << 62  # above any row's id
EARLIEST_MS = 1_577_836_800_000  # 2020


class StoredRow(NamedTuple):
    """A committed reading or event. payload: as it came; kafka: JSON of its origin or None; mark: as in batch.Row."""

    id: int
    device: str
    number: int
    received_ms: int
    payload: bytes
    kafka: str | None
    mark: str | None


_COLUMNS = "SELECT id, device, number, received_ms, payload, kafka, mark FROM {route} "


def clock_was_set(received_ms: int) -> bool:
    """Did the clock say a possible time then? A Pi without a network starts at 1970: such a row's age is unknown."""
    return received_ms >= EARLIEST_MS


class Rows:
    """The tables `readings` and `events`, the marks, and the alerts that wait to be sealed."""

    def __init__(self, store: Store, counters: Counters, scoring: bool) -> None:
        self._store, self._counters = store, counters
        self._scoring = scoring
        self._claimed = (0, -1)
        self.handover = Handover()
        self.scored_to: int = store.read().execute("SELECT value FROM meta WHERE name = 'scored_to'").fetchone()[0]
        self._settled_to = self.scored_to

    def unscored(self, most: int, to_id: int | None = None) -> list[StoredRow]:
        """The oldest readings that were not scored yet, up to this id, in the order of their commit."""
        return self.read("readings", self.scored_to + 1, EVERY_ID if to_id is None else to_id + 1, most)

    def read(self, route: str, from_id: int, before_id: int, most: int) -> list[StoredRow]:
        """Up to `most` rows of a route with from_id <= id < before_id, oldest first."""
        found = self._store.read().execute(
            _COLUMNS.format(route=route) + "WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (from_id, before_id, most))
        return list(map(StoredRow._make, found))

    def oldest(self, route: str, from_id: int, before_id: int) -> tuple[int, int] | None:
        """(id, received_ms) of the oldest row in that range; None when there is none."""
        found: tuple[int, int] | None = self._store.read().execute(
            f"SELECT id, received_ms FROM {route} WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (from_id, before_id)).fetchone()
        return found

    def waiting(self, route: str) -> int:
        """How many rows of a route wait to be sealed."""
        return self._counters.value("", route + "_in") - self._counters.value("", route + "_sealed")

    def count_from(self, first_id: int) -> int:
        """How many unsealed rows of all routes have at least this id."""
        return sum(self._store.read().execute(f"SELECT count(*) FROM {route} WHERE id >= ?", (first_id,)).fetchone()[0]
                   for route in ROUTES)

    def is_scored(self, row_id: int) -> bool:
        """Has the detector seen this reading, or is there none?"""
        return row_id <= self.settled_to()

    def settled_to(self) -> int:
        """Up to this id marks are on disk and change no more: the detector has been there, or there is none."""
        return self._settled_to if self._scoring else EVERY_ID

    def mark(self, last_id: int, marks: Mapping[int, str], alerts: list[tuple[int, str, Classified]],
             states: Mapping[tuple[str, str], str]) -> int:
        """Commit what a detector found, in one transaction: marks by row id, the alerts (row id, device, classified)
        that go with them, detector states by (device, field). Returns how many alerts were raised.

        A row that was sealed meanwhile went on unclassified: it gets no mark, and raises no alert any more.
        """
        counts: Counter[tuple[str, str]] = Counter()
        scored_before = self.scored_to
        try:
            raised = self._mark(last_id, marks, alerts, states, counts)
        except BaseException:
            self.scored_to = scored_before
            raise
        self._settled_to = last_id  # not before the commit: who reads without the lock would find no marks yet
        self._counters.add(counts)
        return len(raised)

    def _mark(self, last_id: int, marks: Mapping[int, str], alerts: list[tuple[int, str, Classified]],
              states: Mapping[tuple[str, str], str], counts: Counter[tuple[str, str]],
              ) -> list[tuple[int, str, Classified]]:
        with self._store.write() as db:
            first, last = self._claimed
            gone = {row_id for row_id, _, _ in alerts if first <= row_id <= last}
            gone |= _set_marks(db, {row_id: mark for row_id, mark in marks.items() if not first <= row_id <= last})
            raised = [alert for alert in alerts if alert[0] not in gone]
            for _, device, classified in raised:
                counts["", "alerts_in"] += 1
                counts[device, "anomalies"] += 1 if classified.anomaly else 0
            db.executemany("INSERT INTO alerts VALUES (?, ?, ?)",
                           [(row_id, device, numbers.dumps(list(classified))) for row_id, device, classified in raised])
            db.executemany("INSERT OR REPLACE INTO detectors VALUES (?, ?, ?)",
                           [(device, name, state) for (device, name), state in states.items()])
            db.execute("UPDATE meta SET value = ? WHERE name = 'scored_to'", (last_id,))
            self._counters.write(db, counts)
            self.scored_to = last_id
        return raised

    def claim(self, first_id: int, last_id: int) -> int:
        """The packer is about to seal these readings: from now on their marks are final. Returns up to which id
        readings are classified."""
        with self._store.write():
            self._claimed = first_id, last_id
            self._left_unscored("readings", last_id)
            return self.scored_to if self._scoring else last_id

    def release(self) -> None:
        """The claimed readings are sealed and gone, or may be marked again."""
        with self._store.write():
            self._claimed = 0, -1

    def _left_unscored(self, route: str, last_id: int) -> None:
        """Rows up to this id leave: if some are not scored, the scorer takes what remains from the disk."""
        if route == "readings" and last_id > self.scored_to:
            self.handover.empty()

    def dead_letter(self, route: str, row: StoredRow, reason: str, detail: str) -> None:
        """Move one row to the dead letters; unless it is gone already."""
        origin = row.kafka or numbers.dumps({"device": row.device})
        with self._store.write() as db:
            if not db.execute(f"DELETE FROM {route} WHERE id = ?", (row.id,)).rowcount:
                return
            self._left_unscored(route, row.id)
            counts = {("", "dead_lettered"): 1, ("", f"dead_lettered.{reason}"): 1, (row.device, "refused"): 1,
                      ("", route + "_sealed"): 1}
            counts["", "dead_letters_dropped"] = deadletters.keep(
                db, [(row.received_ms, reason, detail, origin, len(row.payload), row.payload)])
            self._counters.write(db, counts)
        self._counters.add(counts)
        self._store.witness.note(gone=1)

    def drop(self, route: str, before_id: int, before_ms: int | None, most: int, reason: str) -> int:
        """Drop the oldest unsealed rows of a route (those below before_id, and if before_ms is given, from the oldest
        on while received before it), at most `most`, counted as `dropped.<reason>`. Returns how many."""
        with self._store.write() as db:
            found = db.execute(f"SELECT id, device, received_ms FROM {route} WHERE id < ? ORDER BY id LIMIT ?",
                               (before_id, most)).fetchall()
            doomed = found
            if before_ms is not None:
                doomed = list(takewhile(lambda row: clock_was_set(row[2]) and row[2] < before_ms, found))
            if not doomed:
                return 0
            db.execute(f"DELETE FROM {route} WHERE id BETWEEN ? AND ?", (doomed[0][0], doomed[-1][0]))
            self._left_unscored(route, doomed[-1][0])
            counts = Counter((device, f"dropped.{reason}") for _, device, _ in doomed)
            counts["", route + "_sealed"] = len(doomed)
            self._counters.write(db, counts)
        self._counters.add(counts)
        self._store.witness.note(gone=len(doomed))
        return len(doomed)

    def drop_alerts(self, most: int, reason: str) -> int:
        """Drop the oldest unsealed alerts, counted as `alerts_dropped.<reason>`. Returns how many."""
        with self._store.write() as db:
            doomed = db.execute("SELECT id, device FROM alerts ORDER BY id LIMIT ?", (most,)).fetchall()
            db.executemany("DELETE FROM alerts WHERE id = ?", [(row_id,) for row_id, _ in doomed])
            counts = Counter((device, f"alerts_dropped.{reason}") for _, device in doomed)
            counts["", "alerts_sealed"] = len(doomed)
            self._counters.write(db, counts)
        self._counters.add(counts)
        return len(doomed)

    def detector_states(self) -> dict[tuple[str, str], str]:
        """{(device, field): state} as last committed."""
        rows = self._store.read().execute("SELECT device, field, state FROM detectors")
        return {(device, name): state for device, name, state in rows}

    def waiting_alerts(self, most: int) -> list[tuple[int, str, Classified]]:
        """The oldest alerts that are not sealed: (row id, device, classified)."""
        rows = self._store.read().execute("SELECT id, device, classified FROM alerts ORDER BY id LIMIT ?", (most,))
        return [(row_id, device, _classified(text)) for row_id, device, text in rows]


def _set_marks(db: sqlite3.Connection, marks: Mapping[int, str]) -> set[int]:
    """Mark these readings; the ids of those that are no longer there."""
    if not marks:
        return set()
    marked = db.executemany("UPDATE readings SET mark = ? WHERE id = ?",
                            [(mark, row_id) for row_id, mark in marks.items()]).rowcount
    if marked == len(marks):
        return set()
    there = db.execute("SELECT id FROM readings WHERE id BETWEEN ? AND ?", (min(marks), max(marks)))
    return set(marks) - {row_id for row_id, in there}


def _classified(text: str) -> Classified:
    members = numbers.loads(text)
    return Classified(*members[:5], *[Decimal(v) if isinstance(v, int) and not isinstance(v, bool) else v
                                      for v in members[5:]])
