"""The Kafka source against Apache Kafka itself: crashes, rebalances, a killed broker, a topic made anew."""
import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import batch
from tests import kafka_rig
from tests.bridge_rig import BridgeProcess, Cloud, until
from tests.bridge_rig import cloud as cloud
from tests.kafka_intake import Cluster, Intake

pytestmark = pytest.mark.timeout(180)
SEED = 20261122


class Given(Cluster):
    """A topic of its own on a broker that runs."""

    def __init__(self, servers: str) -> None:
        self.servers, self.topic = servers, f"edge-data-{uuid.uuid4().hex[:8]}"
        kafka_rig.create_topic(servers, self.topic)

    def send(self, *values: bytes) -> None:
        for camera in range(3):  # each camera has its own partition, so that every member of a group gets events
            mine = [value for value in values if json.loads(value)["device_id"] == f"camera-{camera}"]
            kafka_rig.send(self.servers, self.topic, camera, *mine)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_rig.KafkaBroker]:
    lacking = kafka_rig.missing()
    if lacking:
        pytest.skip(f"{lacking}: no Kafka broker of our own can be run")
    made = kafka_rig.KafkaBroker(tmp_path_factory.mktemp("kafka"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> str:
    """A broker that the tests only use: the one in BOOTSTRAP_SERVERS, else our own."""
    given = os.environ.get("BOOTSTRAP_SERVERS", "")
    return given or request.getfixturevalue("broker").servers


def events(first: int, last: int) -> list[bytes]:
    """Numbered events of three cameras."""
    return [json.dumps({"device_id": f"camera-{n % 3}", "timestamp": "2026-11-22T07:24:00Z",
                        "persons_detected": n}).encode() for n in range(first, last)]


def bridge(directory: Path, cloud: Cloud, topic: Given) -> BridgeProcess:
    directory.mkdir(exist_ok=True)
    return BridgeProcess(directory, cloud, BOOTSTRAP_SERVERS=topic.servers, KAFKA_TOPIC=topic.topic,
                         KAFKA_GROUP=topic.topic)


def in_cloud(cloud: Cloud) -> dict[str, list[int]]:
    """{event id: what was counted under it, as often as a batch brought it}, batches in the order of their coming."""
    found: dict[str, list[int]] = {}
    for payload in list(cloud.batches.values()):  # its thread adds to them
        for series in batch.read(payload).series:
            for row in batch.unpack(series):
                found.setdefault(batch.event_id(*row.kafka), []).append(int(row.values["persons_detected"]))
    return found


def stored(cloud: Cloud, camera: str) -> list[int]:
    """A camera's events in the order of their receive numbers."""
    rows = sorted(dict(cloud.rows).items())
    return [int(row.values["persons_detected"]) for (device, _), row in rows if device == camera]


def assert_each_once(cloud: Cloud, count: int) -> None:
    for camera in range(3):
        assert stored(cloud, f"camera-{camera}") == list(range(camera, count, 3))
    assert sorted(n for many in in_cloud(cloud).values() for n in many) == list(range(count))
    assert cloud.doubled == [] and cloud.torn == []


def test_events_in_order_exactly_once_though_the_bridge_is_killed(tmp_path: Path, cloud: Cloud, servers: str) -> None:
    topic, chance, sent = Given(servers), random.Random(SEED), 0
    process = bridge(tmp_path / "bridge", cloud, topic).start()
    try:
        for _ in range(2):
            topic.send(*events(sent, sent + 150))
            sent += 150
            before = process.status().get("received", 0)
            until(lambda before=before: process.status().get("received", 0) > before, "events", 40)
            time.sleep(chance.uniform(0, 0.1))  # the instant is the point: before or after the offsets' commit
            process.kill()
            process.start()
        topic.send(*events(sent, sent + 150))
        until(lambda: len(in_cloud(cloud)) == 450, "all events", 60)
        assert_each_once(cloud, 450)
        assert process.stop() == 0
    finally:
        process.close()


def test_a_crash_between_disk_and_offset_commit_and_a_second_bridge(tmp_path: Path, cloud: Cloud, servers: str) -> None:
    """What the first had on disk but not committed to the group comes to the second as well: one item, one count."""
    topic = Given(servers)
    topic.send(*events(0, 90))
    crashed = Intake(tmp_path / "crashed.db", topic, topic.topic, topic=topic.topic, acknowledging=False)
    until(lambda: len(crashed.events()) == 90, "all on the first bridge's disk", 40)
    crashed.close()
    second = bridge(tmp_path / "second", cloud, topic).start()
    try:
        until(lambda: len(in_cloud(cloud)) == 90, "the same events by the second bridge", 40)
        on_disk = {batch.event_id(*json.loads(kafka)) for _, kafka, _ in crashed_events(tmp_path / "crashed.db")}
        assert on_disk == set(in_cloud(cloud)), "the two bridges know one event by two ids"
        # A third joins: the partitions are shared out anew.
        third = Intake(tmp_path / "third.db", topic, topic.topic, topic=topic.topic)
        try:
            until(lambda: third.source.connected, "the third bridge to join", 40)
            topic.send(*events(90, 180))
            until(lambda: len(in_cloud(cloud)) + len(third.events()) >= 180, "all, by one or the other", 60)
            ids = set(in_cloud(cloud)) | {batch.event_id(*json.loads(kafka)) for _, kafka, _ in third.events()}
            assert len(ids) == 180 and third.events(), "none is missing, and the third had its share"
        finally:
            third.close()
    finally:
        second.close()


def crashed_events(path: Path) -> list[tuple[str, str, bytes]]:
    import sqlite3
    db = sqlite3.connect(path)
    try:
        return list(db.execute("SELECT device, kafka, payload FROM events"))
    finally:
        db.close()


def test_a_topic_made_anew_brings_new_events(tmp_path: Path, cloud: Cloud, servers: str) -> None:
    topic = Given(servers)
    process = bridge(tmp_path / "bridge", cloud, topic).start()
    try:
        topic.send(*events(0, 30))
        until(lambda: len(in_cloud(cloud)) == 30, "the first events", 40)
        kafka_rig.delete_topic(topic.servers, topic.topic)
        kafka_rig.create_topic(topic.servers, topic.topic)
        topic.send(*events(30, 60))  # under the offsets of the first
        until(lambda: len(in_cloud(cloud)) == 60, "the second events: no repeats of the first", 60)
        assert_each_once(cloud, 60)
    finally:
        process.close()


def test_sigkill_of_the_broker(tmp_path: Path, cloud: Cloud, broker: kafka_rig.KafkaBroker) -> None:
    topic = Given(broker.servers)
    process = bridge(tmp_path / "bridge", cloud, topic).start()
    try:
        topic.send(*events(0, 60))
        until(lambda: len(in_cloud(cloud)) > 0, "the first events", 40)
        broker.kill()
        until(lambda: process.status()["connected"]["kafka"] is False, "the bridge to miss its broker")
        broker.start()
        until(lambda: process.status()["connected"]["kafka"], "the bridge to see it again, though no event comes")
        topic.send(*events(60, 120))
        until(lambda: len(in_cloud(cloud)) == 120, "all events", 60)
        assert_each_once(cloud, 120)
        assert process.stop() == 0
    finally:
        process.close()
