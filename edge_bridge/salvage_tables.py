"""Reads what can be read of a damaged outbox into a new one, table by table; called by salvage.py.

Damage is met page by page: what lies before and after a page that cannot be read is still found by its id.
"""
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from edge_bridge.schema import ROUTES

_BY_ID = {"readings": "id", "events": "id", "alerts": "id", "shipments": "id", "dead_letters": "id", "seen": "id",
          "replays": "dead_letter"}
_BY_NAME = {"devices": "device", "spools": "device, spool", "detectors": "device, field", "counters": "device, name",
            "meta": "name", "sqlite_sequence": "name"}
_TYPES = {"INTEGER": int, "TEXT": str, "BLOB": bytes}
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR,
               sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM)
_TOP_ID = (1 << 63) - 1
_MOST_NUMBER = 1 << 53  # microseconds since 1970 in the year 2255: what is above is no id or number of ours
_AT_ONCE = 64
Row = tuple[Any, ...]


@dataclass
class Recovered:
    """counts: {table: rows that are in the new outbox}; damaged: tables of which something could not be read;
    readings, events: how many of them wait, in rows and in sealed messages."""

    counts: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    waiting: int = 0


class _Table:
    """One table of the damaged file. damaged: is set when something of it could not be read."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self._db, self._name = db, name
        self.damaged = False
        self.columns: list[str] = []

    def _select(self, rest: str, *values: int) -> list[Row] | None:
        """None: not readable."""
        try:
            cursor = self._db.execute(f"SELECT * FROM {self._name} {rest}", values)
            self.columns = [column[0] for column in cursor.description]
            return cursor.fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _UNREADABLE:
                raise
            self.damaged = True
            return None

    def _run(self, select: Callable[[int, int], list[Row] | None], at: int, down: bool) -> Iterator[Row | None]:
        """Rows from an id on, many at a time, before damage singly; ends with None when there is damage.

        A page with a broken id can lead in a circle: rows out of order are damage, too.
        """
        most = _AT_ONCE
        while (found := select(at, most)) != []:
            if found is not None and _is_in_order(at, found, down):
                yield from found
                at = found[-1][0]
            elif most > 1:
                most = 1
            else:
                self.damaged = True
                yield None
                return

    def by_id(self, key: str) -> Iterator[Row]:
        """All readable rows of a table with a whole-number key, which is its first column."""
        def upwards(at: int, most: int) -> list[Row] | None:
            return self._select(f"WHERE {key} > ? ORDER BY {key} LIMIT ?", at, most)

        last, step = -1, 1
        while True:
            hurt, read = False, 0
            for row in self._run(upwards, last, down=False):
                if row is None:
                    hurt = True
                else:
                    last, read = row[0], read + 1
                    yield row
            if not hurt:
                return
            step = 1 if read >= _AT_ONCE else step * 2  # where hardly a page is whole, on in longer steps
            landing = self._beyond(upwards, last, step)
            yield from self._downwards(key, last, landing)
            if landing == _TOP_ID:
                return
            last = landing - 1

    def _beyond(self, upwards: Callable[[int, int], list[Row] | None], last: int, step: int) -> int:
        """The first readable id found in ever longer steps from the last one before the damage."""
        while last + step < _TOP_ID:
            found = upwards(last + step, 1)
            if found is not None and (not found or found[0][0] > last + step):
                return int(found[0][0]) if found else _TOP_ID
            step *= 2
        return _TOP_ID

    def _downwards(self, key: str, above: int, below: int) -> Iterator[Row]:
        """What stands between the damage and where reading goes on."""
        def downwards(at: int, most: int) -> list[Row] | None:
            return self._select(f"WHERE {key} < ? AND {key} > ? ORDER BY {key} DESC LIMIT ?", at, above, most)

        for row in self._run(downwards, below, down=True):
            if row is not None:
                yield row

    def by_name(self, key: str) -> Iterator[Row]:
        """All readable rows of a small table with a text key: from both ends."""
        for order in (key, ", ".join(f"{name} DESC" for name in key.split(", "))):
            read = 0
            found = self._select(f"ORDER BY {order}")
            while found is None:
                one = self._select(f"ORDER BY {order} LIMIT 1 OFFSET ?", read)
                if not one:
                    break
                read += 1
                yield from one
            if found is not None:
                yield from found
                return


def _is_in_order(at: int, found: list[Row], down: bool) -> bool:
    """Do these ids lead away from `at` in one direction?"""
    ids = [at, *(row[0] for row in found)]
    return ids == sorted(set(ids), reverse=down)


def recover(damaged_path: str, fresh: sqlite3.Connection) -> Recovered:
    """Copy every readable row into the prepared, empty outbox `fresh`; the damaged file is opened for reading only."""
    found = Recovered()
    with closing(sqlite3.connect(f"file:{quote(damaged_path)}?mode=ro", uri=True, isolation_level=None)) as db:
        for name, key in {**_BY_ID, **_BY_NAME}.items():
            table = _Table(db, name)
            rows = table.by_id(key) if name in _BY_ID else table.by_name(key)
            found.counts[name] = _copy(name, table, rows, fresh, found)
            if table.damaged:
                found.damaged.add(name)
    found.waiting = sum(fresh.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ROUTES)
    found.waiting += sum(sum(json.loads(counts).values()) for (counts,) in fresh.execute(
        "SELECT counts FROM shipments WHERE route != 'alerts'").fetchall())
    return found


def _copy(name: str, table: _Table, rows: Iterator[Row], fresh: sqlite3.Connection, found: Recovered) -> int:
    known = {column: (kind, required) for _, column, kind, required, _, _ in fresh.execute(
        f"PRAGMA table_info({name})").fetchall()}
    copied = 0
    batch: list[Row] = []
    for row in rows:
        named = {column: value for column, value in zip(table.columns, row, strict=True) if column in known}
        if name in ("sqlite_sequence", "meta") and named["name"] == "outbox":
            continue
        if not all(_fits(value, *known[column]) for column, value in named.items()) or (
                name == "shipments" and not _is_as_sealed(named)) or (
                max(named.get("id", 0), named.get("number", 0)) >= _MOST_NUMBER):
            found.damaged.add(name)
            continue
        batch.append(tuple(named.values()))
        if len(batch) >= _AT_ONCE:
            copied += _insert(name, list(named), batch, fresh, found)
            batch = []
    if batch:
        copied += _insert(name, list(named), batch, fresh, found)
    return copied


def _insert(name: str, columns: list[str], batch: list[Row], fresh: sqlite3.Connection, found: Recovered) -> int:
    places = ", ".join("?" for _ in columns)
    verb = "INSERT OR REPLACE" if name in ("meta", "sqlite_sequence") else "INSERT OR IGNORE"
    count: int = fresh.executemany(f"{verb} INTO {name} ({', '.join(columns)}) VALUES ({places})", batch).rowcount
    if count != len(batch):
        found.damaged.add(name)
    return count


def _fits(value: Any, kind: str, required: int) -> bool:
    """Has this value the type of its column? A flipped bit may have made another of it."""
    return (value is None and not required) or not kind or isinstance(value, _TYPES[kind])


def _is_as_sealed(shipment: dict[str, Any]) -> bool:
    """Do the bytes still have the id that was made of them?"""
    mark = b'"id":"%s",' % shipment["name"].encode()
    _, found, body = shipment["sealed"].partition(mark)
    return bool(found) and hashlib.sha256(body).hexdigest()[:24] == shipment["name"]
