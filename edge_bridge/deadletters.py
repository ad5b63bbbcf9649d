"""Dead letters: messages that broke the contract, kept with the reason; `python -m edge_bridge deadletters` lists,
replays and drops them on the outbox file, beside a running bridge or without one.

A replay is an order in the table `replays`; upkeep.py of the running bridge (now, or when it starts) hands the message
to the intake, which takes it in and strikes letter and order off in the same transaction.
"""
import fcntl
import json
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edge_bridge.schema import SCHEMA_VERSION, StoreError

MOST_LETTERS = 10_000
MOST_BYTES = 16 * 1024 * 1024
USAGE = "usage: python -m edge_bridge deadletters list | show ID | replay ID… | replay --all | drop ID… | drop --all"
_INSERT = "INSERT INTO dead_letters (at_ms, reason, detail, origin, size_bytes, payload) VALUES (?, ?, ?, ?, ?, ?)"
_TOO_OLD = "SELECT max(id) FROM (SELECT id, row_number() OVER newest AS n, sum(length(payload)) OVER newest AS bytes" \
    " FROM dead_letters WINDOW newest AS (ORDER BY id DESC)) WHERE n > ? OR bytes > ?"


class DeadLetter(NamedTuple):
    """origin: JSON of where it came from; size_bytes: of the message, of which `payload` may be the beginning only."""

    id: int
    at_ms: int
    reason: str
    detail: str
    origin: str
    size_bytes: int
    payload: bytes


def keep(db: sqlite3.Connection, letters: list[tuple[int, str, str, str, int, bytes]]) -> int:
    """Write letters (all but the id of a DeadLetter), in the caller's transaction; how many old ones made room."""
    if not letters:
        return 0
    db.executemany(_INSERT, letters)
    too_old = db.execute(_TOO_OLD, (MOST_LETTERS, MOST_BYTES)).fetchone()[0]
    if too_old is None:
        return 0
    return db.execute("DELETE FROM dead_letters WHERE id <= ?", (too_old,)).rowcount


class Replayed:
    """A source of one message: a dead letter that comes to the intake again. See inbox.Source."""

    def __init__(self, route: str, dead_letter: int) -> None:
        self.route, self.dead_letter = route, dead_letter

    def acknowledge(self, messages: list[Any]) -> None:
        """Nobody waits for it."""


def origin_of(letter: DeadLetter, topic: str) -> tuple[str, tuple[Any, ...]]:
    """(route, origin of an inbox.Message). Raises ValueError for a letter that cannot be taken in again."""
    if letter.size_bytes != len(letter.payload):
        raise ValueError(f"only {len(letter.payload)} of its {letter.size_bytes} bytes were kept")
    try:
        members = json.loads(letter.origin)
    except ValueError as error:
        raise ValueError(f"its origin {letter.origin!r} was cut off") from error
    if isinstance(members, dict):  # a row that a later version refused: {"device": …}
        return "readings", (f"{topic}/{members['device']}",)
    return ("events" if len(members) == 4 else "readings"), tuple(members)


def orders(db: sqlite3.Connection, most: int) -> list[DeadLetter]:
    """Dead letters that are to be taken in again."""
    found = db.execute("SELECT d.* FROM replays r JOIN dead_letters d ON d.id = r.dead_letter ORDER BY d.id LIMIT ?",
                       (most,))
    return [DeadLetter(*row) for row in found]


