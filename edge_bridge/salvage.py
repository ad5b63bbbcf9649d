"""Opens the outbox for the bridge; a damaged one is set aside as <outbox>.corrupt-<n>, and what can be read of it goes
into a new one: rows, sealed bytes as they are, turns, counters, dead letters, detector states. Nothing is deleted.

There is no full check at opening: it would read every page, minutes on an SD card with a long backlog. The small tables
are read whole anyway, a page of rows is read before it is sent, and damage found then is noted beside the file, stops
the bridge and is salvaged at the next start. A salvage that is itself killed starts anew.
"""
import logging
import os
import sqlite3
from pathlib import Path
from typing import IO

from edge_bridge import witness
from edge_bridge.counters import Counters
from edge_bridge.salvage_tables import Recovered, recover
from edge_bridge.schema import ROUTES, SERIES, prepare
from edge_bridge.store import DamagedOutbox, Store, connect, lock, marker_path, note_damage, sync_directory
from edge_bridge.witness import Progress

log = logging.getLogger(__name__)

_TAILS = ("-wal", "-shm", "")  # the file itself last: when it has moved, all has
_PROBES = (
    *(f"SELECT * FROM {table}" for table in ("meta", "devices", "spools", "seen", "detectors", "counters", "replays")),
    "SELECT id, name, route, lane, counts, oldest_ms, size_bytes, sends, sent_ms FROM shipments",
    *(f"SELECT * FROM {table} ORDER BY id {order} LIMIT 1" for order in ("ASC", "DESC")
      for table in ("readings", "events", "alerts", "dead_letters")))


def open_store(path: str) -> Store:
    """The outbox, salvaged first if it is damaged; loss and possible duplicates of an older copy are counted.

    Raises StoreError when it is another bridge's or a newer version's, sqlite3.Error or OSError when its disk fails.
    """
    lock_file = lock(path)
    try:
        if marker_path(path).exists() or _was_emptied(path, lock_file):
            salvage(path, lock_file)
        store = _probed(path, lock_file)
    except DamagedOutbox as error:
        log.error("%s", error)
        salvage(path, lock_file)
        store = _probed(path, lock_file)
    except BaseException:
        lock_file.close()
        raise
    _account(store)
    return store


def _was_emptied(path: str, lock_file: IO[str]) -> bool:
    """A file of no bytes is a new outbox, unless the witness beside it remembers one."""
    return Path(path).exists() and os.path.getsize(path) == 0 and witness.read(lock_file) is not None


def _probed(path: str, lock_file: IO[str]) -> Store:
    store = Store(path, lock_file)
    try:
        for probe in _PROBES:
            store.read().execute(probe).fetchall()
    except BaseException:
        store.close(unlock=False)
        raise
    return store


def salvage(path: str, lock_file: IO[str]) -> None:
    """Set the damaged outbox aside and put a new one in its place, with all that can be read."""
    note_damage(path)
    aside = _set_aside(path)
    fresh = path + ".recovered"
    if aside.exists() and not Path(path).exists():
        for tail in _TAILS:
            Path(fresh + tail).unlink(missing_ok=True)  # of a salvage that was killed: it starts anew
        db = connect(fresh)
        try:
            prepare(db, fresh)
            db.execute("BEGIN IMMEDIATE")
            found = recover(str(aside), db)
            lost = _settle(db, found, witness.read(lock_file))
            db.execute("COMMIT")
        finally:
            db.close()
        _say(path, aside, found, lost)
        os.replace(fresh, path)
        sync_directory(path)
    marker_path(path).unlink()
    sync_directory(path)


def _set_aside(path: str) -> Path:
    """Move the file with its log under a name that the marker has kept since before the first move."""
    marker = marker_path(path)
    name = marker.read_text().strip()
    if not name:
        number = 1
        while Path(f"{path}.corrupt-{number}").exists():
            number += 1
        name = f"{Path(path).name}.corrupt-{number}"
        draft = Path(f"{marker}.new")
        with draft.open("w") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, marker)
        sync_directory(path)
    aside = Path(path).parent / name
    if not aside.exists():
        for tail in _TAILS:
            if Path(path + tail).exists():
                os.replace(path + tail, f"{aside}{tail}")
        sync_directory(path)
    return aside


