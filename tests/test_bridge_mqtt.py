"""The bridge between a real Mosquitto and the real gateway: bad input, turns, redelivery, order, a third field."""
import json
import sqlite3
import struct
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from contract import payloads, topics
from edge_bridge.alarms import OUTBOX_FAILS, Alarms
from edge_bridge.bridge import Bridge
from edge_bridge.counters import Counters
from edge_bridge.inbox import Inbox, Message
from edge_bridge.mqtt_source import MqttSource
from edge_bridge.outbox import Outbox
from edge_bridge.store import Store
from tests.bridge_rig import BridgeProcess, Cloud, Mosquitto, Pi, chosen, until
from tests.bridge_rig import broker as broker
from tests.bridge_rig import cloud as cloud

pytestmark = pytest.mark.needs("mosquitto")


@pytest.fixture
def pi(broker: Mosquitto) -> Iterator[Pi]:
    made = Pi(broker.port)
    yield made
    made.close()


class Intake:
    """Source, inbox, bridge and outbox in this process; the outbox can be made to fail."""

    def __init__(self, path: Path, port: int, **values: Any) -> None:
        self.store = Store(str(path))
        self.inbox = Inbox()
        self.source = MqttSource(chosen(mqtt_broker="127.0.0.1", mqtt_port=port, **values), self.inbox)
        self.counters, self.alarms = Counters(self.store), Alarms()
        self.bridge = Bridge(self.inbox, Outbox(self.store, self.counters), self.source, topic=topics.SENSOR_DATA,
                             device_id="sensor", committed=lambda first_id: None, raise_to=self.alarms)
        self.bridge.start()
        self.source.start()
        until(lambda: self.source.connected, "the source to connect")

    def rows(self) -> list[bytes]:
        return [row[0] for row in self.store.read().execute("SELECT payload FROM readings ORDER BY id")]

    def devices(self) -> list[str]:
        return [row[0] for row in self.store.read().execute("SELECT device FROM readings ORDER BY id")]

    def dead(self) -> list[tuple[str, int, int]]:
        return list(self.store.read().execute(
            "SELECT reason, size_bytes, length(payload) FROM dead_letters ORDER BY id"))

    def close(self) -> None:
        self.source.pause()
        self.bridge.stop(3.0)
        self.source.stop()
        self.store.close()


@pytest.fixture
def intake(tmp_path: Path, broker: Mosquitto) -> Iterator[Intake]:
    made = Intake(tmp_path / "outbox.db", broker.port)
    yield made
    made.close()


GOOD = {"timestamp": 1_800_000_000.5, "sensor1": 20.0, "sensor2": 0.5}


def test_bad_input_is_dead_lettered_with_its_reason_and_the_stream_goes_on(intake: Intake, pi: Pi) -> None:
    for raw in (b"{not json", b'{"timestamp": 1, "sensor1": 2}', b'{"timestamp": 1, "sensor2": "high"}',
                b'{"timestamp": 1, "sensor2": NaN}', b'{"timestamp": 1, "sensor2": 1e200}',
                b'{"a": "' + b"x" * 200_000 + b'"}',
                b'{"timestamp": 1, "sensor2": 1, "\xff": 2}', b"", b"[1]", b'{"timestamp": "soon", "sensor2": 1}',
                b'{"timestamp": 1, "sensor2": true}', b"[" * 60_000):
        pi.send(raw)
    pi.send(GOOD, topic="sensor/data/a/b")
    pi.send(json.dumps({**GOOD, "note": "é" * 25_000}, ensure_ascii=False).encode())
    pi.send(GOOD)
    until(lambda: intake.rows(), "the good one")
    reasons = [reason for reason, _, _ in intake.dead()]
    assert reasons == ["broken JSON", "missing sensor2", "not a number", "not a number", "number out of range",
                       "message too large", "bad UTF-8", "broken JSON", "not an object", "bad timestamp",
                       "not a number", "broken JSON", "bad device id", "batch too large"]
    assert intake.counters.total("dead_lettered") == len(reasons)
    assert intake.counters.total("received") == len(reasons) + 1
    big = intake.dead()[5]
    assert big[1] == 200_009 and big[2] <= 4096, "the size is told, the payload is bounded"


