"""The Kafka source against librdkafka's mock cluster: identity, manual commits, and what a crash brings again."""
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from edge_bridge import kafka_source
from edge_bridge.inbox import Inbox
from edge_bridge.kafka_source import KafkaSource
from tests.bridge_rig import chosen, until
from tests.kafka_intake import Cluster, Intake
from tests.outbox_rig import Source


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield Cluster()


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


class Scripted:
    """A consumer in librdkafka's place; `arriving` is what each poll and each consume brings, `away` what it says of
    its broker."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.arriving, self.away, self.closed = options, list[Any](), False, False

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any) -> None:
        self.assign = lambda: on_assign(self, [])

    def assignment(self) -> list[Any]:
        return []

    def pause(self, partitions: list[Any]) -> None:
        """There is none."""

    resume = pause

    def poll(self, timeout_s: float) -> Any:
        self.assign()
        return self.arriving.pop() if self.arriving else None

    def consume(self, most: int, timeout_s: float) -> list[Any]:
        return []

    def list_topics(self, timeout: float) -> Any:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics={"edge-data": None})

    def close(self) -> None:
        self.closed = True


def scripted(inbox: Inbox) -> tuple[KafkaSource, Scripted]:
    made: list[Scripted] = []

    def make(options: dict[str, Any]) -> Scripted:
        made.append(Scripted(options))
        return made[0]

    return KafkaSource(chosen(bootstrap_servers="b", kafka_group="g"), inbox, make), made[0]


def test_what_comes_while_the_inbox_is_full_is_not_passed_over() -> None:
    """A partition that is assigned just then brings an event at once; the offset of the next would cover it."""
    inbox = Inbox(max_waiting=1)
    inbox.put(Source("events"), ("edge-data", 1, 1, 1), event(0), 1, 0)
    source, consumer = scripted(inbox)
    consumer.arriving.append(SimpleNamespace(
        error=lambda: None, topic=lambda: "edge-data", partition=lambda: 0, offset=lambda: 7,
        timestamp=lambda: (1, 1), value=lambda: event(1)))
    source.start()
    until(lambda: not consumer.arriving, "the assignment")
    taken: list[int] = []
    until(lambda: taken.extend(m.origin[2] for m in inbox.take(9, 0, 0.01)) or len(taken) == 2, "the event behind it")
    source.pause()
    source.stop()
    assert taken == [1, 7] and consumer.closed


def test_a_broker_that_was_away_for_a_moment_is_seen_again_though_no_event_comes(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(kafka_source, "LOOK_S", 0.01)
    caplog.set_level("DEBUG")
    source, consumer = scripted(Inbox())
    consumer.away = True
    source.start()
    consumer.assign()
    assert source.connected
    consumer.options["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN))
    until(lambda: caplog.text.count("still away") > 1, "two looks in vain")
    assert not source.connected and caplog.text.count("no broker at b") == 1
    consumer.away = False
    until(lambda: source.connected, "the broker to be seen")
    source.pause()
    source.stop()


def test_offsets_that_are_not_committed_are_told(caplog: pytest.LogCaptureFixture) -> None:
    _, consumer = scripted(Inbox())
    consumer.options["on_commit"](None, [])
    assert caplog.text == ""
    consumer.options["on_commit"]("NOT_COORDINATOR", [])
    assert "offsets not committed (NOT_COORDINATOR)" in caplog.text
