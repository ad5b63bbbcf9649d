"""The inbox: the sources' threads put messages in, bridge.py takes them out in micro-batches; it is bounded."""
import queue
import threading
import time
from typing import Any, NamedTuple, Protocol

from contract.payloads import MAX_MESSAGE_BYTES

MAX_WAITING = 20_000


class Source(Protocol):
    """Where messages come from. route: "readings" or "events"; required: the field that each must carry."""

    route: str
    required: str

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
    """A queue between threads whose `put` waits while MAX_WAITING messages wait."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._room = threading.Event()
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

    def full(self) -> bool:
        """True when a source had better wait."""
        return self._queue.qsize() >= self._max_waiting

    def close(self) -> None:
        """No source waits for room any more, and `take` returns at once."""
        self._closed = True
        self._room.set()
        self._queue.put(None)

    def take(self, most: int, linger_s: float, timeout_s: float) -> list[Message]:
        """Up to `most` messages: waits timeout_s for the first, then linger_s for company; [] when none came."""
        batch: list[Message] = []
        get, append = self._queue.get, batch.append
        deadline_s = time.monotonic() + timeout_s
        try:
            while len(batch) < most:
                remaining_s = deadline_s - time.monotonic()
                message = get(timeout=remaining_s) if remaining_s > 0 else get(block=False)
                if message is None:
                    break
                if not batch:
                    deadline_s = time.monotonic() + linger_s
                append(message)
        except queue.Empty:
            pass  # the batch is what was there
        if not self._room.is_set():
            self._room.set()
        return batch
