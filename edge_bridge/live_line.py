"""The line between live rows and the backlog: told by process.py of commits and by uplink.py of the link, asked by
packer.py, retention.py and status.py."""
import threading
import time
from collections import deque
from collections.abc import Callable


class LiveLine:
    """Which rows are live: committed while the cloud was connected, and young enough. All else is backfill."""

    def __init__(self, most_age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_age_s, self._clock = most_age_s, clock
        self._lock = threading.Lock()
        self._commits: deque[tuple[float, int]] = deque()
        self._connected = False

    def connected(self, is_connected: bool) -> None:
        """The link came or went: what was committed before is no longer live, what comes while it is up is."""
        with self._lock:
            self._connected = is_connected
            self._commits.clear()

    def keep(self, most_age_s: float) -> None:
        """From now on rows of this age at most are live."""
        with self._lock:
            self._most_age_s = most_age_s

    def committed(self, first_id: int) -> None:
        """Rows from this id on were committed now."""
        with self._lock:
            if self._connected:
                self._commits.append((self._clock(), first_id))

    def first_live_id(self) -> int | None:
        """The lowest id of a live row, None when there is none."""
        with self._lock:
            oldest_s = self._clock() - self._most_age_s
            while self._commits and self._commits[0][0] < oldest_s:
                self._commits.popleft()
            return self._commits[0][1] if self._commits else None
