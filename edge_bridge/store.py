"""The outbox file: how it is opened, locked, written and read; outbox.py, rows.py and shipments.py use its tables.

What is found damaged while it is used stops the bridge; salvage.py recovers it when the bridge starts again.
"""
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edge_bridge.schema import StoreError, prepare
from edge_bridge.witness import Witness

log = logging.getLogger(__name__)

WAL_LIMIT_BYTES = 16 * 1024 * 1024  # the write-ahead log is cut back to this when it begins anew
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DamagedOutbox(StoreError):
    """The outbox file is damaged. Not a sqlite3.Error: trying again does not help, a new start recovers it."""


def is_damage(error: BaseException) -> bool:
    """Does this error say that the file itself is broken, and not its disk, its lock or the statement?"""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def marker_path(path: str) -> Path:
    """Where it is noted that this outbox has to be salvaged before it is used."""
    return Path(path + ".salvage")


class _Cursor(sqlite3.Cursor):
    """A cursor that tells damage from everything else that can go wrong."""

    def execute(self, *arguments: Any) -> "_Cursor":
        with _told_from_damage(self.connection):
            super().execute(*arguments)
            return self

    def executemany(self, *arguments: Any) -> "_Cursor":
        with _told_from_damage(self.connection):
            super().executemany(*arguments)
            return self

    def fetchone(self) -> Any:
        with _told_from_damage(self.connection):
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with _told_from_damage(self.connection):
            return super().fetchall()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return iter(self.fetchall())


class _Connection(sqlite3.Connection):
    """A connection to one outbox; damage that it meets is noted beside the file, and raised as DamagedOutbox."""

    path = ""

    def execute(self, *arguments: Any) -> _Cursor:
        return self.cursor(_Cursor).execute(*arguments)

    def executemany(self, *arguments: Any) -> _Cursor:
        return self.cursor(_Cursor).executemany(*arguments)


@contextmanager
def _told_from_damage(connection: Any) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        note_damage(connection.path)
        raise DamagedOutbox(f"the outbox {connection.path} is damaged ({error}); the bridge stops. Start it again: the "
                            "file is set aside then, and what can be read of it goes into a new one") from error


def note_damage(path: str) -> None:
    """Have the next start salvage this outbox."""
    try:
        marker_path(path).touch()
    except OSError as error:
        log.error("outbox: damage cannot be noted in %s (%s)", marker_path(path), error)


class Store:
    """One outbox file: one writing connection under a lock, one reading connection per thread.

    A transaction that `write` has left without an exception is on disk, not in a cache: see `connect`.
    lock_file: from `lock`, when the caller holds it already. witness: what is known of the file outside of it.
    """

    def __init__(self, path: str, lock_file: IO[str] | None = None) -> None:
        self.path = path
        self._lock_file = lock_file or lock(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        try:
            self._writer = connect(path)
            self._open.append(self._writer)
            self.outbox_id = prepare(self._writer, path)
            sync_directory(path)  # a new file's name is on disk before anything is acknowledged
            self.witness = Witness(self._lock_file, self.outbox_id, self._writer)
        except BaseException:
            self.close(unlock=lock_file is None)
            raise

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

    @contextmanager
    def write_if_free(self) -> Iterator[sqlite3.Connection | None]:
        """As `write`, but None when another thread is writing: for what can as well be done later."""
        if not self._lock.acquire(blocking=False):
            yield None
            return
        try:
            with self.write() as db:
                yield db
        finally:
            self._lock.release()

    def read(self) -> sqlite3.Connection:
        """This thread's reading connection: it never waits for a commit."""
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            connection = connect(self.path)
            connection.execute("PRAGMA query_only = ON")
            self._local.reader = connection
            self._open.append(connection)
        return connection

    def close(self, unlock: bool = True) -> None:
        """Close every connection; the last one moves the write-ahead log into the file."""
        for connection in reversed(self._open):
            connection.close()
        if unlock:
            self._lock_file.close()


def connect(path: str) -> sqlite3.Connection:
    """A connection whose commits are on disk when they return."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, factory=_Connection)
    connection.path = path
    try:
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # a new file: it must be able to shrink
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone does not reach the disk
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def lock(path: str) -> IO[str]:
    """Hold <path>.lock while this process lives: two bridges on one outbox would number and seal against each other."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock_file = open(os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o644), "r+")  # noqa: SIM115 - held as long as it lives
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock_file.close()
        raise StoreError(f"another bridge uses the outbox {path}; stop it, or set OUTBOX to another file") from error
    return lock_file


def sync_directory(path: str) -> None:
    """Make the names beside this file as durable as their contents."""
    directory = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
