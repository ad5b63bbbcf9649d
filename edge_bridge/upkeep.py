"""Upkeep of the outbox, in a thread of its own: retention limits, dead letters to be replayed, a file that shrinks
after a drain. Every transaction is short, so that the intake never waits for one."""
import logging
import sqlite3
import threading
import time
from collections.abc import Callable

from edge_bridge import deadletters
from edge_bridge.inbox import Inbox
from edge_bridge.retention import Retention
from edge_bridge.rows import Rows
from edge_bridge.schema import ROUTES
from edge_bridge.store import Store

log = logging.getLogger(__name__)

ROUND_S = 0.25
MOST_REPLAYS = 100
SLACK_PAGES = 1024  # free pages that stay for what comes next: 4 MB
IDLE_ROWS = 10_000  # with more than this waiting, the free pages will be needed, or the drain is still on
STEP_S = 0.01  # a step of shrinking aims at this
FEWEST_PAGES, MOST_PAGES = 8, 4096


class Shrinker:
    """Gives free pages at the end of the file back to the file system, a few at a time."""

    def __init__(self, store: Store, rows: Rows) -> None:
        self._store, self._rows = store, rows
        self._pages = FEWEST_PAGES

    def step(self) -> float:
        """One step if it is time for one; for how many seconds to leave the disk to others (0.0: nothing to do)."""
        free_pages = self._store.read().execute("PRAGMA freelist_count").fetchone()[0]
        if free_pages <= SLACK_PAGES or sum(self._rows.waiting(r) for r in ROUTES) > IDLE_ROWS:
            return 0.0
        began_s = time.monotonic()
        with self._store.write_if_free() as db:
            if db is None:
                return STEP_S
            db.execute(f"PRAGMA incremental_vacuum({min(self._pages, free_pages - SLACK_PAGES)})").fetchall()
        took_s = time.monotonic() - began_s
        self._pages = max(FEWEST_PAGES, min(MOST_PAGES, int(self._pages * min(2.0, STEP_S / max(took_s, 1e-6)))))
        return max(STEP_S, 4 * took_s)


class Upkeep:
    """The upkeep thread. topic: of the readings, for dead letters that do not say theirs; shrinking_waits: may the file
    stay as large as it is for now?"""

    def __init__(self, store: Store, rows: Rows, retention: Retention, inbox: Inbox, topic: str,
                 shrinking_waits: Callable[[], bool] = lambda: False) -> None:
        self._store, self._retention, self._inbox, self._topic = store, retention, inbox, topic
        self._shrinker, self._shrinking_waits = Shrinker(store, rows), shrinking_waits
        self._replaying: set[int] = set()
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the present transaction."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = ROUND_S
            try:
                self._retention.keep_up()
                self.replay()
                wait_s = ROUND_S if self._shrinking_waits() else self._shrinker.step() or ROUND_S
                self._failing = False
            except sqlite3.Error as error:
                if not self._failing:
                    log.error("outbox: its upkeep failed (%s), it is tried again; free space, or check the disk of %s",
                              error, self._store.path)
                self._failing = True
                wait_s = 1.0

    def replay(self) -> None:
        """Hand the dead letters that were ordered to the intake, each once."""
        ordered = deadletters.orders(self._store.read(), MOST_REPLAYS)
        self._replaying &= {letter.id for letter in ordered}
        for letter in ordered:
            if letter.id in self._replaying or self._inbox.full():
                continue
            try:
                route, origin = deadletters.origin_of(letter, self._topic)
            except ValueError as error:
                log.warning("dead letter %d cannot be replayed: %s", letter.id, error)
                with self._store.write() as db:
                    db.execute("DELETE FROM replays WHERE dead_letter = ?", (letter.id,))
                continue
            self._replaying.add(letter.id)
            self._inbox.put(deadletters.Replayed(route, letter.id), origin, letter.payload, 0, 0)