def test_a_bad_reading_takes_its_turn_so_that_nothing_waits_behind_it(intake: Intake, pi: Pi) -> None:
    spool = {"device_id": "pi", "spool": "s", "first": 1}
    pi.send({**GOOD, **spool, "seq": 1})
    pi.send({"timestamp": 1, "sensor2": "high", **spool, "seq": 2})
    pi.send({"timestamp": 1, "sensor2": "high", **spool, "seq": 2})
    pi.send({**GOOD, **spool, "seq": 3})
    until(lambda: len(intake.rows()) == 2, "the readings around it")
    assert [reason for reason, _, _ in intake.dead()] == ["not a number"], "dead-lettered once, the second is a repeat"
    until(lambda: intake.counters.total("repeats") == 1, "the repeat to be counted")


@pytest.mark.parametrize("stamp", ["1795337006.0", '"2026-11-22T08:43:26.000Z"', "1795337006"])
def test_a_flat_sensor_with_whole_seconds_is_no_repeat(intake: Intake, pi: Pi, stamp: str) -> None:
    for _ in range(10):
        pi.send(b'{"timestamp":%s,"sensor2":0.5}' % stamp.encode())
    until(lambda: len(intake.rows()) == 10, "all ten")


def test_text_that_grows_when_it_is_escaped_cannot_block_the_rest(intake: Intake, pi: Pi) -> None:
    pi.send(b'{"timestamp":1795337006.123,"sensor2":0.5,"note":"' + b"\x7f" * 30_000 + b'"}')
    pi.send(GOOD)
    until(lambda: intake.rows(), "the good one")
    assert [reason for reason, _, _ in intake.dead()] == ["batch too large"]


def test_ten_megabytes_do_not_stall_it(intake: Intake, pi: Pi) -> None:
    pi.send(b"x" * 10_000_000)
    pi.send(GOOD)
    until(lambda: intake.rows(), "the good one")
    assert intake.dead()[0][:2] == ("message too large", 10_000_000)


def test_a_device_is_named_by_payload_topic_or_setting(intake: Intake, pi: Pi) -> None:
    pi.send({**GOOD, "device_id": "own"}, topic="sensor/data/suffix")
    pi.send(GOOD, topic="sensor/data/suffix")
    pi.send(GOOD)
    until(lambda: len(intake.rows()) == 3, "three readings")
    assert intake.devices() == ["own", "suffix", "sensor"]


def test_a_spool_is_taken_by_its_turn_and_confirmed_after_the_commit(intake: Intake, pi: Pi) -> None:
    def send(seq: int, first: int = 1) -> None:
        pi.send(payloads.sensor_reading(1_800_000_000 + seq, {"sensor2": 1}, "pi", "s1", seq, first))
    for seq in (1, 2, 2, 5, 3, 1, 4):
        send(seq)
    until(lambda: pi.confirmed.get("s1") == 4, "the confirmation")
    send(9, first=9)
    until(lambda: pi.confirmed.get("s1") == 9, "the confirmation past what was dropped")
    assert [json.loads(raw)["seq"] for raw in intake.rows()] == [1, 2, 3, 4, 9]
    counts = intake.counters.by_device()["pi"]
    assert (counts["repeats"], counts["out_of_turn"], counts["skipped"], counts["committed"]) == (2, 1, 4, 5)


def test_a_confirmation_is_retained(intake: Intake, pi: Pi, broker: Mosquitto) -> None:
    pi.send(json.dumps(payloads.sensor_reading(1, {"sensor2": 1}, "late", "s", 3, 3)).encode())
    until(lambda: intake.rows(), "the commit")
    late = Pi(broker.port, "late")
    try:
        until(lambda: late.confirmed.get("s") == 3, "the retained confirmation")
    finally:
        late.close()


def test_byte_equal_readings_without_a_spool(intake: Intake, pi: Pi) -> None:
    whole = {"timestamp": 1_800_000_000, "sensor2": 0.5}
    text = {**whole, "timestamp": "2026-11-22T07:00:00"}
    for message in (whole, whole, GOOD, GOOD, {**whole, "seq": 1}, {**whole, "seq": 1}, text, text):
        pi.send(message)
    until(lambda: intake.counters.total("received") == 8, "all")
    until(lambda: len(intake.rows()) == 6, "those that are kept")
    assert intake.counters.total("repeats") == 2 and intake.counters.total("possible_duplicates") == 2


class FailingStore:
    """The outbox's store with a disk that can be full."""

    def __init__(self, store: Store) -> None:
        self._store, self.full = store, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self) -> Any:
        if self.full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return self._store.write()


