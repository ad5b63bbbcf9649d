"""A proxy between the LAN broker and the bridge: it notes which messages the bridge acknowledged; the oracle reads it.

It forwards bytes as they come and reads along: PUBLISH from the broker, PUBACK from the bridge (MQTT 5, QoS 1).
"""
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

PUBLISH, PUBACK = 3, 4


class RecordingProxy:
    """Listens on `port` (any free one) and connects on to the broker. acknowledged: the payloads, in order."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.acknowledged: list[bytes] = []
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                bridge, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), 5)
                broker.settimeout(None)
            except OSError:
                bridge.close()  # the broker is away: the bridge is to see that
                continue
            self._join(bridge, broker)

    def _join(self, bridge: socket.socket, broker: socket.socket) -> None:
        under_way: dict[int, bytes] = {}

        def from_broker(kind: int, body: bytes) -> None:
            if kind >> 4 == PUBLISH and kind & 0b110:
                packet_id, payload = opened(body)
                under_way[packet_id] = payload

        def from_bridge(kind: int, body: bytes) -> None:
            if kind >> 4 == PUBACK:
                payload = under_way.pop(int.from_bytes(body[:2], "big"), None)
                if payload is not None and (len(body) == 2 or body[2] < 0x80):
                    self.acknowledged.append(payload)

        for source, sink, note in ((broker, bridge, from_broker), (bridge, broker, from_bridge)):
            threading.Thread(target=self._carry, args=(source, sink, note), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, note: Callable[[int, bytes], None]) -> None:
        held = bytearray()
        with contextlib.suppress(OSError):  # one side is gone: so is the other, below
            while data := source.recv(65536):
                held += data
                for kind, body in packets(held):
                    note(kind, body)  # before it is carried on: what the broker learns is already noted
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        """Accept no further connection."""
        self._closing.set()
        self._listener.close()


def packets(held: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packets off the front of `held`: (first byte, what follows the length)."""
    while True:
        try:
            length, at = variable(held, 1)
        except IndexError:
            return
        if len(held) < at + length:
            return
        found = held[0], bytes(held[at:at + length])
        del held[:at + length]
        yield found


def variable(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """(value, where it ends) of MQTT's variable byte integer; IndexError when it is not all there."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def opened(body: bytes) -> tuple[int, bytes]:
    """(packet id, payload) of a PUBLISH of MQTT 5 with QoS 1."""
    at = 2 + int.from_bytes(body[:2], "big")
    packet_id = int.from_bytes(body[at:at + 2], "big")
    length, at = variable(body, at + 2)
    return packet_id, body[at + length:]