def strike_off(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """These letters were taken in again, in the caller's transaction."""
    for dead_letter in ids:
        db.execute("DELETE FROM dead_letters WHERE id = ?", (dead_letter,))
        db.execute("DELETE FROM replays WHERE dead_letter = ?", (dead_letter,))


def command(arguments: list[str], environ: Mapping[str, str], default_outbox: str) -> int:
    """`deadletters …` of the command line; returns the exit code."""
    path = environ.get("OUTBOX", default_outbox)
    ids = [a for a in arguments[1:] if a != "--all"]
    action = arguments[0] if arguments else ""
    takes = {"list": not arguments[1:], "show": len(arguments) == 2 and bool(ids),
             "replay": len(arguments) > 1, "drop": len(arguments) > 1}
    if not takes.get(action) or not all(i.isdecimal() for i in ids) or ("--all" in arguments and bool(ids)):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return _carry_out(action, path, None if "--all" in arguments else [int(i) for i in ids])
    except (StoreError, sqlite3.Error, OSError) as error:
        print(f"edge_bridge: the dead letters of {path} cannot be used: {error}", file=sys.stderr)
        return 1


def _carry_out(action: str, path: str, ids: list[int] | None) -> int:
    """ids: None for all of them. Raises StoreError, sqlite3.Error, OSError."""
    if not Path(path).is_file():
        raise StoreError("there is no such outbox; set OUTBOX to the file of the bridge")
    db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StoreError(f"it has schema {version}, expected {SCHEMA_VERSION}; start this version's bridge once")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        if action == "list":
            return _list(db)
        found = _find(db, ids)
        if found is None:
            return 1
        if action == "show":
            return _show(db, found[0])
        return _replay(db, path, found) if action == "replay" else _drop(db, found)
    finally:
        db.close()


def _find(db: sqlite3.Connection, ids: list[int] | None) -> list[int] | None:
    known = [row[0] for row in db.execute("SELECT id FROM dead_letters ORDER BY id")]
    missing = sorted(set(ids or ()) - set(known))
    if missing:
        print(f"edge_bridge: no dead letter {', '.join(map(str, missing))}; see `deadletters list`", file=sys.stderr)
        return None
    return known if ids is None else sorted(set(ids))


def _list(db: sqlite3.Connection) -> int:
    count = 0
    for letter_id, at_ms, reason, detail, origin, size_bytes, kept, ordered in db.execute(
            "SELECT id, at_ms, reason, detail, origin, size_bytes, length(payload), r.dead_letter FROM dead_letters"
            " LEFT JOIN replays r ON r.dead_letter = id ORDER BY id"):
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))
        cut = "" if kept == size_bytes else f" ({kept} kept)"
        print(f"{letter_id}  {when}  {reason}  {size_bytes} bytes{cut}  from {origin}  {detail}"
              f"{'  to be replayed' if ordered else ''}")
        count += 1
    print(f"{count} dead letters", file=sys.stderr)
    return 0


def _show(db: sqlite3.Connection, letter_id: int) -> int:
    letter = DeadLetter(*db.execute("SELECT * FROM dead_letters WHERE id = ?", (letter_id,)).fetchone())
    for name, value in zip(letter._fields[:-1], letter, strict=False):
        print(f"{name}: {value}")
    print("payload:")
    print(letter.payload.decode("utf-8", "backslashreplace"))
    return 0


def _replay(db: sqlite3.Connection, path: str, ids: list[int]) -> int:
    refused, taken = 0, []
    for letter_id in ids:
        try:
            origin_of(DeadLetter(*db.execute("SELECT * FROM dead_letters WHERE id = ?", (letter_id,)).fetchone()), "")
        except ValueError as error:
            refused += 1
            print(f"edge_bridge: dead letter {letter_id} cannot be replayed: {error}", file=sys.stderr)
        else:
            taken.append((letter_id,))
    when = "by the running bridge within seconds" if _is_running(path) else "when the bridge starts"
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT OR IGNORE INTO replays VALUES (?)", taken)
    db.execute("COMMIT")
    print(f"{len(taken)} dead letters will be taken in again {when}; one that is refused again gets a new id")
    return 1 if refused else 0


def _drop(db: sqlite3.Connection, ids: list[int]) -> int:
    db.execute("BEGIN IMMEDIATE")
    strike_off(db, ids)
    db.execute("COMMIT")
    print(f"{len(ids)} dead letters dropped")
    return 0


def _is_running(path: str) -> bool:
    """Does a bridge hold this outbox's lock?"""
    with open(path + ".lock", "a") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
