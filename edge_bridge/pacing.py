"""Pacing: token buckets under AWS IoT Core's limits, and full-jitter back-off; asked by uplink.py at each publish."""
import random
import time
from collections.abc import Callable


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
