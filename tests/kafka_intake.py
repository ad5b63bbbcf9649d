"""What the tests of the Kafka source share: librdkafka's mock cluster, and a source with its bridge in this process."""
from pathlib import Path

from confluent_kafka import Consumer, Producer

from edge_bridge.bridge import Bridge
from edge_bridge.counters import Counters
from edge_bridge.inbox import Inbox
from edge_bridge.kafka_source import KafkaSource
from edge_bridge.outbox import Outbox
from edge_bridge.store import Store
from tests.bridge_rig import chosen

SESSION_TIMEOUT_MS = 3500  # the mock cluster lets nobody join before it has missed who left


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


class Intake:
    """Source, bridge and outbox in this process; acknowledging: False is a crash between commit and acknowledgement."""

    def __init__(self, path: Path, cluster: Cluster, group: str, acknowledging: bool = True,
                 topic: str = "edge-data") -> None:
        self.store = Store(str(path))
        self.counters = Counters(self.store)
        inbox = Inbox()
        settings = chosen(bootstrap_servers=cluster.servers, kafka_group=group, kafka_topic=topic)
        self.source = KafkaSource(settings, inbox, lambda options: Consumer(
            {**options, "session.timeout.ms": SESSION_TIMEOUT_MS}))
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
