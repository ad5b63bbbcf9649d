"""The hand-over: readings just committed go from outbox.py to anomaly.py as they were decoded, not by way of the disk.

It only spares reading them again. What it does not hold (after a start, when scoring lags, when rows have left
unscored) is read from the outbox, so a crash leaves rows unscored, not lost, and the order is always that of the ids.
"""
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from contract import payloads
from contract.errors import BadPayload

if TYPE_CHECKING:
    from edge_bridge.rows import Rows, StoredRow

MOST_HELD = 10_000  # readings, about 10 MB; of more the newest are left to be read from the outbox


class Committed(NamedTuple):
    """A reading that is on disk. id: of its row; reading: None when it cannot be read, which is the packer's affair."""

    id: int
    device: str
    number: int
    received_ms: int
    reading: payloads.Reading | None


class Handover:
    """Micro-batches of committed readings, in order, between the intake's thread and the scorer's."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most, self._held = most, 0
        self._batches: deque[tuple[int, list[Committed]]] = deque()
        self._lock = threading.Lock()

    def put(self, after_id: int, committed: list[Committed]) -> None:
        """These were committed, and after_id is the id of the reading before them. Not kept when there is no room."""
        with self._lock:
            if committed and self._held + len(committed) <= self._most:
                self._batches.append((after_id, committed))
                self._held += len(committed)

    def take(self, after_id: int, most: int) -> list[Committed]:
        """Up to `most` readings, the very next ones after this id; [] when they are not held."""
        taken: list[Committed] = []
        with self._lock:
            while len(taken) < most and self._batches and self._batches[0][0] <= after_id:
                _, batch = self._batches.popleft()
                self._held -= len(batch)
                due = [one for one in batch if one.id > after_id] if batch[0].id <= after_id else batch
                some = due[:most - len(taken)]
                taken += some
                after_id = taken[-1].id if taken else after_id
                if len(some) < len(due):
                    self._batches.appendleft((after_id, due[len(some):]))
                    self._held += len(due) - len(some)
        return taken

    def begins_after(self) -> int | None:
        """Up to this id readings have to be read from the outbox; None: all of them."""
        with self._lock:
            return self._batches[0][0] if self._batches else None

    def empty(self) -> None:
        """Some of these may have left the outbox, or are about to: what is still there is read from it."""
        with self._lock:
            self._batches.clear()
            self._held = 0


def next_unscored(rows: "Rows", most: int) -> list[Committed]:
    """The oldest readings that were not scored yet, in the order of their commit: as handed over, else from the outbox.
    """
    held = rows.handover.take(rows.scored_to, most)
    if held:
        return held
    to_id = rows.handover.begins_after()
    stored = rows.unscored(most, to_id)
    if stored or to_id is None:
        return _decoded(stored)
    return rows.handover.take(to_id, most)  # of the rows in between none is left


def _decoded(stored: "list[StoredRow]") -> list[Committed]:
    try:
        readings: list[payloads.Reading | None] = list(payloads.read_again([row.payload for row in stored]))
    except BadPayload:  # one of them, so each is read by itself
        readings = [_reading(row.payload) for row in stored]
    return [Committed(row.id, row.device, row.number, row.received_ms, reading)
            for row, reading in zip(stored, readings, strict=True)]


def _reading(payload: bytes) -> payloads.Reading | None:
    try:
        reading: payloads.Reading = payloads.read(payload)
    except BadPayload:
        return None
    return reading
