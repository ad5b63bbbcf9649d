"""The Kafka source against librdkafka's mock cluster: identity, manual commits, and what a crash brings again."""
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from edge_bridge.bridge import Bridge
from edge_bridge.counters import Counters
from edge_bridge.inbox import Inbox
from edge_bridge.kafka_source import KafkaSource
from edge_bridge.outbox import Outbox
from edge_bridge.schema import Store
from tests.bridge_rig import until
from tests.test_bridge_mqtt import chosen


class Cluster:
    """The mock cluster, and a producer to it."""

    def __init__(self) -> None:
        self._host = Producer({"test.mock.num.brokers": 1, "log_level": 3})
        brokers = self._host.list_topics(timeout=10).brokers.values()
        self.servers = ",".join(f"{b.host}:{b.port}" for b in brokers)
        self._producer = Producer({"bootstrap.servers": self.servers})

    def send(self, *values: bytes) -> None:
        for value in values:
            self._producer.produce("edge-data", value, key=b"camera-01")
        assert self._producer.flush(10) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield Cluster()


class Intake:
    """Source, bridge and outbox in this process; acknowledging: False is a crash between commit and acknowledgement."""

    def __init__(self, path: Path, cluster: Cluster, group: str, acknowledging: bool = True,
                 topic: str = "edge-data") -> None:
        self.store = Store(str(path))
        self.counters = Counters(self.store)
        inbox = Inbox()
        self.source = KafkaSource(chosen(bootstrap_servers=cluster.servers, kafka_group=group,
                                         kafka_topic=topic), inbox)
        if not acknowledging:
            self.source.acknowledge = lambda messages: None  # type: ignore[method-assign]
        self.bridge = Bridge(inbox, Outbox(self.store, self.counters), None, topic="sensor/data", device_id="unnamed",
                             committed=lambda first_id: None)
        self.bridge.start()
        self.source.start()

    def events(self) -> list[tuple[str, str, bytes]]:
        return list(self.store.read().execute("SELECT device, kafka, payload FROM events ORDER BY id"))

    def close(self) -> None:
        self.source.pause()
        self.bridge.stop(3.0)
        self.source.stop()
        self.store.close()


def event(n: int) -> bytes:
    return json.dumps({"device_id": "camera-01", "timestamp": "2026-11-22T07:24:00Z", "persons_detected": n}).encode()


def test_events_are_committed_once_though_a_crash_brings_them_again(tmp_path: Path, cluster: Cluster) -> None:
    cluster.send(event(1), b"{broken", event(2), b'{"device_id": "camera-01", "timestamp": 1}')
    first = Intake(tmp_path / "outbox.db", cluster, "crash", acknowledging=False)
    until(lambda: first.counters.total("received") == 4, "the first reading of the topic")
    first.close()
    second = Intake(tmp_path / "outbox.db", cluster, "crash")
    try:
        until(lambda: second.counters.total("repeats") == 2, "the same events, told as repeats")
        cluster.send(event(3))
        until(lambda: len(second.events()) == 3, "the next event")
        assert [json.loads(raw)["persons_detected"] for _, _, raw in second.events()] == [1, 2, 3]
        device, kafka, _ = second.events()[0]
        topic, _, offset, recorded_ms = json.loads(kafka)
        assert (device, topic, offset) == ("camera-01", "edge-data", 0) and recorded_ms > 1_700_000_000_000
        reasons = [r[0] for r in second.store.read().execute("SELECT reason FROM dead_letters ORDER BY id LIMIT 2")]
        assert reasons == ["broken JSON", "missing persons_detected"]
    finally:
        second.close()


def test_acknowledged_offsets_are_the_groups(tmp_path: Path, cluster: Cluster) -> None:
    cluster.send(event(10))
    first = Intake(tmp_path / "outbox.db", cluster, "resume")
    until(lambda: first.events(), "an event")
    received = until(lambda: first.counters.total("received"), "the count")
    first.close()
    cluster.send(event(11))
    second = Intake(tmp_path / "other.db", cluster, "resume")
    try:
        until(lambda: any(json.loads(raw)["persons_detected"] == 11 for _, _, raw in second.events()), "the next event")
        assert len(second.events()) <= 1 + (0 if received else 1), "what was acknowledged came again"
    finally:
        second.close()


def test_a_missing_broker_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = KafkaSource(chosen(bootstrap_servers="127.0.0.1:1", kafka_group="g"), Inbox())
    source.start()
    until(lambda: "no broker at 127.0.0.1:1" in caplog.text, "the absence to be told")
    source.pause()
    source.stop()
    assert [r.levelname for r in caplog.records if "no broker" in r.message].count("WARNING") == 1
