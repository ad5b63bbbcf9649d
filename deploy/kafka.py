"""Kafka for the demo: the brokers in BOOTSTRAP_SERVERS, else librdkafka's mock cluster inside this process."""
import os

from confluent_kafka import Producer

from deploy.processes import PartFailed


class Kafka:
    """Where the camera and the bridge meet. The mock cluster lives as long as this object."""

    def __init__(self) -> None:
        given = os.environ.get("BOOTSTRAP_SERVERS", "")
        self.kind = "given" if given else "embedded"
        self._host = None if given else Producer({"test.mock.num.brokers": 1, "log_level": 3})
        self.bootstrap_servers = given or self._brokers()

    def _brokers(self) -> str:
        if self._host is None:
            raise PartFailed("the embedded Kafka cluster is closed")
        brokers = self._host.list_topics(timeout=10).brokers.values()
        return ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def close(self) -> None:
        """End the mock cluster; clients of it lose their broker."""
        self._host = None
