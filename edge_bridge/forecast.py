"""Forecasts from what status.py counts each second: how long the link may stay away, and when the backlog is gone."""
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edge_bridge.store import Store

RATE_WINDOW_S = 60.0
ROW_BYTES = 200.0  # of a row on disk, until rows were seen
ROW_EXTRA_BYTES = 60.0  # its id, number, times, device and share of the pages, beside the payload
_SAMPLED_ROWS = 50
_EARLIEST_S = 1.0  # a rate over less than this says nothing


class Rate:
    """How fast a number changes, over the last minute at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, value: float) -> None:
        """The number now."""
        now_s = self._clock()
        self._samples.append((now_s, value))
        while len(self._samples) > 2 and self._samples[0][0] < now_s - RATE_WINDOW_S:
            self._samples.popleft()

    def per_s(self) -> float | None:
        """Change per second; None when there is too little to say."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s - first_s >= _EARLIEST_S else None


def drain_eta_s(backlog: int, change_per_s: float | None) -> float | None:
    """Seconds until the backlog is gone at the present net rate: 0 when there is none, None when it does not shrink."""
    if backlog == 0:
        return 0.0
    return backlog / -change_per_s if change_per_s is not None and change_per_s < 0 else None


class Capacity:
    """How much longer the outbox can take everything in. used_bytes: asked for what it takes up; most_bytes,
    most_age_s: the retention limits."""

    def __init__(self, store: Store, used_bytes: Callable[[], int], most_bytes: int, most_age_s: float) -> None:
        self._store, self.used_bytes = store, used_bytes
        self._most_bytes, self._most_age_s = most_bytes, most_age_s
        self._row_bytes = ROW_BYTES

    def budget_s(self, rows_per_s: float | None, used_bytes: int, oldest_s: float) -> float | None:
        """Seconds until a limit (or the disk) is reached if nothing went out any more; None when nothing comes in.
        oldest_s: age of the oldest that waits."""
        self._sample()
        if not rows_per_s or rows_per_s <= 0:
            return None
        free_bytes = shutil.disk_usage(Path(self._store.path).parent).free
        room_bytes = min(self._most_bytes - used_bytes, free_bytes)
        return max(0.0, min(room_bytes / (rows_per_s * self._row_bytes), self._most_age_s - oldest_s))

    def _sample(self) -> None:
        """What a row takes, by the newest ones that still wait."""
        found = self._store.read().execute(
            f"SELECT avg(bytes) FROM (SELECT length(payload) + length(device) AS bytes FROM readings"
            f" ORDER BY id DESC LIMIT {_SAMPLED_ROWS})").fetchone()[0]
        if found is not None:
            self._row_bytes = found + ROW_EXTRA_BYTES
