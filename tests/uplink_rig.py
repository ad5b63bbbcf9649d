"""What the tests of the uplink share: a real outbox, an uplink, and a loopback connection in place of the cloud."""
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import topics
from edge_bridge.alarms import Alarms
from edge_bridge.loopback import LoopbackConnection
from edge_bridge.uplink import Options, Uplink
from tests.outbox_rig import Parts

TOPICS = {"readings": "$aws/rules/edgecloud_readings/T", "events": "$aws/rules/edgecloud_events/T",
          "alerts": topics.ALERTS}


class Line:
    """An outbox, an uplink and a loopback connection."""

    def __init__(self, path: Path, receipt_timeout_s: float = 60.0, receipts: bool = True, scoring: bool = False,
                 **connection: Any) -> None:
        self.alarms, self.took = Alarms(), list[tuple[str, float]]()
        self.ahead_s = self.passed_s = 0.0  # of the wall clock, and of the other one
        self.parts = Parts(path, scoring, now_s=time.time(), clock=self.clock)
        self.connection = LoopbackConnection("T", **connection)
        self.uplink = Uplink(self.connection, self.parts.shipments, self.parts.packer, self.parts.live,
                             Options("T", TOPICS, receipts, receipt_timeout_s), self.clock, raise_to=self.alarms,
                             observe=lambda what, seconds: self.took.append((what, seconds)),
                             now_s=lambda: time.time() + self.ahead_s)
        self.uplink.start()

    def clock(self) -> float:
        """A monotonic clock that the test can put forward."""
        return time.monotonic() + self.passed_s

    def commit(self, *values: float) -> None:
        """Commit readings that are old enough to be sealed now."""
        self.parts.now_s = time.time() - 11
        self.parts.commit(*[("a", value) for value in values])
        self.parts.now_s = time.time()

    def sent_bytes(self) -> dict[str, set[bytes]]:
        """{token: the different bytes it was sent with}."""
        found: dict[str, set[bytes]] = {}
        for _, payload, token in list(self.connection.published):
            found.setdefault(token, set()).add(payload)
        return found

    def delivered(self) -> int:
        return self.parts.counters.total("delivered")

    def close(self) -> None:
        self.uplink.stop(0.0)
        self.parts.store.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(**options: Any) -> Line:
        lines.append(Line(tmp_path / f"{len(lines)}.db", **options))
        return lines[-1]
    yield make
    for one in lines:
        one.close()
