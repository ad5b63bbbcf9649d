"""Counters per device, kept in the outbox: written in the transaction of what they count, read by status.py."""
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping

from edge_bridge.store import Store

Counts = Counter[tuple[str, str]]  # (device or "", name) -> how many more


class Counters:
    """Totals since the outbox was made. Device "" is what belongs to none."""

    def __init__(self, store: Store) -> None:
        self._lock = threading.Lock()
        rows = store.read().execute("SELECT device, name, value FROM counters")
        self._values: Counts = Counter({(device, name): value for device, name, value in rows})

    @staticmethod
    def write(db: sqlite3.Connection, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to the totals on disk, inside the caller's transaction; `add` them once it is committed."""
        db.executemany(
            "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(device, name, more) for (device, name), more in counts.items() if more])

    def add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to the totals in memory."""
        with self._lock:
            self._values.update(counts)

    def value(self, device: str, name: str) -> int:
        """One counter of one device."""
        with self._lock:
            return self._values[device, name]

    def total(self, name: str) -> int:
        """Sum of one counter over all devices."""
        with self._lock:
            return sum(value for (_, counter), value in self._values.items() if counter == name)

    def by_device(self) -> dict[str, dict[str, int]]:
        """{device: {name: value}}, device "" included."""
        found: dict[str, dict[str, int]] = {}
        with self._lock:
            for (device, name), value in self._values.items():
                found.setdefault(device, {})[name] = value
        return found