def _settle(db: sqlite3.Connection, found: Recovered, before: Progress | None) -> int | None:
    """Make the counters agree with what is there; count the loss and possible duplicates. How many readings and events
    are lost, None when nothing tells."""
    now = witness.progress(db, "")
    lost: int | None = None
    if "counters" not in found.damaged and found.counts["counters"]:
        later = _later(now, before)
        lost = max(0, now.rows - now.gone - found.waiting) + later
        Counters.write(db, {("", "readings_in"): later})
    elif before is not None:
        lost = max(0, before.rows - before.gone - found.waiting)
    Counters.write(db, {("", "lost"): lost or 0, ("", "salvages"): 1})
    for route in ("readings", "events", "alerts"):
        there = db.execute(f"SELECT count(*) FROM {route}").fetchone()[0]
        known = db.execute("SELECT value FROM counters WHERE device = '' AND name = ?", (route + "_in",)).fetchone()
        came = max(there, known[0] if known else 0)
        db.execute("INSERT OR REPLACE INTO counters VALUES ('', ?, ?)", (route + "_in", came))
        db.execute("INSERT OR REPLACE INTO counters VALUES ('', ?, ?)", (route + "_sealed", came - there))
    for route in ROUTES:
        db.execute(f"INSERT INTO devices SELECT device || ?, max(number) FROM {route} WHERE true GROUP BY device"
                   " ON CONFLICT DO UPDATE SET number = max(number, excluded.number)", (SERIES[route],))
    if "meta" in found.damaged or not found.counts["meta"]:  # what has no mark yet below the last mark was scored, too
        db.execute("UPDATE meta SET value = max(coalesce((SELECT max(id) FROM readings WHERE mark IS NOT NULL), 0),"
                   " coalesce((SELECT max(id) FROM alerts), 0)) WHERE name = 'scored_to'")
    if before is not None and before.sealed > now.sealed:
        _count_possible_duplicates(db)
    return lost


def _later(now: Progress, before: Progress | None) -> int:
    """How many readings and events were committed after this state of the outbox, and not delivered as far as known."""
    if before is None:
        return 0
    return min(max(0, before.rows - now.rows), max(0, before.rows - before.gone))


def _account(store: Store) -> None:
    """Say and count what is missing in an outbox that is older than its witness: a restored copy, a cut-off log."""
    before, now = store.witness.before, store.witness.now
    if before is not None and before.outbox == now.outbox and (before.rows > now.rows or before.sealed > now.sealed):
        later = _later(now, before)
        with store.write() as db:
            Counters.write(db, {("", name): later for name in ("readings_in", "readings_sealed", "lost")})
            again = _count_possible_duplicates(db) if before.sealed > now.sealed else 0
        store.witness.note(rows=later, gone=later)
        log.error("outbox: %s is older than it was when it was used last: restored from a copy, or its log was cut "
                  "off. %d readings or events came later, up to %d of them are lost; %d that were not sealed in it may "
                  "come twice, they are counted as possible_duplicates",
                  store.path, before.rows - now.rows, later, again)
    store.witness.note()


def _count_possible_duplicates(db: sqlite3.Connection) -> int:
    """Rows that had been sealed, and perhaps delivered, in a later state of this outbox."""
    counted = db.execute("SELECT device, count(*) FROM (SELECT device FROM readings UNION ALL"
                         " SELECT device FROM events) GROUP BY device").fetchall()
    Counters.write(db, {(device, "possible_duplicates"): count for device, count in counted})
    return sum(count for _, count in counted)


def _say(path: str, aside: Path, found: Recovered, lost: int | None) -> None:
    log.error("outbox: %s was damaged; it is set aside as %s, and a new one holds what could be read: %d readings and "
              "events that wait (%d sealed messages, %d alerts), %d dead letters. Lost: %s. Keep the old file: "
              "`sqlite3 %s .recover` may read more. Check the disk or the card", path, aside, found.waiting,
              found.counts["shipments"], found.counts["alerts"], found.counts["dead_letters"],
              "unknown" if lost is None else f"{lost} readings or events", aside)
    if found.damaged:
        log.error("outbox: of these tables not everything could be read: %s", ", ".join(sorted(found.damaged)))
