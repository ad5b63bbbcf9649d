"""A camera's events: from camera.py onto this machine's disk (spool.py), to Kafka, and off the disk when delivered.

Few are in flight, the rest waits on disk. What an earlier run left there goes first.
"""
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from device.spool import Spool

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

MOST_IN_FLIGHT = 500
AGAIN_S = 2.0  # an event that Kafka refused is sent again after this
log = logging.getLogger("camera")


class Outlet:
    """Sends what `put` took, in order. All calls from one thread. producer: made by `new_producer`.

    made, confirmed: events of this run. left_over: events found in the spool. dropped: lost to the spool's bound.
    """

    def __init__(self, producer: "Producer", topic: str, device: str, spool: Spool) -> None:
        self._producer, self._topic, self._key, self._spool = producer, topic, device.encode(), spool
        self._own = spool.last + 1  # the first number of this run
        self._next = spool.first  # the next to hand to the producer
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._again_at_s = 0.0
        self._dropped_before, self._dropped_yet_delivered = spool.dropped, 0
        self._complaint: str | None = None
        self._said_full = False
        self.made = self.confirmed = 0
        self.left_over = spool.last + 1 - spool.first

    @property
    def waiting(self) -> int:
        """Events on disk or in flight that Kafka has not confirmed."""
        return len(self._unconfirmed | self._refused) + self._spool.last + 1 - max(self._next, self._spool.first)

    @property
    def dropped(self) -> int:
        """Events that this run lost, since the spool was full."""
        return self._spool.dropped - self._dropped_before - self._dropped_yet_delivered

    def put(self, text: str) -> None:
        """Commit an event to disk and send it in its turn. Raises sqlite3.OperationalError (the disk is full)."""
        self._spool.add([text])
        self.made += 1
        if self.dropped and not self._said_full:
            self._said_full = True
            log.warning("the spool is full: the oldest events are dropped, and counted")
        self._send()

    def serve(self, wait_s: float = 0.0) -> None:
        """Take confirmations, waiting so long at most, and send what there is room for."""
        self._producer.poll(wait_s)
        self._send()

    def summary(self) -> str:
        """What was done so far, in one line."""
        return f"{self.made} events, {self.confirmed} confirmed, {self.waiting} waiting, {self.dropped} dropped"

    def finish(self, wait_s: float) -> bool:
        """Wait for all confirmations, so long at most; True when this run's events are all delivered."""
        deadline_s = time.monotonic() + wait_s
        while self.waiting and time.monotonic() < deadline_s:
            self.serve(min(0.1, wait_s))
        try:
            self._spool.close()
        except sqlite3.Error as error:  # it knows less than was confirmed: a few events go twice, none is lost
            log.error("the spool cannot be closed as it should: %s", error)
        return self.confirmed == self.made and not self.waiting

    def _send(self) -> None:
        room = MOST_IN_FLIGHT - len(self._unconfirmed)
        if room > 0 and self._next <= self._spool.last:
            for number, text in self._spool.read(self._next, room):
                self._produce(number, text)
                self._next = number + 1
        if self._refused and time.monotonic() >= self._again_at_s:
            self._send_refused()

    def _send_refused(self) -> None:
        refused, self._refused = sorted(self._refused), set()
        for number in refused:
            for found, text in self._spool.read(number, 1):
                if found == number:  # else the spool's bound has dropped it
                    self._produce(number, text)

    def _produce(self, number: int, text: str) -> None:
        self._unconfirmed.add(number)
        self._producer.produce(self._topic, text.encode(), key=self._key,
                               on_delivery=lambda error, _message: self._delivered(number, error))

    def _delivered(self, number: int, error: "KafkaError | None") -> None:
        self._unconfirmed.discard(number)
        if error is not None:
            self._refused.add(number)
            self._again_at_s = time.monotonic() + AGAIN_S
            self.complain(f"an event was not delivered to {self._topic}: {error.str()}; trying again")
            return
        self.confirmed += number >= self._own
        self._dropped_yet_delivered += number < self._spool.first
        self._complaint, self._said_full = None, False
        self._spool.forget(min([self._next, *self._unconfirmed, *self._refused]) - 1)

    def complain(self, text: str) -> None:
        """Warn, but not with the same words again until something was delivered."""
        if text != self._complaint:
            self._complaint = text
            log.warning("%s", text)


def new_producer(bootstrap: str, on_error: Callable[["KafkaError"], None]) -> "Producer":
    """A producer that repeats until delivered, neither doubling nor turning round what it sends."""
    from confluent_kafka import Producer

    return Producer({
        "bootstrap.servers": bootstrap, "client.id": "edgecloud-camera", "enable.idempotence": True, "acks": "all",
        "message.timeout.ms": 0,  # never give up by itself: an outage of an hour is not the event's fault
        "reconnect.backoff.max.ms": 5000, "error_cb": on_error, "log_level": 0,
    })
