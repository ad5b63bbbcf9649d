"""Pacing: one connection's budget under AWS IoT Core's limits, and full-jitter back-off; asked by uplink.py at each
publish."""
import random
import time
from collections.abc import Callable

PUBLISHES_PER_S = 95.0  # of 100 per connection, in and out together: the rest is for receipts
BYTES_PER_S = 510_000.0  # of 512 KiB
ALERTS_PER_S = 20.0
MOST_IN_FLIGHT = 64
MOST_IN_FLIGHT_BYTES = 512 * 1024


def full_jitter_s(attempt: int, base_s: float, most_s: float) -> float:
    """Seconds to wait before the attempt-th retry (from 1): anywhere up to base * 2^attempt, at most most_s."""
    return random.uniform(0.0, min(most_s, base_s * 2 ** min(attempt, 30)))


class Bucket:
    """Tokens that come back at a rate; one take may overdraw, the next then waits: no message is too big for it."""

    def __init__(self, per_s: float, capacity: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._capacity, self._clock = per_s, capacity, clock
        self._tokens, self._at_s = capacity, clock()

    def _refill(self) -> None:
        now_s = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s

    def ready_in_s(self, amount: float = 1.0) -> float:
        """0.0 when something may be taken now; else the seconds until then. amount counts up to the capacity."""
        self._refill()
        return max(0.0, (min(amount, self._capacity) - self._tokens) / self._per_s)

    def take(self, amount: float = 1.0) -> None:
        """Take tokens; below zero is owed."""
        self._refill()
        self._tokens -= amount

    def tokens(self) -> float:
        """What is there now."""
        self._refill()
        return self._tokens


class Budget:
    """What one connection may still publish. Used by the uplink's thread alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._publishes = Bucket(PUBLISHES_PER_S, 10, clock)
        self._bytes = Bucket(BYTES_PER_S, 128 * 1024, clock)
        self._alerts = Bucket(ALERTS_PER_S, ALERTS_PER_S, clock)
        self._backfill = Bucket(BYTES_PER_S, 128 * 1024, clock)
        self.backfill_share = 1.0  # of its pace; set by another thread
        self._in_flight: dict[str, int] = {}

    def wait_s(self) -> float:
        """Seconds until the rates allow one more publish."""
        return max(self._publishes.ready_in_s(), self._bytes.ready_in_s())

    def is_full(self) -> bool:
        """Must an answer be awaited first?"""
        return len(self._in_flight) >= MOST_IN_FLIGHT or sum(self._in_flight.values()) >= MOST_IN_FLIGHT_BYTES

    def alerts(self) -> float:
        """How many alert messages may go now."""
        return self._alerts.tokens()

    def may_alert(self) -> bool:
        """May one go now?"""
        return self._alerts.ready_in_s() == 0.0

    def may_backfill(self) -> bool:
        """May a message of the backlog go now? Always, unless it was slowed down."""
        return self.backfill_share >= 1.0 or self._backfill.ready_in_s() == 0.0

    def backfilled(self, size_bytes: int) -> None:
        """One goes out: at half the share it has taken twice as much."""
        if self.backfill_share < 1.0:
            self._backfill.take(max(size_bytes, BYTES_PER_S / PUBLISHES_PER_S) / self.backfill_share)

    def published(self, name: str, size_bytes: int, is_alert: bool) -> None:
        """A sealed message goes out; it is in flight until it is answered."""
        self.take()
        self._bytes.take(size_bytes)
        if is_alert:
            self._alerts.take()
        self._in_flight[name] = size_bytes

    def answered(self, name: str) -> None:
        """It is no longer in flight."""
        self._in_flight.pop(name, None)

    def take(self, publishes: int = 1) -> None:
        """What goes beside the batches (the status, the shadow) counts, and waits for nothing."""
        self._publishes.take(publishes)
