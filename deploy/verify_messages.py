"""What `make verify` publishes, and what the cloud must make of it: sealed batches of readings and events, an alert and
a ledger, under device names of this run alone; verify_hops.py compares."""
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from contract import alerts, batch, rollups, routes, topics
from infra.settings import Settings

READINGS, EVENTS = 200, 20
READINGS_PER_BATCH, EVENTS_PER_BATCH = 50, 10
STEP_MS = 100
PREFIX = "verify-"


@dataclass(frozen=True)
class Message:
    """One message: the route it takes, its topic, its exact bytes, and the id that the receipt will name ("": none)."""

    route: str
    topic: str
    payload: bytes
    id: str = ""


@dataclass(frozen=True)
class Run:
    """Everything of one run. sensor, camera: its device names; rows by device, in the order of their numbers."""

    settings: Settings
    thing: str
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    now_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    @property
    def site(self) -> str:
        """Under whose name the cloud keeps what the thing sends."""
        return self.settings.sites.get(self.thing, self.thing)

    @property
    def sensor(self) -> str:
        return f"{PREFIX}{self.name}-pi"

    @property
    def camera(self) -> str:
        return f"{PREFIX}{self.name}-camera"

    @property
    def outbox(self) -> str:
        return f"{PREFIX}{self.name}"

    def readings(self) -> list[batch.Row]:
        """READINGS rows, the last of them an anomaly; numbers that differ from run to run."""
        seed, first = int(self.name, 16), self.now_ms * 1000
        rows = []
        for index in range(READINGS):
            at_ms = self.now_ms - (READINGS - index) * STEP_MS
            values = {"sensor1": Decimal(1900 + (seed + index * 7) % 200).scaleb(-2),
                      "sensor2": Decimal(4000 + (seed + index * 13) % 2000).scaleb(-4)}
            mark = "anomaly" if index == READINGS - 1 else None
            rows.append(batch.Row(first + index, at_ms + 5, Decimal(at_ms).scaleb(-3), at_ms, None, None, values, {},
                                  mark, None))
        return rows

    def events(self) -> list[batch.Row]:
        """EVENTS rows as a camera's, from Kafka."""
        first, rows = self.now_ms * 1000, []
        for index in range(EVENTS):
            at_ms = self.now_ms - (EVENTS - index) * STEP_MS
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms // 1000)) + f".{at_ms % 1000:03d}Z"
            rows.append(batch.Row(first + index, at_ms + 5, moment, at_ms, None, None,
                                  {"persons_detected": Decimal(index % 5)}, {}, None, (self.outbox, 0, index, at_ms)))
        return rows

    def anomaly(self) -> alerts.Classified:
        """The one anomaly, the last reading, with an incident of its own."""
        row = self.readings()[-1]
        value = row.values["sensor2"]
        incident = alerts.incident(self.sensor, "sensor2", row.number, alerts.OPENED, row.at_ms, 1, value, "unusual")
        return alerts.Classified(row.number, row.received_ms, row.timestamp, row.at_ms, "sensor2", value, value, True,
                                 Decimal("-0.75"), None, None, "unusual", incident)

    def totals(self) -> dict[tuple[str, str], rollups.Total]:
        """{(device, field): total over all minutes}, as the roll-ups must add up to."""
        found: dict[tuple[str, str], rollups.Total] = {}
        for device, rows in ((self.sensor, self.readings()), (self.camera, self.events())):
            for (_, name), total in rollups.totals(rows).items():
                key = (device, name)
                found[key] = rollups.merge(found[key], total) if key in found else total
        return found

    def ledger(self) -> dict[str, Any]:
        """A status message as a bridge's, with what this run published."""
        devices = {self.sensor: {"committed": READINGS, "delivered": READINGS, "anomalies": 1},
                   self.camera: {"committed": EVENTS, "delivered": EVENTS}}
        return {"v": 1, "thing": self.thing, "version": f"verify {self.settings.version}", "at": self.now_ms,
                "connected": {"cloud": True}, "devices": devices, "devices_left_out": 0}

    def batches(self) -> Iterator[Message]:
        """Readings and events, a few batches each, as a bridge packs and seals them."""
        for route, device, rows, size in (("readings", self.sensor, self.readings(), READINGS_PER_BATCH),
                                          ("events", self.camera, self.events(), EVENTS_PER_BATCH)):
            topic = topics.basic_ingest(routes.rule_name(self.settings.name, route), self.thing)
            for start in range(0, len(rows), size):
                series = batch.pack(device, rows[start:start + size])
                batch_id, sealed = batch.seal_series(route, self.outbox, [series])
                yield Message(route, topic, sealed, batch_id)

    def alert(self) -> Message:
        """The anomaly's message."""
        alert_id, sealed = alerts.seal(self.outbox, self.sensor, [self.anomaly()])
        return Message("alerts", topics.ALERTS, sealed, alert_id)

    def status(self) -> Message:
        """The ledger's message."""
        return Message("status", topics.status(self.thing), json.dumps(self.ledger()).encode())

    def messages(self) -> list[Message]:
        """All of them, in the order of publishing."""
        return [*self.batches(), self.alert(), self.status()]
