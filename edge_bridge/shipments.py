"""Shipments: sealed batches and alert messages, their bytes on disk until the cloud's receipt; sealed by packer.py,
sent by uplink.py.

In memory is only what each is and where it stands; the bytes are read when they are sent.
"""
import json
import logging
import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from contract.batch import UNCLASSIFIED
from edge_bridge.counters import Counters, Counts
from edge_bridge.rows import clock_was_set
from edge_bridge.store import Store

ALERTS, LIVE, BACKFILL = "alerts", "live", "backfill"
WAITING, IN_FLIGHT, SENT = "waiting", "in flight", "sent"
log = logging.getLogger(__name__)
OFFERED_S = 10.0  # so long a message that `due` gave out is not dropped: its bytes may be about to be read


class _RowsGone(Exception):
    """Rows that were to be sealed are not there any more."""


@dataclass
class Shipment:
    """One sealed message. state: waiting, in flight (published, no PUBACK yet) or sent (PUBACK 0, no receipt yet);
    due_s: when it may be published (waiting) or must be published again (sent), by the monotonic clock."""

    id: int
    name: str
    route: str
    lane: str
    counts: Mapping[str, int]
    oldest_ms: int
    size_bytes: int
    sends: int = 0
    state: str = WAITING
    due_s: float = 0.0
    failures: int = 0
    noted: bool = False  # its PUBACK is on disk
    offered_s: float = -math.inf  # when `due` last gave it out


