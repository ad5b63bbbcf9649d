"""What a stream usually says at this time of day: the median over the last days; asked by context.py.

A day has 96 quarters of an hour, by UTC; of each the mean is kept for seven days: a week holds its weekend.
"""
from statistics import median
from typing import Any

DAY_MS, SLOT_MS, DAYS = 86_400_000, 900_000, 7


class Season:
    """slot of the day: [[day, count, mean], ...], oldest first."""

    def __init__(self) -> None:
        self._slots: dict[int, list[list[float]]] = {}

    def usual(self, at_ms: int) -> float | None:
        """The median of this slot's means on other days; None when there was none."""
        day, slot = divmod(at_ms, DAY_MS)
        means = [mean for was, _, mean in self._slots.get(slot // SLOT_MS, ()) if was != day]
        return median(means) if means else None

    def add(self, value: float, at_ms: int) -> None:
        """Take in a reading."""
        day, slot = divmod(at_ms, DAY_MS)
        means = self._slots.setdefault(slot // SLOT_MS, [])
        if not means or means[-1][0] != day:
            means.append([day, 0, 0.0])
            del means[:-DAYS - 1]
        means[-1][1] += 1
        means[-1][2] += (value - means[-1][2]) / means[-1][1]

    def state(self) -> list[Any]:
        """All members, for JSON."""
        return [[slot, means] for slot, means in self._slots.items()]

    def restore(self, state: list[Any]) -> None:
        """Become what `state` said."""
        self._slots = {slot: means for slot, means in state}
