"""How publishing goes: uplink.py tells what it published and what came back; figures, latencies and the alarm for
receipts that do not come go to the status and the metrics."""
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_bridge import alarms
from edge_bridge.alarms import Alarms


@dataclass
class Figures:
    """What went over the connection since the start of the process. not_accepted: PUBACKs that said no, and publishes
    that never got one; resends: after a PUBACK, because the receipt did not come; receipts_overdue: how many now;
    takeovers: connections that another client with our client id ended."""

    connects: int = 0
    publishes: int = 0
    published_bytes: int = 0
    not_accepted: int = 0
    resends: int = 0
    receipts_overdue: int = 0
    takeovers: int = 0


class Receipts:
    """observe: called with "puback" or "receipt" and the seconds that it took. Used by the uplink's thread alone."""

    def __init__(self, timeout_s: float, raise_to: Alarms, observe: Callable[[str, float], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._alarms, self._observe, self._clock = timeout_s, raise_to, observe, clock
        self._started_s = clock()
        self._published_s: dict[str, tuple[float, float]] = {}  # when each was first and last published
        self._came_s: dict[str, tuple[float, float]] = {}  # by route: when the last came, and for a publish of when
        self._overdue: set[str] = set()
        self.figures = Figures()

    def published(self, name: str, size_bytes: int, accepted_before: bool) -> None:
        """A message goes out; accepted_before: again, after a PUBACK without a receipt."""
        now_s = self._clock()
        first_s, last_s = self._published_s.get(name, (now_s, self._started_s))
        self._published_s[name] = first_s, now_s
        self.figures.publishes += 1
        self.figures.published_bytes += size_bytes
        if accepted_before:
            self.figures.resends += 1
            if now_s - last_s >= self._timeout_s:  # sooner: because a session was lost, and maybe the receipt with it
                self._overdue.add(name)
                self._tell()

    def accepted(self, name: str) -> None:
        """PUBACK 0."""
        if name in self._published_s:
            self._observe("puback", self._clock() - self._published_s[name][1])

    def came(self, name: str, route: str) -> None:
        """Its receipt came: measured from the first publish of this process."""
        if name in self._published_s:
            now_s, first_s = self._clock(), self._published_s.pop(name)[0]
            self._came_s[route] = now_s, max(first_s, self._came_s.get(route, (0.0, first_s))[1])
            self._observe("receipt", now_s - first_s)

    def is_coming(self, name: str, route: str) -> bool:
        """Is a receipt that is late only slow? Receipts of its route come, and none yet for what was published later:
        the cloud has a queue, and the same message once more would only make it longer."""
        now_s = self._clock()
        _, published_s = self._published_s.get(name, (0.0, -math.inf))
        came_s, newest_s = self._came_s.get(route, (-math.inf, 0.0))
        timed_out = now_s - published_s >= self._timeout_s  # else it is due for another reason: a session was lost
        return timed_out and now_s - came_s < self._timeout_s and newest_s < published_s

    def forget(self, names: Iterable[str]) -> None:
        """These are delivered."""
        for name in names:
            self._published_s.pop(name, None)
            self._overdue.discard(name)
        self._tell()

    def _tell(self) -> None:
        self.figures.receipts_overdue = len(self._overdue)
        if not self._overdue:
            self._alarms.cleared(alarms.NO_RECEIPT)
        else:
            self._alarms.raised(alarms.NO_RECEIPT, (
                f"AWS accepted messages, but no receipt came within {self._timeout_s:g} s; they are kept and sent "
                "again; look at the IoT rules, the dead-letter queues and the functions' logs"))
