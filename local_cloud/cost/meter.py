"""The meter: services report what AWS would count while they run; bill.py reads it. To be used from the event loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

IOT_STEP_BYTES = 5120
SHADOW_STEP_BYTES = 1024
QUEUE_STEP_BYTES = 65_536
MOST_RESOURCES, MOST_ORIGINS = 1000, 5000  # told apart; what comes after is counted under OTHERS
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Usage:
    """So many units of one meter (a key of prices.json) at one resource; origin: on whose behalf, as the meter's
    own notes say (a topic, a queue, a table's partition key)."""

    meter: str
    resource: str
    origin: str
    quantity: float


class Meter:
    """Sums by (meter, resource, origin)."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[str, str, str], float] = defaultdict(float)
        self._resources: set[str] = set()

    def add(self, meter: str, resource: str, quantity: float = 1, origin: str = "") -> None:
        """Count a quantity; nothing when it is 0."""
        if not quantity:
            return
        if resource not in self._resources and len(self._resources) >= MOST_RESOURCES:
            resource = OTHERS
        self._resources.add(resource)
        if (meter, resource, origin) not in self._sums and len(self._sums) >= MOST_ORIGINS:
            origin = OTHERS
        self._sums[meter, resource, origin] += quantity

    def usage(self) -> list[Usage]:
        """Everything counted so far, sorted."""
        return [Usage(*key, quantity) for key, quantity in sorted(self._sums.items())]


class IotMeter:
    """What the device gateway reports: messages by topic and minutes of connection by client id."""

    def __init__(self, meter: Meter, clock: Callable[[], float]) -> None:
        self._meter = meter
        self._clock = clock
        self._since_s: dict[str, float] = {}

    def note(self, kind: str, name: str, size_bytes: int) -> None:
        """"message": one in or out by its topic, a CONNECT, a SUBSCRIBE, or a client's PUBACK (without a size);
        "shadow": an operation on a thing's shadow; "connected" and "disconnected": a client id."""
        if kind == "message":
            self._meter.add("iot.message", name, steps(size_bytes, IOT_STEP_BYTES))
        elif kind == "shadow":
            self._meter.add("iot.shadow_operation", name, steps(size_bytes, SHADOW_STEP_BYTES))
        elif kind == "connected":
            self._since_s.setdefault(name, self._clock())
        elif kind == "disconnected":
            since_s = self._since_s.pop(name, self._clock())
            self._meter.add("iot.connection_minute", name, (self._clock() - since_s) / 60)
        else:
            raise ValueError(f"got {kind!r}, expected message, shadow, connected or disconnected")

    def read(self) -> None:
        """Count the connections that last, up to now."""
        for client_id in list(self._since_s):
            self.note("disconnected", client_id, 0)
            self.note("connected", client_id, 0)


def steps(size_bytes: int, step_bytes: int) -> int:
    """How many steps AWS meters for this size: at least one."""
    return max(1, -(-size_bytes // step_bytes))
