"""The quick MQTT client against a broker of bare bytes: every message once and whole, however the bytes are cut."""
import random
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge_bridge.lan_client import CHUNK_BYTES, LanClient
from local_cloud.gateway import packets as p
from local_cloud.gateway.codec import encode
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from tests.bridge_rig import until

PROTOCOLS = {MQTT_5: paho.MQTTv5, MQTT_3_1_1: paho.MQTTv311}
BOUND = 10_000  # messages, two dozen chunks
CONNACK = {MQTT_5: b"\x20\x03\x00\x00\x00", MQTT_3_1_1: b"\x20\x02\x00\x00"}

Message = tuple[bytes, bytes, int]


class Wire:
    """A client in its own thread, and the broker's end of its connection, in the test's hands."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.got: list[Message] = []
        self.ends: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.client = LanClient(lambda *message: self.got.append(message), client_id="c",
                                protocol=PROTOCOLS[version], manual_ack=True)
        self.client.on_disconnect = lambda *arguments: self.ends.append(str(arguments[3]))
        self.client.reconnect_delay_set(1, 1)
        self.client.connect_async("127.0.0.1", self._listening.getsockname()[1], 60)
        self.client.loop_start()
        self.accept()

    def accept(self) -> None:
        """Take the client's (next) connection."""
        self._listening.settimeout(60)
        self.end, _ = self._listening.accept()
        self.end.settimeout(60)
        assert self.end.recv(1)[0] == 0x10, "a CONNECT"
        self.end.recv(4096)
        self.end.sendall(CONNACK[self.version])
        until(self.client.is_connected, "the connection")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.end.close()
        self._listening.close()


@pytest.fixture
def wires() -> Iterator[Callable[[int], Wire]]:
    made: list[Wire] = []

    def make(version: int) -> Wire:
        made.append(Wire(version))
        return made[-1]

    yield make
    for wire in made:
        wire.close()


def publish(version: int, topic: str, payload: bytes, packet_id: int, **properties: Any) -> bytes:
    qos = 1 if packet_id else 0
    return encode(p.Publish(topic, payload, qos, packet_id=packet_id or None,
                            **({"properties": properties} if properties else {})), version)


def varied(version: int, count: int, chance: random.Random) -> tuple[list[Message], list[bytes]]:
    """Messages of both QoS, short, long and empty, some with properties; and their packets, other ones in between."""
    wanted, packets = [], []
    for n in range(count):
        size = chance.choice((0, 1, 60, 60, 60, 126, 200, 17_000))
        topic, payload = f"sensor/data/pi-{n % 7}ß", bytes(chance.randrange(256) for _ in range(min(size, 60))) * (
            1 + size // 60)
        packet_id = n % 65_535 + 1 if n % 5 else 0
        properties = {"content_type": "x" * chance.choice((1, 150))} if version == MQTT_5 and n % 3 == 0 else {}
        wanted.append((topic.encode(), payload, packet_id))
        packets.append(publish(version, topic, payload, packet_id, **properties))
        if n % 50 == 0:
            packets.append(b"\xd0\x00")  # a PINGRESP: paho's affair
    return wanted, packets


@pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])
def test_every_message_comes_once_and_whole_however_the_bytes_are_cut(version: int, wires: Callable[[int], Wire],
                                                                      ) -> None:
    wire, chance = wires(version), random.Random(7)
    wanted, packets = varied(version, 600, chance)
    stream = b"".join(packets)
    assert len(stream) > 10 * CHUNK_BYTES
    sent = 0
    while sent < len(stream):
        cut = chance.choice((1, 2, 3, 50, 1000, CHUNK_BYTES, 3 * CHUNK_BYTES))
        wire.end.sendall(stream[sent:sent + cut])
        sent += cut
    until(lambda: len(wire.got) >= len(wanted), "all messages")
    assert wire.got == wanted and not wire.ends


def test_what_is_to_be_sent_does_not_wait_for_the_end_of_a_flood(wires: Callable[[int], Wire]) -> None:
    wire = wires(MQTT_5)
    some = publish(MQTT_5, "sensor/data/a", b"x" * 61, 0) * 500  # of a length that leaves a part in every chunk
    sent_after: list[int] = []

    def never_ending(*message: Any) -> None:
        """With every 500 messages as many more, so that there is always something to read; up to a bound."""
        wire.got.append(message)
        if len(wire.got) == 1000:  # from another thread, as the intake does
            ours = threading.Thread(target=wire.client.publish, args=("sensor/ack/a", b"now", 0))
            ours.start()
            ours.join()
        if len(wire.got) % 500 == 0 and not sent_after and len(wire.got) < BOUND:
            wire.end.sendall(some)
            if select.select([wire.end], [], [], 0)[0]:
                sent_after.append(len(wire.got))

    wire.client._received = never_ending
    wire.end.sendall(some * 3)
    until(lambda: sent_after or len(wire.got) >= BOUND, "our message, or the end of theirs")
    assert sent_after and wire.end.recv(1)[0] & 0xF0 == 0x30, "our PUBLISH, while theirs go on"


def test_half_a_message_dies_with_its_connection(wires: Callable[[int], Wire]) -> None:
    wire = wires(MQTT_5)
    whole = publish(MQTT_5, "sensor/data/a", b"1", 1)
    wire.end.sendall(whole + whole[:-1])
    until(lambda: len(wire.got) == 1, "the whole one")
    wire.end.close()
    wire.accept()
    wire.end.sendall(publish(MQTT_5, "sensor/data/b", b"2", 2))
    until(lambda: len(wire.got) == 2, "the next connection's")
    assert wire.got == [(b"sensor/data/a", b"1", 1), (b"sensor/data/b", b"2", 2)] and len(wire.ends) == 1


@pytest.mark.parametrize("broken", [
    b"\x32\x03\x00\x05a",  # a topic longer than its packet
    b"\x32\x04\x00\x01a\x00",  # half a packet id
    b"\x30\x05\x00\x01a\x7fx",  # properties longer than their packet
    b"\x30\x01\x00",  # not even the length of a topic
    b"\x30\xff\xff\xff\xff\x01"])  # a length of five bytes
def test_what_is_no_packet_ends_the_connection(broken: bytes, wires: Callable[[int], Wire]) -> None:
    wire = wires(MQTT_5)
    wire.end.sendall(publish(MQTT_5, "sensor/data/a", b"1", 1) + broken)
    until(lambda: wire.ends, "the end of the connection")
    assert wire.got == [(b"sensor/data/a", b"1", 1)]
    wire.accept()
