"""The outbox file's tables and their versions; store.py brings each file forward when it opens it, salvage.py fills a
new one."""
import logging
import os
import sqlite3

log = logging.getLogger(__name__)

# The tables of rows, and the field that every message of each route must carry.
REQUIRED = {"readings": "sensor2", "events": "persons_detected"}
ROUTES = tuple(REQUIRED)
SERIES = {"readings": "", "events": "\x1fevents"}  # after a device's name in `devices`; no name has a control character

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
# {version: what makes the next one of it}, in one transaction; a new file is version 1 and goes the same way.
MIGRATIONS = {
    1: "CREATE TABLE replays (dead_letter INTEGER PRIMARY KEY)",
}
SCHEMA_VERSION = 1 + len(MIGRATIONS)


class StoreError(Exception):
    """The outbox file cannot be used as it is; says what to do."""


def prepare(db: sqlite3.Connection, path: str) -> str:
    """Make the tables, or bring them forward to SCHEMA_VERSION, in one transaction; the outbox's id. path: to name it.

    Raises StoreError for a file of a newer version.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"the outbox {path} has schema {version}, this bridge knows {SCHEMA_VERSION}; "
                         "start the newer version of the bridge that wrote it")
    if version < SCHEMA_VERSION:
        db.execute("BEGIN IMMEDIATE")
        try:
            _bring_forward(db, version)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if version:
            log.info("outbox: schema %d of %s brought forward to %d", version, path, SCHEMA_VERSION)
    return str(db.execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()[0])


def _bring_forward(db: sqlite3.Connection, version: int) -> None:
    if version == 0:
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('outbox', ?)", (os.urandom(9).hex(),))
        db.execute("INSERT INTO meta VALUES ('scored_to', 0)")
        version = 1
    for older in range(version, SCHEMA_VERSION):
        for statement in MIGRATIONS[older].split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
