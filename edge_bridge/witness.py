"""The witness: how far the outbox had come, kept beside it in <outbox>.lock; written by outbox.py, rows.py and
shipments.py after each commit.

An outbox that is older than its witness was restored from a copy, or lost the end of its write-ahead log: salvage.py
says and counts what that means. The witness is never fsynced, so it may lag behind the outbox, but never be ahead.
"""
import logging
import os
import sqlite3
import threading
from typing import IO, NamedTuple

log = logging.getLogger(__name__)

_ROOM_BYTES = 128


class Progress(NamedTuple):
    """outbox: whose; rows: readings and events committed ever; gone: of these, delivered, dropped or lost; sealed: id
    of the last sealed message."""

    outbox: str
    rows: int
    gone: int
    sealed: int


def progress(db: sqlite3.Connection, outbox_id: str) -> Progress:
    """How far the outbox on disk has come."""
    rows, gone = db.execute(
        "SELECT sum(CASE WHEN name IN ('readings_in', 'events_in') THEN value ELSE 0 END),"
        " sum(CASE WHEN name IN ('delivered', 'refused', 'lost') OR name GLOB 'dropped.*' THEN value ELSE 0 END)"
        " FROM counters").fetchone()
    sealed = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'shipments'").fetchone()
    return Progress(outbox_id, rows or 0, gone or 0, sealed[0] if sealed else 0)


def read(lock_file: IO[str]) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    lock_file.seek(0)
    members = lock_file.read(_ROOM_BYTES).split()
    if len(members) != 4 or not all(number.isdecimal() for number in members[1:]):
        return None
    return Progress(members[0], *map(int, members[1:]))


class Witness:
    """before: what it said when the outbox was opened."""

    def __init__(self, lock_file: IO[str], outbox_id: str, db: sqlite3.Connection) -> None:
        self._file = lock_file
        self._lock = threading.Lock()
        self._failing = False
        self.before = read(lock_file)
        self._now = progress(db, outbox_id)

    @property
    def now(self) -> Progress:
        """What it says now."""
        return self._now

    def note(self, rows: int = 0, gone: int = 0, sealed: int = 0) -> None:
        """So many more rows were committed, or are gone; `sealed` is the last sealed message now."""
        with self._lock:
            now = self._now
            self._now = Progress(now.outbox, now.rows + rows, now.gone + gone, max(now.sealed, sealed))
            line = " ".join(map(str, self._now)).ljust(_ROOM_BYTES - 1) + "\n"
            try:
                os.pwrite(self._file.fileno(), line.encode(), 0)
                self._failing = False
            except OSError as error:  # the commit is on disk all the same
                if not self._failing:
                    log.warning("outbox: its witness %s cannot be written (%s)", self._file.name, error)
                self._failing = True
