"""The intake without a broker: what it gives up at its stop, and clocks that cannot be trusted."""
import json
import sqlite3

from contract import topics
from edge_bridge.alarms import OUTBOX_FAILS, Alarms
from edge_bridge.bridge import MAX_BATCH, Bridge
from edge_bridge.inbox import Inbox, Message
from edge_bridge.outbox import Intake, Outbox
from tests.bridge_rig import until
from tests.outbox_rig import Parts, Source
from tests.outbox_rig import parts as parts


class FailsWhenFull(Outbox):
    """An outbox that cannot take a whole micro-batch, as a disk that is nearly full."""

    def commit(self, intake: Intake) -> int:
        if intake.counts["", "received"] == MAX_BATCH:
            raise sqlite3.OperationalError("database or disk is full")
        return super().commit(intake)


def test_what_is_given_up_at_the_stop_is_not_passed_over_by_what_came_after_it(parts: Parts) -> None:
    """The offset of a later event would tell Kafka that the earlier ones are on disk as well."""
    inbox, source, alarms = Inbox(), Source("events"), Alarms()
    for offset in range(MAX_BATCH + 5):
        inbox.put(source, ("edge-data", 0, offset, 1), b'{"timestamp": 1, "persons_detected": 1}', 1, 0)
    intake = Bridge(inbox, FailsWhenFull(parts.store, parts.counters), None, topic=topics.SENSOR_DATA,
                    device_id="camera", committed=lambda first_id: None, raise_to=alarms)
    intake.start()
    until(lambda: OUTBOX_FAILS in alarms.up(), "the first micro-batch to fail")
    intake.stop(60)
    assert source.acknowledged == [] and parts.rows.waiting("events") == 0


def test_a_timestamp_that_cannot_be_trusted_is_counted_per_device(parts: Parts) -> None:
    source = Source()
    bridge = Bridge(Inbox(), parts.outbox, None, topic=topics.SENSOR_DATA, device_id="sensor",
                    committed=lambda first_id: None, now_s=lambda: 1_800_000_000.0)
    for device, timestamp in (("a", 0.5), ("a", 1_800_000_000.5), ("b", 1_800_000_400.5), ("c", 1_799_999_000.5)):
        payload = json.dumps({"timestamp": timestamp, "sensor2": 1, "device_id": device}).encode()
        bridge.take_in([Message(source, (topics.SENSOR_DATA,), payload, len(payload))])
    assert {name: parts.counters.value(name, "clock_untrusted") for name in "abc"} == {"a": 1, "b": 1, "c": 0}
    assert parts.rows.waiting("readings") == 4