def test_a_full_disk_acknowledges_nothing_and_heals_by_itself(intake: Intake, pi: Pi, broker: Mosquitto,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    failing = FailingStore(intake.store)
    intake.bridge._outbox.store = failing  # type: ignore[assignment]
    acknowledged: list[int] = []
    acknowledge = intake.source.acknowledge

    def counting(messages: list[Message]) -> None:
        acknowledged.append(len(messages))
        acknowledge(messages)

    intake.source.acknowledge = counting  # type: ignore[method-assign]
    failing.full.set()
    for _ in range(20):
        pi.reading()
    until(lambda: "nothing is acknowledged" in caplog.text, "the fault to be told")
    assert acknowledged == [] and intake.rows() == []
    assert "database or disk is full" in intake.alarms.up()[OUTBOX_FAILS]
    failing.full.clear()
    until(lambda: len(intake.rows()) == 20, "all, once the disk has room")
    until(lambda: sum(acknowledged) == 20, "the acknowledgements")
    until(lambda: not intake.alarms.up(), "the alarm's end")
    assert caplog.text.count("nothing is acknowledged") == 1
    assert [json.loads(raw)["seq"] for raw in intake.rows()] == list(range(1, 21))


def test_an_acknowledgement_of_an_earlier_connection_is_never_sent(intake: Intake, pi: Pi) -> None:
    """A whole-second reading of a flat sensor, committed, its PUBACK too late: redelivered, and told as a repeat."""
    sent: list[int] = []
    held = threading.Event()
    client, acknowledge = intake.source._client, intake.source.acknowledge
    queue = client._packet_queue

    def late(messages: list[Message]) -> None:
        if not held.is_set():
            held.set()
            client._sock.close()  # the connection dies between commit and acknowledgement
            until(lambda: intake.source.connected and intake.source._connection > messages[0].connection,
                  "the next connection")
        acknowledge(messages)

    def counting(command: int, packet: bytes, *more: Any) -> Any:
        if command == paho.PUBACK:
            sent.extend(packet_id for _, packet_id in struct.iter_unpack("!HH", packet))
        return queue(command, packet, *more)

    client._packet_queue = counting  # type: ignore[method-assign]
    intake.source.acknowledge = late  # type: ignore[method-assign]
    flat = {"timestamp": 1_800_000_000, "sensor2": 0.5}
    pi.send(flat)
    assert held.wait(10)
    until(lambda: intake.counters.total("repeats") == 1, "the redelivery")
    pi.send(flat)
    until(lambda: len(intake.rows()) == 2, "the next reading, equal to the byte")
    until(lambda: len(sent) == 2, "the acknowledgements of the redelivery and of the next")
    assert intake.counters.total("possible_duplicates") == 1


@pytest.mark.parametrize("mqtt_version", ["5", "3.1.1"])
def test_the_session_outlives_the_bridge(tmp_path: Path, broker: Mosquitto, pi: Pi, mqtt_version: str) -> None:
    first = Intake(tmp_path / "outbox.db", broker.port, mqtt_version=mqtt_version)
    pi.reading()
    until(lambda: len(first.rows()) == 1, "the first")
    first.close()
    for _ in range(5):
        pi.reading()
    pi.flush()
    second = Intake(tmp_path / "outbox.db", broker.port, mqtt_version=mqtt_version)
    try:
        until(lambda: len(second.rows()) == 6, "what came while the bridge was away")
    finally:
        second.close()


def test_a_broker_that_comes_later_and_goes_away_in_between(tmp_path: Path, cloud: Cloud, broker: Mosquitto) -> None:
    broker.kill()
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port)).start()
    try:
        until(lambda: "no LAN broker at" in bridge.log(), "the absence to be told")
        broker.start()
        until(lambda: bridge.status().get("connected") == {"cloud": True, "mqtt": True}, "both connections")
        pi = Pi(broker.port)
        pi.reading(humidity=40.123456789012345)
        until(lambda: len(cloud.rows) == 1, "a reading in the cloud")
        pi.close()
        [row] = cloud.rows.values()
        assert row.values["humidity"] == Decimal("40.123456789012344") and row.values["sensor1"] == Decimal("20.01")
        assert bridge.stop() == 0
        warnings = [line for line in bridge.log().splitlines() if "WARNING" in line and "no LAN broker" in line]
        assert len(warnings) == 1, "once per state, not once per attempt"
    finally:
        bridge.close()
