"""The outbox file: its tables, how it is opened and locked; outbox.py, rows.py and shipments.py use it."""
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

SCHEMA_VERSION = 1

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE readings (id INTEGER PRIMARY KEY, device TEXT NOT NULL, number INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, payload BLOB NOT NULL, kafka TEXT, mark TEXT);
CREATE TABLE events (id INTEGER PRIMARY KEY, device TEXT NOT NULL, number INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, payload BLOB NOT NULL, kafka TEXT, mark TEXT);
CREATE TABLE devices (device TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE spools (device TEXT, spool TEXT, seq INTEGER NOT NULL, PRIMARY KEY (device, spool)) WITHOUT ROWID;
CREATE TABLE seen (id INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, digests BLOB NOT NULL);
CREATE TABLE alerts (id INTEGER PRIMARY KEY, device TEXT NOT NULL, classified TEXT NOT NULL);
CREATE TABLE detectors (device TEXT, field TEXT, state TEXT NOT NULL, PRIMARY KEY (device, field)) WITHOUT ROWID;
CREATE TABLE shipments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, route TEXT NOT NULL,
    lane TEXT NOT NULL, counts TEXT NOT NULL, oldest_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0, sent_ms INTEGER, sealed BLOB NOT NULL);
CREATE TABLE dead_letters (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, origin TEXT NOT NULL, size_bytes INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE counters (device TEXT, name TEXT, value INTEGER NOT NULL, PRIMARY KEY (device, name)) WITHOUT ROWID;
"""
INSERT_DEAD_LETTER = (
    "INSERT INTO dead_letters (at_ms, reason, detail, origin, size_bytes, payload) VALUES (?, ?, ?, ?, ?, ?)")


class StoreError(Exception):
    """The outbox file cannot be used as it is; says what to do."""


class Store:
    """One outbox file: one writing connection under a lock, one reading connection per thread.

    A transaction that `write` has left without an exception is on disk, not in a cache: see `_connect`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock_file = _lock(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._writer = _connect(path)
        try:
            self.outbox_id = self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> str:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"the outbox {self.path} has schema {version}, this bridge knows {SCHEMA_VERSION}; "
                             "start the newer version of the bridge that wrote it")
        if version == 0:
            with self.write() as db:
                for statement in _TABLES.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('outbox', ?)", (os.urandom(9).hex(),))
                db.execute("INSERT INTO meta VALUES ('scored_to', 0)")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            _sync_directory(self.path)
        return str(self._writer.execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()[0])

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone in this process: committed to disk at the end, rolled back on any exception."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def read(self) -> sqlite3.Connection:
        """This thread's reading connection: it never waits for a commit."""
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            connection = _connect(self.path)
            connection.execute("PRAGMA query_only = ON")
            self._local.reader = connection
            self._readers.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection; the last one moves the write-ahead log into the file."""
        for connection in [*self._readers, self._writer]:
            connection.close()
        self._lock_file.close()


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only: it must be able to shrink
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone does not reach the disk
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    return connection


def _lock(path: str) -> IO[str]:
    """Hold <path>.lock while this process lives: two bridges on one outbox would number and seal against each other."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock_file = open(path + ".lock", "w")  # noqa: SIM115 - held as long as the store is open
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock_file.close()
        raise StoreError(f"another bridge uses the outbox {path}; stop it, or set OUTBOX to another file") from error
    return lock_file


def _sync_directory(path: str) -> None:
    """Make the new file's name as durable as its contents."""
    directory = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
