"""The fault switchboard: what tests and drills do to the link and to acknowledgements; read by door and connections.

Switches act at once and until `restore()` / `clear()`, those on PUBACKs on the next `count` matching messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from local_cloud.gateway.packets import SERVER_UNAVAILABLE

LINK_UP, LINK_CUT, LINK_BLACK_HOLE = "up", "cut", "black hole"


@dataclass
class Counters:
    """What happened since the start; `connections` and `unacked` are gauges. Bytes are MQTT's, without TLS and TCP."""

    connections: int = 0
    connects: int = 0
    refused: int = 0
    publishes: int = 0
    delivered: int = 0
    denied: int = 0
    discarded: int = 0
    delayed: int = 0
    taken_over: int = 0
    malformed: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the control port."""
        return asdict(self)


@dataclass
class PubackFault:
    """What happens to the PUBACK of a matching message. Exactly one of the last four is set.

    `withhold`: accepted, never acknowledged. `delay_s`: accepted, acknowledged late (later PUBACKs of the connection
    wait behind it). `reason_code`: not accepted, acknowledged with that code (MQTT 3.1.1 has none: disconnected).
    `drop`: accepted, then the connection is lost before the PUBACK.
    """

    topic_prefix: str
    left: int | None  # None: until cleared
    withhold: bool = False
    delay_s: float = 0.0
    reason_code: int = 0
    drop: bool = False


def _check_count(count: int | None) -> None:
    if count is not None and count < 1:
        raise ValueError(f"count {count}: at least 1, or None for all of them, expected")


def _check_fails(reason_code: int) -> None:
    if not 0x80 <= reason_code <= 0xFF:
        raise ValueError(f"reason code 0x{reason_code:02X} does not fail; 0x80 to 0xFF expected")


class Faults:
    """The switches. Topics are matched as the client sent them, Basic Ingest prefix included."""

    def __init__(self) -> None:
        self.link = LINK_UP
        self.bytes_per_s: float | None = None
        self.refusal_code: int | None = None
        self._refusals_left: int | None = None
        self._pubacks: list[PubackFault] = []
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever the link's state does."""
        self._watchers.append(changed)

    def _set_link(self, state: str) -> None:
        self.link = state
        for changed in self._watchers:
            changed()

    def cut(self) -> None:
        """Drop every connection and refuse new ones at TCP."""
        self._set_link(LINK_CUT)

    def black_hole(self) -> None:
        """Keep and accept connections but answer nothing; what is in the pipe moves on at `restore()`."""
        self._set_link(LINK_BLACK_HOLE)

    def restore(self) -> None:
        """The link is back."""
        self._set_link(LINK_UP)

    def throttle(self, bytes_per_s: float | None) -> None:
        """Slow every connection to that rate, both directions together; None for full speed."""
        if bytes_per_s is not None and bytes_per_s <= 0:
            raise ValueError(f"throttle to {bytes_per_s} bytes/s: a rate above 0, or None for full speed, expected")
        self.bytes_per_s = bytes_per_s

    def refuse_connects(self, count: int | None = None, reason_code: int = SERVER_UNAVAILABLE) -> None:
        """Answer the next `count` CONNECTs (None: all) with a failing CONNACK; open connections stay."""
        _check_count(count)
        _check_fails(reason_code)
        self.refusal_code = reason_code
        self._refusals_left = count

    def accept_connects(self) -> None:
        """End `refuse_connects`."""
        self.refusal_code = None

    def take_refusal(self) -> int | None:
        """The code to refuse this CONNECT with, if it is to be refused."""
        code = self.refusal_code
        if code is not None and self._refusals_left is not None:
            self._refusals_left -= 1
            if self._refusals_left <= 0:
                self.refusal_code = None
        return code

    def withhold_puback(self, topic_prefix: str = "", count: int | None = 1) -> None:
        """Accept, but never acknowledge."""
        self._add(PubackFault(topic_prefix, count, withhold=True))

    def delay_puback(self, delay_s: float, topic_prefix: str = "", count: int | None = 1) -> None:
        """Accept, and acknowledge late."""
        if delay_s <= 0:
            raise ValueError(f"delay of {delay_s} s: a time above 0 expected")
        self._add(PubackFault(topic_prefix, count, delay_s=delay_s))

    def fail_puback(self, reason_code: int, topic_prefix: str = "", count: int | None = 1) -> None:
        """Do not accept: acknowledge with a failing reason code (0x80 and up)."""
        _check_fails(reason_code)
        self._add(PubackFault(topic_prefix, count, reason_code=reason_code))

    def drop_before_puback(self, topic_prefix: str = "", count: int | None = 1) -> None:
        """Accept, then lose the connection in place of the PUBACK."""
        self._add(PubackFault(topic_prefix, count, drop=True))

    def _add(self, fault: PubackFault) -> None:
        _check_count(fault.left)
        self._pubacks.append(fault)

    def clear(self) -> None:
        """All switches off, the link up."""
        self._pubacks.clear()
        self.accept_connects()
        self.throttle(None)
        self.restore()

    def take_puback_fault(self, topic: str) -> PubackFault | None:
        """The fault for this message's PUBACK, used up by one."""
        for fault in self._pubacks:
            if topic.startswith(fault.topic_prefix):
                if fault.left is not None:
                    fault.left -= 1
                    if fault.left <= 0:
                        self._pubacks.remove(fault)
                return fault
        return None

    def state(self) -> dict[str, object]:
        """For the control port."""
        return {"link": self.link, "bytes_per_s": self.bytes_per_s, "refusal_code": self.refusal_code,
                "pubacks": [asdict(fault) for fault in self._pubacks]}
