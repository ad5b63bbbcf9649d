"""Readings on the device's own disk (SQLite): publisher.py adds them before it sends, and forgets what is acknowledged;
so does eyes/outlet.py with a camera's events.

Rows are numbered by one, across restarts. The file has a random id: with it, and the lowest number still held, the
bridge takes every reading once and in turn. What `add` returned survives a power cut (synchronous=FULL).
"""
import binascii
import os
import sqlite3
import time

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL, dropped INTEGER NOT NULL, set_aside INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS readings (seq INTEGER PRIMARY KEY AUTOINCREMENT, reading TEXT NOT NULL);
"""


# What SQLite says when it is not the file's fault: none of these makes a spool a corrupt one.
_CIRCUMSTANCES = ("locked", "unable to open", "readonly", "disk I/O error", "disk is full", "permission denied",
                  "locking protocol")


class SpoolError(Exception):
    """The spool cannot be used: what, and the next step."""


class Spool(object):
    """The spool file at `path`, holding at most `max_readings`: beyond that the oldest are dropped and counted.

    id: random, made with the file. first, last: lowest seq held and highest ever given; nothing is held when
    first > last. opened_last: `last` as the file was found. dropped: readings lost to the bound, ever.
    set_aside: files that were corrupt and were renamed.
    """

    def __init__(self, path, max_readings=1000000, busy_s=1.0):
        self.path = path
        self._max_readings = max_readings
        self._busy_s = busy_s
        self._db = None
        set_aside = 0
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            if self._is_corrupt():
                self._set_aside()
                set_aside = 1
            self._open(set_aside)
        except (OSError, sqlite3.OperationalError) as error:
            self._close_quietly()
            raise SpoolError("cannot use the spool %s: %s; %s" % (path, error, _advice(error)))
        self.opened_last = self.last

    def _connect(self):
        db = sqlite3.connect(self.path, timeout=self._busy_s, isolation_level=None)
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")  # one publisher per spool: the second is refused at the door
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA fullfsync=1")  # macOS: fsync alone does not reach the disk
            db.execute("PRAGMA checkpoint_fullfsync=1")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _is_corrupt(self):
        if not os.path.exists(self.path):
            return False
        try:
            self._db = self._connect()
            answer = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            self._db.executescript(_SCHEMA)
            self._db.execute("SELECT id, dropped, set_aside FROM spool").fetchone()
        except sqlite3.OperationalError as error:
            if any(circumstance in str(error) for circumstance in _CIRCUMSTANCES):
                raise
            answer = str(error)  # no such column, malformed schema: not a spool of ours
        except sqlite3.DatabaseError as error:
            answer = str(error)
        self._close_quietly()
        return answer != "ok"

    def _set_aside(self):
        """Rename the file and its journal: nothing is deleted, someone may want to look."""
        self._close_quietly()
        stamp = time.strftime("%Y%m%dT%H%M%S") + "-" + _random_id()[:4]
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.path + suffix):
                os.rename(self.path + suffix, "%s.corrupt-%s%s" % (self.path, stamp, suffix))

    def _open(self, set_aside):
        self._db = self._connect()
        self._db.executescript(_SCHEMA)
        row = self._db.execute("SELECT id, dropped, set_aside FROM spool").fetchone()
        if row is None:
            row = (_random_id(), 0, set_aside)
            self._db.execute("INSERT INTO spool VALUES (?, ?, ?)", row)
        self.id, self.dropped, self.set_aside = row
        given = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'readings'").fetchone()
        self.last = given[0] if given else 0
        lowest = self._db.execute("SELECT min(seq) FROM readings").fetchone()[0]
        self.first = self.last + 1 if lowest is None else lowest

    def add(self, readings):
        """Commit readings (texts), and what `forget` was told; returns the seq of the first.

        On sqlite3.OperationalError (disk full, say) nothing has changed: try again. A file that turned out corrupt is
        set aside and a new spool, with a new id, takes the readings.
        """
        return self._guarded(self._add, readings)

    def read(self, seq, limit):
        """Up to `limit` held readings from `seq` on: a list of (seq, text). A corrupt file: as with `add`."""
        return self._guarded(self._read, seq, limit)

    def _guarded(self, action, *arguments):
        try:
            return action(*arguments)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            set_aside = self.set_aside + 1
            self._set_aside()
            self._open(set_aside)
            self.opened_last = self.last
            return action(*arguments)

    def _read(self, seq, limit):
        return self._db.execute("SELECT seq, reading FROM readings WHERE seq >= ? ORDER BY seq LIMIT ?",
                                (max(seq, self.first), limit)).fetchall()

    def _add(self, readings):
        seq, last = self.last + 1, self.last + len(readings)
        first = max(self.first, last - self._max_readings + 1)
        dropped = self.dropped + first - self.first
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO readings VALUES (?, ?)", enumerate(readings, seq))
            self._db.execute("DELETE FROM readings WHERE seq < ?", (first,))
            if dropped > self.dropped:
                self._db.execute("UPDATE spool SET dropped = ?", (dropped,))
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.first, self.last, self.dropped = first, last, dropped
        return seq

    def forget(self, seq):
        """All up to `seq` is acknowledged: no longer held. The rows go with the next `add`; should they come back
        after a crash, they are sent again and the bridge knows them for repeats."""
        self.first = max(self.first, min(seq, self.last) + 1)

    def renew(self):
        """Take a new id and forget what the file held when it was opened: see publisher.py, an older copy."""
        renewed = _random_id()
        self._db.execute("UPDATE spool SET id = ?", (renewed,))
        self.id = renewed
        self.forget(self.opened_last)

    def close(self):
        """Commit what was forgotten and close the file."""
        if self._db is not None:
            self.add([])
            self._close_quietly()

    def _close_quietly(self):
        if self._db is not None:
            self._db.close()
            self._db = None


def _random_id():
    return binascii.hexlify(os.urandom(8)).decode("ascii")


def _advice(error):
    if "locked" in str(error):
        return "another publisher is using it: stop that one, or give this one its own with --spool"
    return "give another place with --spool"
