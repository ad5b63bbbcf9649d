"""How far out a number is, by rank: beside the distance that only a given share of those before were out; context.py.

A window of the newest numbers is kept sorted; both sides have their own distance, from the median.
"""
import base64
import zlib
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

FEWEST = 50  # numbers before anything is said
THINNEST = 0.02  # of both sides' distance: a side that has none yet would make anything infinitely far out
_TINY = 1e-9


class Tail:
    """size: of the window; rare: the share on each side that lies beyond; from_zero: distances, with one side."""

    def __init__(self, size: int, rare: float, from_zero: bool = False) -> None:
        self._size, self._rare, self._from_zero = size, rare, from_zero
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def ratio(self, number: float) -> float:
        """Its distance from the middle beside the rare one on its side: above 1 it is rarer; 0 while little is known.
        """
        if len(self._sorted) < FEWEST:
            return 0.0
        middle, below, above = self._distances()
        away = number - middle
        return away / above if away >= 0 else -away / below

    def edges(self) -> tuple[float | None, float | None]:
        """The numbers below and above which it is rarer; None while little is known."""
        if len(self._sorted) < FEWEST:
            return None, None
        middle, below, above = self._distances()
        return middle - below, middle + above

    def _distances(self) -> tuple[float, float, float]:
        if self._from_zero:
            high = max(self._quantile(1 - self._rare), _TINY)
            return 0.0, high, high
        middle = self._quantile(0.5)
        below, above = middle - self._quantile(self._rare), self._quantile(1 - self._rare) - middle
        thinnest = max(THINNEST * (below + above), _TINY)
        return middle, max(below, thinnest), max(above, thinnest)

    def _quantile(self, share: float) -> float:
        place = share * (len(self._sorted) - 1)
        index = int(place)
        if index + 1 >= len(self._sorted):
            return self._sorted[index]
        return self._sorted[index] + (place - index) * (self._sorted[index + 1] - self._sorted[index])

    def add(self, number: float) -> None:
        """Take it into the window; the oldest goes."""
        insort(self._sorted, number)
        self._order.append(number)
        if len(self._order) > self._size:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    def state(self) -> str:
        """The window, packed."""
        return packed(self._order)

    def restore(self, state: str) -> None:
        """Become what `state` said."""
        self._order = deque(unpacked(state))
        self._sorted = sorted(self._order)


def packed(numbers: Iterable[float]) -> str:
    """Numbers exactly, as text."""
    return base64.b64encode(zlib.compress(array("d", numbers).tobytes(), 1)).decode("ascii")


def unpacked(text: str) -> list[float]:
    """What `packed` packed."""
    return array("d", zlib.decompress(base64.b64decode(text))).tolist()