class Shipments:
    """All sealed messages that are not delivered."""

    def __init__(self, store: Store, counters: Counters, receipt_timeout_s: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._counters, self._clock = store, counters, clock
        self._lock = threading.RLock()  # uplink.py and upkeep.py both take messages out
        self._by_name: dict[str, Shipment] = {}
        self._dropped: list[str] = []
        rows = store.read().execute("SELECT id, name, route, lane, counts, oldest_ms, size_bytes, sends, sent_ms"
                                    " FROM shipments ORDER BY id")
        for shipment_id, name, route, lane, counts, oldest_ms, size_bytes, sends, sent_ms in rows:
            shipment = Shipment(shipment_id, name, route, lane, json.loads(counts), oldest_ms, size_bytes, sends)
            if sent_ms is not None:
                shipment.state, shipment.due_s, shipment.noted = SENT, clock() + receipt_timeout_s, True
            self._by_name[shipment.name] = shipment

    def seal(self, name: str, sealed: bytes, *, route: str, lane: str, counts: Mapping[str, int], oldest_ms: int,
             row_ids: Iterable[int], unclassified: Mapping[str, int] | None = None) -> Shipment | None:
        """Commit the exact bytes and take their rows out of the outbox, in one transaction.

        counts: {device: rows}; row_ids: of the route's table (for alerts, of `alerts`). None, and nothing sealed, when
        the retention limit has dropped one of these rows meanwhile: what is left is to be read again.
        """
        changes = {("", route + "_sealed"): sum(counts.values())}
        changes.update({(device, UNCLASSIFIED): n for device, n in (unclassified or {}).items()})
        ids = list(row_ids)
        try:
            with self._store.write() as db:
                if _delete(db, route, ids) != len(ids):
                    raise _RowsGone
                cursor = db.execute(
                    "INSERT INTO shipments (name, route, lane, counts, oldest_ms, size_bytes, sealed)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (name, route, lane, json.dumps(dict(counts)), oldest_ms, len(sealed), sealed))
                self._counters.write(db, changes)
        except _RowsGone:
            return None
        shipment = Shipment(cursor.lastrowid or 0, name, route, lane, counts, oldest_ms, len(sealed))
        with self._lock:
            self._counters.add(changes)
            self._by_name[name] = shipment
        self._store.witness.note(sealed=shipment.id)
        log.debug("sealed %s %s: %d rows, %d bytes", route, name, sum(counts.values()), len(sealed))
        return shipment

    def sealed(self, shipment: Shipment) -> bytes:
        """The exact bytes, as they were sealed."""
        row = self._store.read().execute("SELECT sealed FROM shipments WHERE id = ?", (shipment.id,)).fetchone()
        return bytes(row[0])

    def sent(self, shipments: list[Shipment]) -> None:
        """PUBACK 0 came for these: remember it, so that a restart waits for their receipts."""
        changes = _sum(shipments, "sent", only_new=True)
        with self._store.write() as db:
            db.executemany("UPDATE shipments SET sent_ms = ?, sends = ? WHERE id = ?",
                           [(int(time.time() * 1000), s.sends, s.id) for s in shipments])
            self._counters.write(db, changes)
        self._counters.add(changes)
        for shipment in shipments:
            shipment.noted = True
            log.debug("sent %s %s", shipment.route, shipment.name)

    def delivered(self, names: Iterable[str]) -> list[Shipment]:
        """The cloud has stored these (names that are not ours any more are ignored): forget them. Returns which."""
        with self._lock:
            found = [self._by_name[name] for name in set(names) if name in self._by_name]
            if found:
                self._forget(found, _sum(found, "delivered") + _sum(found, "sent", only_new=True))
        for shipment in found:
            log.debug("receipted %s %s", shipment.route, shipment.name)
        return found

    def _forget(self, found: list[Shipment], changes: Counts) -> None:
        with self._store.write() as db:
            db.executemany("DELETE FROM shipments WHERE id = ?", [(s.id,) for s in found])
            self._counters.write(db, changes)
        self._counters.add(changes)
        for shipment in found:
            del self._by_name[shipment.name]
        self._store.witness.note(gone=sum(sum(s.counts.values()) for s in found if s.route != ALERTS))

    def drop(self, lane: str, before_ms: int | None, most: int, reason: str) -> int:
        """Drop the oldest messages of a lane, accepted ones included (if before_ms is given, while their oldest row
        came before it), at most `most`, counted as `dropped.<reason>` (`alerts_dropped.<reason>`). Returns how many
        messages. What may just be on its way out is left alone.
        """
        with self._lock:
            kept_s = self._clock() - OFFERED_S
            doomed = [s for s in self._by_name.values()
                      if s.lane == lane and s.state != IN_FLIGHT and s.offered_s < kept_s
                      and (before_ms is None or (clock_was_set(s.oldest_ms) and s.oldest_ms < before_ms))][:most]
            if doomed:
                self._forget(doomed, _sum(doomed, f"dropped.{reason}"))
                self._dropped += [s.name for s in doomed]
        return len(doomed)

    def dropped(self) -> list[str]:
        """Names of the messages that were dropped since this was asked last: no receipt is waited for any more."""
        with self._lock:
            names, self._dropped = self._dropped, []
        return names

    def oldest_ms(self) -> int | None:
        """When the oldest row in any undelivered message came; None when there is none."""
        return min((s.oldest_ms for s in self.all()), default=None)

    def get(self, name: str) -> Shipment | None:
        """The shipment of that id, None when it was delivered."""
        return self._by_name.get(name)

    def all(self) -> list[Shipment]:
        """Every undelivered shipment, oldest first."""
        with self._lock:
            return list(self._by_name.values())

    def due(self, lane: str) -> Shipment | None:
        """The oldest shipment of a lane that may be published now."""
        now_s = self._clock()
        with self._lock:
            found = next((s for s in self._by_name.values()
                          if s.lane == lane and s.state != IN_FLIGHT and s.due_s <= now_s), None)
            if found:
                found.offered_s = now_s
        return found

    @contextmanager
    def held(self) -> Iterator[list[Shipment]]:
        """Every undelivered shipment; none comes or goes, nor is counted as having done so, inside this block."""
        with self._lock:
            yield list(self._by_name.values())

    def unsent(self, lane: str) -> int:
        """How many of a lane wait or are in flight."""
        with self._lock:
            return sum(1 for s in self._by_name.values() if s.lane == lane and s.state != SENT)


def _delete(db: sqlite3.Connection, route: str, ids: list[int]) -> int:
    """Take rows out; those of a batch stand side by side, so that one range holds them. Returns how many there were."""
    if route == ALERTS or not ids:
        return db.executemany(f"DELETE FROM {route} WHERE id = ?", [(row_id,) for row_id in ids]).rowcount
    return db.execute(f"DELETE FROM {route} WHERE id BETWEEN ? AND ?", (ids[0], ids[-1])).rowcount


def _sum(shipments: list[Shipment], name: str, only_new: bool = False) -> Counts:
    """Rows per device in these shipments, as counters; only_new: of those not noted as sent."""
    changes: Counts = Counter()
    for shipment in shipments:
        if only_new and shipment.noted:
            continue
        for device, n in shipment.counts.items():
            changes[device, "alerts_" + name if shipment.route == ALERTS else name] += n
    return changes
