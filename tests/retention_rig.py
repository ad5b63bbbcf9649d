"""What the tests of full outboxes share: limits, an outbox that is filled up, and an intake that is fed."""
import json
from collections.abc import Callable
from typing import Any

from contract import topics
from edge_bridge.bridge import Bridge
from edge_bridge.inbox import Inbox
from edge_bridge.retention import Limits, Retention
from tests.outbox_rig import Parts, Source

MB = 1024 * 1024
DAY_S = 86_400.0


def retention(parts: Parts, size_bytes: int = 64 * MB, age_s: float = 30 * DAY_S, drop: bool = True) -> Retention:
    """Limits of this outbox, by its clock."""
    return Retention(parts.store, parts.rows, parts.shipments, parts.live, Limits(size_bytes, age_s, drop),
                     now_s=lambda: parts.now_s)


def fill(parts: Parts, size_bytes: int) -> int:
    """Commit readings until the outbox takes up so much; how many."""
    measure, count = retention(parts), 0
    while measure.used_bytes() < size_bytes:
        parts.commit(*[(f"d{i % 2}", i) for i in range(500)], extra="x" * 100)
        count += 500
    return count


def started(parts: Parts, full: Callable[[], bool]) -> tuple[Bridge, Inbox, Source]:
    """An intake in its thread, its inbox, and a source of readings for it."""
    inbox, source = Inbox(), Source()
    bridge = Bridge(inbox, parts.outbox, None, topic=topics.SENSOR_DATA, device_id="sensor",
                    committed=lambda first_id: None, full=full)
    bridge.start()
    return bridge, inbox, source


def send(inbox: Inbox, source: Source, n: int, **more: Any) -> None:
    """Put n readings into the inbox."""
    for seq in range(n):
        inbox.put(source, (topics.SENSOR_DATA,), json.dumps(
            {"timestamp": 1_800_000_000.5, "sensor2": 1, "seq": seq, **more}).encode(), 1, 0)
