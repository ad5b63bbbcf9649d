"""SIGKILL at random instants, lost PUBACKs, lost receipts, while more arrives: none lost or doubled."""
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import batch, payloads, topics
from tests.bridge_rig import THING, BridgeProcess, Cloud, Mosquitto, Pi, until
from tests.bridge_rig import broker as broker
from tests.bridge_rig import cloud as cloud
from tests.kafka_intake import Cluster

pytestmark = pytest.mark.needs("mosquitto")
SEED = 20261122


class Spooler(Pi):
    """A publisher with a spool: goes on from the last confirmation, as ours does."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port, name)
        self._next, self._stood_s, self._last = 1, time.monotonic(), 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def make(self) -> None:
        """The sensor makes one reading."""
        self.made += 1

    def _run(self) -> None:
        while not self._done.wait(0.01):
            acked = self.confirmed.get("s", 0)
            if acked != self._last:
                self._last, self._stood_s = acked, time.monotonic()
            if time.monotonic() - self._stood_s > 0.7:  # 5 s in the field
                self._next, self._stood_s = acked + 1, time.monotonic()
            while self._next <= min(self.made, acked + 200):
                seq, self._next = self._next, self._next + 1
                self.send(payloads.sensor_reading(
                    1_800_000_000 + seq // 10, {"sensor1": 20, "sensor2": 0.5}, self.name, "s", seq, acked + 1))

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        super().close()


@pytest.fixture
def bridge(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> Iterator[BridgeProcess]:
    made = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port), LOG_LEVEL="INFO").start()
    until(lambda: made.status().get("connected") == {"cloud": True, "mqtt": True}, "both connections")
    yield made
    made.close()


def settled(bridge: BridgeProcess) -> bool:
    """Nothing waits, by a status of this run."""
    status = bridge.status()
    return bool(status) and status["at"] > bridge_started_ms(bridge) and not sum(status["waiting"].values())


def bridge_started_ms(bridge: BridgeProcess) -> float:
    return float(bridge.status()["started"])


def check(cloud: Cloud, made: dict[str, int]) -> None:
    """Each reading once, in the order of its making; and no batch ever changed."""
    for device, count in made.items():
        assert cloud.seqs(device) == list(range(1, count + 1)), device
    assert cloud.doubled == [] and cloud.torn == []


class Stream:
    """Readings of several publishers, without a pause, until it is ended."""

    def __init__(self, pis: list[Pi]) -> None:
        self._pis, self._ended = pis, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.003):
            for pi in self._pis:
                pi.make()

    def end(self) -> dict[str, int]:
        """{publisher: how many it made}."""
        self._ended.set()
        self._thread.join()
        return {pi.name: pi.made for pi in self._pis}


@pytest.mark.parametrize("publisher", [Pi, Spooler])
def test_sigkill_at_random_instants(bridge: BridgeProcess, cloud: Cloud, broker: Mosquitto, publisher: Any) -> None:
    chance = random.Random(SEED)
    pis = [publisher(broker.port, f"pi-{i}") for i in range(2)]
    stream = Stream(pis)
    try:
        for _ in range(6):
            received = bridge.status().get("received", 0)
            until(lambda received=received: bridge.status().get("received", 0) > received, "the bridge to receive")
            time.sleep(chance.uniform(0, 0.3))  # the instant is the point here, not a condition
            bridge.kill()
            bridge.start()
        made = stream.end()
        until(lambda: sum(len(cloud.seqs(name)) for name in made) >= sum(made.values()), f"{made}, seed {SEED}", 40)
        until(lambda: settled(bridge), "the outbox to empty")
        check(cloud, made)
        assert bridge.stop() == 0
    finally:
        stream.end()
        for pi in pis:
            pi.close()


def test_lost_pubacks_and_receipts_while_more_arrives(bridge: BridgeProcess, cloud: Cloud, broker: Mosquitto) -> None:
    faults = cloud.faults()
    pi = Pi(broker.port, "pi-1")
    try:
        for fault in ("drop", "receipt", "negative", "drop", "receipt", "cut"):
            before = len(cloud.deliveries)
            if fault == "drop":
                cloud.call(lambda: faults.drop_before_puback("$aws/rules/", 1))
            elif fault == "negative":
                cloud.call(lambda: faults.fail_puback(0x97, "$aws/rules/", 2))
            elif fault == "receipt":
                cloud.lose_receipts = 2
            elif fault == "cut":
                cloud.call(faults.cut)
            for _ in range(40):
                pi.reading()
                time.sleep(0.01)
            if fault == "cut":
                cloud.call(faults.restore)
            until(lambda before=before: len(cloud.deliveries) > before, f"a batch after {fault}")
        until(lambda: len(cloud.rows) == pi.made, "all", 40)
        until(lambda: settled(bridge), "all receipts")
        check(cloud, {"pi-1": pi.made})
        assert len(cloud.deliveries) > len(cloud.batches), "nothing was sent twice: the faults did not happen"
    finally:
        pi.close()


def test_sigkill_between_publish_and_receipt(bridge: BridgeProcess, cloud: Cloud, broker: Mosquitto) -> None:
    pi = Pi(broker.port, "pi-1")
    try:
        cloud.receipts = False
        for _ in range(30):
            pi.reading()
        until(lambda: len(cloud.rows) == 30, "the first rows in the cloud, without a receipt")
        bridge.kill()
        for _ in range(30):
            pi.reading()
        pi.flush()
        bridge.start()
        until(lambda: len(cloud.rows) == 60, "the rows that came meanwhile")
        cloud.receipts = True
        until(lambda: settled(bridge), "the same batches again, and their receipts")
        check(cloud, {"pi-1": 60})
        assert len(cloud.deliveries) > len(cloud.batches)
    finally:
        pi.close()


def test_sigterm_delivers_what_is_young_and_exits_well(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> None:
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port), BATCH_AGE="60",
                           SCORED_FIELDS="sensor2").start()
    pi = Pi(broker.port, "pi-1")
    try:
        until(lambda: bridge.status().get("connected") == {"cloud": True, "mqtt": True}, "both connections", 40)
        for _ in range(50):
            pi.reading()
        until(lambda: bridge.status()["committed"] == 50, "the commit")
        assert cloud.rows == {}, "60 s have not passed"
        assert bridge.stop() == 0
        check(cloud, {"pi-1": 50})
        assert sum(bridge.status()["waiting"].values()) == 0 and bridge.status()["delivered"] == 50
    finally:
        pi.close()
        bridge.close()


def test_sigterm_without_a_cloud_keeps_everything(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> None:
    cloud.call(cloud.faults().cut)
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port)).start()
    pi = Pi(broker.port, "pi-1")
    try:
        until(lambda: bridge.status().get("connected") == {"cloud": False, "mqtt": True}, "the LAN connection")
        for _ in range(20):
            pi.reading()
        until(lambda: bridge.status()["committed"] == 20, "the commit")
        assert bridge.stop() == 0 and bridge.status()["waiting"]["backfill"] == 20
        cloud.call(cloud.faults().restore)
        bridge.start()
        until(lambda: len(cloud.rows) == 20, "the backlog")
        check(cloud, {"pi-1": 20})
    finally:
        pi.close()
        bridge.close()


def test_mosquitto_dies_and_our_publisher_sends_again(bridge: BridgeProcess, cloud: Cloud, broker: Mosquitto) -> None:
    pi = Spooler(broker.port, "pi-1")
    try:
        for _ in range(3):
            for _ in range(60):
                pi.make()
                time.sleep(0.005)
            broker.kill()
            broker.start()
        until(lambda: len(cloud.rows) >= pi.made, "all", 40)
        check(cloud, {"pi-1": pi.made})
    finally:
        pi.close()


def test_each_kind_goes_to_its_own_topic(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> None:
    cluster = Cluster()
    cluster.send(b'{"device_id": "camera-01", "timestamp": "2026-11-22T07:24:00Z", "persons_detected": 5}')
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port),
                           BOOTSTRAP_SERVERS=cluster.servers).start()
    pi = Pi(broker.port, "pi-1")
    try:
        until(lambda: bridge.status().get("connected", {}).get("mqtt"), "the LAN connection")
        pi.reading()
        until(lambda: any(status["delivered"] == 2 for status in cloud.status), "the ledger")
        kinds = {m.rule_name: batch.read(m.payload) for m in cloud.rig.received if m.rule_name}
        assert {name: opened.kind for name, opened in kinds.items()} == {
            "edgecloud_readings": "readings", "edgecloud_events": "events"}
        assert {(m.topic, m.client_id) for m in cloud.rig.received if m.rule_name} == {(THING, THING)}
        told = {m.topic for m in cloud.rig.received if not m.rule_name and m.client_id}
        assert told - {topics.shadow(THING, operation) for operation in ("get", "update")} == {topics.status(THING)}
        [event] = batch.unpack(kinds["edgecloud_events"].series[0])
        assert event.values == {"persons_detected": 5} and event.kafka[0] == "edge-data"
        assert bridge.stop() == 0
    finally:
        pi.close()
        bridge.close()


def test_a_cloud_that_refuses_is_told_once_and_tried_again(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> None:
    cloud.call(lambda: cloud.faults().refuse_connects(3, 0x87))
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port)).start()
    try:
        until(lambda: bridge.status().get("connected") == {"cloud": True, "mqtt": True}, "the fourth attempt")
        warnings = [line for line in bridge.log().splitlines() if "WARNING" in line]
        alarms = [line for line in warnings if "edge_bridge.alarms" in line]
        link = [line for line in warnings if line not in alarms]
        assert len(alarms) == 1 and "cloud_refuses" in alarms[0], warnings
        assert len(link) == 1 and "NOT_AUTHORIZED" in link[0] and "outbox" in link[0], warnings
    finally:
        bridge.close()
