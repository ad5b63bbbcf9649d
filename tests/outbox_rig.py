"""What the tests of the outbox share: an open outbox with all that works on it, and a clock that stands still."""
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract import batch
from contract.alerts import Classified
from edge_bridge.counters import Counters
from edge_bridge.inbox import Message
from edge_bridge.live_line import LiveLine
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.packer import Packer
from edge_bridge.rows import Rows
from edge_bridge.shipments import Shipments
from edge_bridge.store import Store


class Parts:
    """An open outbox with all that works on it; the wall clock stands still until it is told. clock: the other one."""

    def __init__(self, path: Path, scoring: bool = False, now_s: float = 1_800_000_000.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.now_s = now_s
        self.store = Store(str(path))
        self.counters = Counters(self.store)
        self.rows = Rows(self.store, self.counters, scoring)
        self.shipments = Shipments(self.store, self.counters, receipt_timeout_s=5.0, clock=clock)
        self.live = LiveLine(20.0)
        self.outbox = Outbox(self.store, self.counters, lambda: self.now_s)
        self.packer = Packer(self.rows, self.shipments, self.live, outbox_id=self.store.outbox_id, batch_age_s=10.0,
                             now_s=lambda: self.now_s)

    def commit(self, *readings: tuple[str, float], extra: str = "") -> int:
        """Commit readings of (device, sensor2)."""
        intake = Intake()
        for index, (device, value) in enumerate(readings):
            reading = {"timestamp": 1_800_000_000 + index * 791 % 1000 / 1000, "sensor2": value,
                       "sensor1": 20 + index * 37 % 100 / 100, **({"note": extra} if extra else {})}
            payload = json.dumps(reading, ensure_ascii=False)
            intake.rows["readings"].append((device, int(self.now_s * 1000), payload.encode(), None))
            intake.counts[device, "committed"] += 1
            intake.counts["", "readings_in"] += 1
        first_id = self.outbox.commit(intake)
        self.live.committed(first_id)
        return first_id

    def sealed_rows(self) -> list[tuple[str, batch.Row]]:
        """Every reading in every undelivered batch, in the order of sealing."""
        found = []
        for shipment in self.shipments.all():
            if shipment.route == "readings":
                for series in batch.read(self.shipments.sealed(shipment)).series:
                    found += [(series["device"], row) for row in batch.unpack(series)]
        return found


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """An open outbox that nothing scores."""
    opened = Parts(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


class Source:
    """Where messages came from, as the intake sees it; keeps what was acknowledged."""

    def __init__(self, route: str = "readings") -> None:
        self.route = route
        self.acknowledged: list[Message] = []

    def acknowledge(self, messages: list[Message]) -> None:
        self.acknowledged += messages


def classified(row: Any, anomaly: bool = True) -> Classified:
    """What an alert says of this stored row."""
    return Classified(row.number, row.received_ms, 1_800_000_000, 1_800_000_000_000, "sensor2", Decimal("0.5"),
                      Decimal("0.5"), anomaly, Decimal("-0.1"))
