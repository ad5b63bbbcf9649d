"""Turn-taking with our publisher: of each (device, spool) only the next reading is taken; asked by bridge.py.

As in go-back-N: what is too early is sent again by the publisher, so nothing is ever reordered or remembered here but
the last seq taken, which is committed together with the reading.
"""
from collections.abc import Iterable
from typing import NamedTuple

Spool = tuple[str, str]  # (device, spool)


class Turn(NamedTuple):
    """taken: store it; repeat: it is on disk already; neither: out of turn. skipped: readings the publisher dropped."""

    taken: bool
    repeat: bool
    skipped: int


class Turns:
    """The last seq taken of each spool; what `take` decides holds only after `keep`."""

    def __init__(self, known: Iterable[tuple[str, str, int]]) -> None:
        self._last: dict[Spool, int] = {(device, spool): seq for device, spool, seq in known}
        self._staged: dict[Spool, int] = {}

    def take(self, device: str, spool: str, seq: int, first: int) -> Turn:
        """Is it this reading's turn? first: the lowest seq that the publisher still holds."""
        key = device, spool
        last = self._staged.get(key)
        if last is None:
            last = self._last.get(key)
        expected = first if last is None else last + 1
        skipped = max(0, first - expected)
        if seq != expected + skipped:
            return Turn(False, seq < expected, 0)
        self._staged[key] = seq
        return Turn(True, False, skipped)

    def last(self, device: str, spool: str) -> int | None:
        """The seq up to which this spool is taken: what `sensor/ack/<device>` says once it is committed."""
        key = device, spool
        return self._staged.get(key, self._last.get(key))

    def staged(self) -> list[tuple[str, str, int]]:
        """Rows (device, spool, seq) to commit with the readings."""
        return [(device, spool, seq) for (device, spool), seq in self._staged.items()]

    def keep(self) -> None:
        """The staged turns are on disk."""
        self._last.update(self._staged)
        self._staged.clear()

    def forget(self) -> None:
        """The staged turns are not on disk: the same messages will be asked about again."""
        self._staged.clear()
