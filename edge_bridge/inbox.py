"""The inbox: the sources' threads put messages in, bridge.py takes them out in micro-batches; it is bounded."""
import queue
import threading
from typing import Any, NamedTuple, Protocol

from contract.payloads import MAX_MESSAGE_BYTES

MAX_WAITING = 20_000


class Source(Protocol):
    """Where messages come from. route: one of schema.ROUTES."""

    route: str

    def acknowledge(self, messages: "list[Message]") -> None:
        """Tell the broker that these are on disk; those of an earlier connection are left to be sent again."""


class Message(NamedTuple):
    """One message as it came.

    payload: its bytes, cut off just above the size that is read at all; size_bytes: before that.
    origin: (topic,) of MQTT, (topic, partition, offset, record timestamp in ms) of Kafka.
    connection, packet_id: which delivery it was, for the acknowledgement and for telling a redelivery.
    """

    source: Source
    origin: tuple[Any, ...]
    payload: bytes
    size_bytes: int
    connection: int = 0
    packet_id: int = 0


class Inbox:
    """A queue between threads whose `put` waits while MAX_WAITING messages wait. One thread takes."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._room, self._company = threading.Event(), threading.Event()
        self._wanted = 0  # how many the taker waits for; 0: it does not wait
        self._max_waiting = max_waiting
        self._closed = False

    def put(self, source: Source, origin: tuple[Any, ...], payload: bytes, connection: int, packet_id: int) -> None:
        """Hand over one message; waits for room."""
        size_bytes = len(payload)
        if size_bytes > MAX_MESSAGE_BYTES:
            payload = payload[:MAX_MESSAGE_BYTES + 1]
        while self.full() and not self._closed:
            self._room.clear()
            self._room.wait(0.1)
        self._queue.put(Message(source, origin, payload, size_bytes, connection, packet_id))
        if self._wanted and self._queue.qsize() >= self._wanted:
            self._company.set()

    def full(self) -> bool:
        """True when a source had better wait."""
        return self._queue.qsize() >= self._max_waiting

    def close(self) -> None:
        """No source waits for room any more, and `take` returns at once."""
        self._closed = True
        self._room.set()
        self._queue.put(None)
        self._company.set()

    def take(self, most: int, linger_s: float, timeout_s: float) -> list[Message]:
        """Up to `most` messages: waits timeout_s for the first, then linger_s for company; [] when none came."""
        try:
            first = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return []
        batch = [] if first is None else [first]
        if batch:
            self._await_company(most - 1, linger_s)
        for _ in range(min(most - len(batch), self._queue.qsize())):
            message = self._queue.get()
            if message is None:
                break
            batch.append(message)
        self._room.set()
        return batch

    def _await_company(self, count: int, linger_s: float) -> None:
        """Once for all, and not for each message: the source's thread would be interrupted as often."""
        self._company.clear()
        self._wanted = count
        if self._queue.qsize() < count and not self._closed:
            self._company.wait(linger_s)
        self._wanted = 0
