"""The MQTT source against a broker of bare bytes that answers as it is told: what it grants, and what it refuses."""
import socket
from collections.abc import Iterator

import pytest

from edge_bridge.inbox import Inbox
from edge_bridge.mqtt_source import MqttSource
from tests.bridge_rig import DEADLINE_S, chosen, until

CONNACK, DISCONNECT = b"\x20\x03\x00\x00\x00", b"\xe0\x00"
GRANTED, NOT_AUTHORIZED = 1, 0x87


class Broker:
    """Listens, and takes one connection after the other."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(DEADLINE_S)
        self.port = self._listening.getsockname()[1]
        self._end: socket.socket | None = None

    def accept(self, *codes: int) -> None:
        """Accept the next connection, and answer its three subscriptions so."""
        if self._end:
            self._end.sendall(DISCONNECT)
            self._end.close()
        self._end, _ = self._listening.accept()
        self._end.settimeout(DEADLINE_S)
        assert self._packet(self._end)[0] == 0x10, "a CONNECT"
        self._end.sendall(CONNACK)
        subscribe = self._packet(self._end)
        assert subscribe[0] == 0x82, "a SUBSCRIBE"
        self._end.sendall(bytes([0x90, 3 + len(codes), *subscribe[2:4], 0, *codes]))

    @staticmethod
    def _packet(end: socket.socket) -> bytes:
        """One packet of less than 128 bytes."""
        head = end.recv(2, socket.MSG_WAITALL)
        return head + end.recv(head[1], socket.MSG_WAITALL)

    def close(self) -> None:
        if self._end:
            self._end.close()
        self._listening.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.close()


def test_a_broker_that_lets_us_read_nothing_is_told_once_and_is_no_connection(broker: Broker,
                                                                             caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    source = MqttSource(chosen(mqtt_broker="127.0.0.1", mqtt_port=broker.port), Inbox())
    source.start()
    try:
        for attempt in (1, 2):
            broker.accept(NOT_AUTHORIZED, NOT_AUTHORIZED, NOT_AUTHORIZED)
            until(lambda attempt=attempt: caplog.text.count("refuses to let us read") == attempt, "it to be told")
            assert not source.connected
        [warning] = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert "sensor/data, sensor/data/+, sensor/data/+/+/#" in warning and "access list" in warning
        broker.accept(GRANTED, GRANTED, GRANTED)
        until(lambda: source.connected, "the connection")
    finally:
        source.pause()
        source.stop()


def test_a_broker_that_lets_us_read_the_readings_alone_is_enough(broker: Broker,
                                                                 caplog: pytest.LogCaptureFixture) -> None:
    source = MqttSource(chosen(mqtt_broker="127.0.0.1", mqtt_port=broker.port), Inbox())
    source.start()
    try:
        broker.accept(GRANTED, GRANTED, NOT_AUTHORIZED)
        until(lambda: source.connected, "the connection")
        assert "refuses to let us read sensor/data/+/+/#" in caplog.text
    finally:
        source.pause()
        source.stop()
