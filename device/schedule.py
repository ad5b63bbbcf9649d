"""When the next reading is due: a fixed rate on the monotonic clock; used by sampler.py and camera.py."""
import time
from decimal import Decimal


def count_of(rate, seconds):
    """Readings in a run of `seconds` at `rate` per second: exact (0.1 x 30 is 3, no float in between)."""
    return int((Decimal(str(rate)) * Decimal(str(seconds))).to_integral_value())


def ticks(rate, count, stopping):
    """Yield 0, 1, 2, ... each at start + i/rate; `count` of them, or without end when it is None.

    A late tick is caught up, not lost, and the schedule does not drift. Ends early once `stopping`
    (a threading.Event) is set.
    """
    start = time.monotonic()
    i = 0
    while count is None or i < count:
        if stopping.wait(max(0.0, start + i / rate - time.monotonic())):
            return
        yield i
        i += 1
