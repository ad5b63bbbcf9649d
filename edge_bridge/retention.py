"""Retention: how much undelivered data the outbox may hold, and what happens when it is full; asked by bridge.py before
each commit, kept up by upkeep.py.

FULL=stop: nothing further is acknowledged, so it stays with the brokers and the publishers' spools. FULL=drop-oldest:
backfill goes first (rows, then sealed messages), then live data, and alerts last; what is dropped is counted as
`dropped.size` or `dropped.age` of its device.
"""
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from edge_bridge.alarms import OUTBOX_FULL, Alarms
from edge_bridge.live_line import LiveLine
from edge_bridge.rows import EVERY_ID, Rows, clock_was_set
from edge_bridge.schema import ROUTES
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, Shipments
from edge_bridge.store import Store

log = logging.getLogger(__name__)

STOP, DROP_OLDEST = "stop", "drop-oldest"
SIZE, AGE = "size", "age"
DROP_ABOVE, DROP_TO = 0.97, 0.95  # of the limit: room is made before the intake has to wait for it
ROOM_AGAIN = 0.95
ROWS_AT_ONCE, MESSAGES_AT_ONCE = 500, 8  # in one short transaction: the intake must not wait
EPISODE_S = 60.0


class Limits(NamedTuple):
    """size_bytes: of the outbox's pages in use; age_s: of its oldest undelivered reading; drop_oldest: else stop."""

    size_bytes: int
    age_s: float
    drop_oldest: bool


class Retention:
    """Measures the outbox against its limits; `full` is asked by the intake's thread, `keep_up` called by another."""

    def __init__(self, store: Store, rows: Rows, shipments: Shipments, live: LiveLine, limits: Limits,
                 now_s: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic,
                 raise_to: Alarms | None = None) -> None:
        self._store, self._rows, self._shipments, self._live = store, rows, shipments, live
        self.limits, self._now_s, self._clock = limits, now_s, clock
        self._alarms = raise_to or Alarms()
        self._aged = False
        self._was_full = False
        self._episode = 0  # dropped in the present one
        self._last_drop_s = 0.0

    def used_bytes(self) -> int:
        """What the outbox takes up on disk, but for pages that are free again."""
        db = self._store.read()
        pages = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")]
        return int((pages[0] - pages[1]) * pages[2])

    def full(self) -> bool:
        """May nothing further be committed now? Says so once, and once when there is room again."""
        limit_bytes = self.limits.size_bytes * (ROOM_AGAIN if self._was_full else 1.0)
        used_bytes = self.used_bytes()
        is_full = self._aged or (used_bytes >= limit_bytes and self._anything_waits())
        if is_full and not self._was_full:
            self._say_full(used_bytes)
        elif self._was_full and not is_full:
            self._alarms.cleared(OUTBOX_FULL)
        self._was_full = is_full
        return is_full

    def _say_full(self, used_bytes: int) -> None:
        if self._aged:
            self._alarms.raised(OUTBOX_FULL, (
                "its oldest reading is older than RETENTION_DAYS; nothing is acknowledged until the cloud takes it "
                f"(check the connection), or set RETENTION_DAYS higher or FULL={DROP_OLDEST}"))
        elif not self.limits.drop_oldest:
            self._alarms.raised(OUTBOX_FULL, (
                f"{used_bytes} of RETENTION_BYTES={self.limits.size_bytes} are in use; nothing is acknowledged until "
                "the cloud takes some (check the connection), or set RETENTION_BYTES higher or "
                f"FULL={DROP_OLDEST}"))

    def _anything_waits(self) -> bool:
        return bool(self._shipments.all()) or any(self._rows.waiting(route) for route in (*ROUTES, ALERTS))

    def keep_up(self) -> None:
        """Look at the age of the oldest; with drop-oldest, drop what is over the limits. Call about every second."""
        before_ms = int((self._now_s() - self.limits.age_s) * 1000)
        if not self.limits.drop_oldest:
            self._aged = self._is_aged(before_ms)
            return
        while self._drop_some(before_ms, AGE):
            pass  # until nothing is too old
        if self.used_bytes() >= self.limits.size_bytes * DROP_ABOVE:
            while self.used_bytes() >= self.limits.size_bytes * DROP_TO and self._drop_some(None, SIZE):
                pass  # until there is room
        if self._episode and self._clock() - self._last_drop_s > EPISODE_S:
            log.info("outbox: below its limits again, %d rows or sealed messages were dropped", self._episode)
            self._episode = 0

    def _is_aged(self, before_ms: int) -> bool:
        oldest = [found[1] for route in ROUTES if (found := self._rows.oldest(route, 0, EVERY_ID))]
        oldest += [ms for ms in [self._shipments.oldest_ms()] if ms is not None]
        return any(clock_was_set(ms) and ms < before_ms for ms in oldest)

    def _drop_some(self, before_ms: int | None, reason: str) -> int:
        """Drop a little of what may go first; 0 when there is nothing (older than before_ms)."""
        first_live_id = self._live.first_live_id()
        dropped = (
            self._drop_rows(EVERY_ID if first_live_id is None else first_live_id, before_ms, reason)
            or self._shipments.drop(BACKFILL, before_ms, MESSAGES_AT_ONCE, reason)
            or self._shipments.drop(LIVE, before_ms, MESSAGES_AT_ONCE, reason)
            or self._drop_rows(EVERY_ID, before_ms, reason)
            or self._shipments.drop(ALERTS, before_ms, MESSAGES_AT_ONCE, reason)
            or (self._rows.drop_alerts(ROWS_AT_ONCE, reason) if before_ms is None else 0))
        if dropped:
            if not self._episode:
                log.warning("outbox: over its limit of %s; the oldest readings are dropped, and counted as dropped.%s",
                            "RETENTION_DAYS" if reason == AGE else "RETENTION_BYTES", reason)
            self._episode += dropped
            self._last_drop_s = self._clock()
        return dropped

    def _drop_rows(self, before_id: int, before_ms: int | None, reason: str) -> int:
        """From the route with the oldest row first: row ids count through both."""
        oldest = sorted((found[0], route) for route in ROUTES
                        if (found := self._rows.oldest(route, 0, before_id)))
        for _, route in oldest:
            if dropped := self._rows.drop(route, before_id, before_ms, ROWS_AT_ONCE, reason):
                return dropped
        return 0
