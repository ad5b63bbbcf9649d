"""The bench's load: ten devices' readings, made from (device, index) alone, so that whoever receives one can check it.

Into a real LAN broker's queues before a run (`preload`), or straight into an outbox file (`fill_outbox`).
"""
import os
import random
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from contract import topics
from edge_bridge.counters import Counters
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.rows import Rows
from edge_bridge.store import Store
from local_cloud.gateway import packets as p
from local_cloud.gateway.codec import encode
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5

DEVICES = tuple(f"pi-{n:02d}" for n in range(10))
# Two days ago, the same in every process of a run: an outage's readings, not a clock gone wrong.
START_MS = int(os.environ.setdefault("BENCH_START_MS", str((int(time.time()) - 2 * 86_400) * 1000)))
PERIOD_MS = 100
_VARIETY = 4099  # different values, repeated; a prime, so that no device repeats another
_WINDOW = 500  # messages sent before their acknowledgements are waited for
_NEVER_EXPIRES = 0xFFFFFFFF


def _varied() -> list[tuple[int, str, str]]:
    rng = random.Random(20261122)
    return [(min(9, int(rng.expovariate(1.0))), f"{rng.gauss(20, 0.3):.2f}", f"{rng.gauss(0.5, 0.05):.4f}")
            for _ in range(_VARIETY)]


_TEXTS = _varied()
_VALUES = [{"sensor1": Decimal(one).normalize(), "sensor2": Decimal(two).normalize()} for _, one, two in _TEXTS]


def _pick(device: int, index: int) -> int:
    return (index * 7 + device * 911) % _VARIETY


def payload(device: int, index: int) -> bytes:
    """The standard payload of one device's index-th reading."""
    late_ms, sensor1, sensor2 = _TEXTS[_pick(device, index)]
    at_ms = START_MS + index * PERIOD_MS + late_ms
    return b'{"timestamp": %d.%03d, "sensor1": %s, "sensor2": %s}' % (
        at_ms // 1000, at_ms % 1000, sensor1.encode(), sensor2.encode())


def index_of(at_ms: int) -> int:
    """Which reading of its device has this timestamp."""
    return (at_ms - START_MS) // PERIOD_MS


def expected(device: int, index: int) -> tuple[int, dict[str, Decimal]]:
    """(timestamp in ms, values) of that reading."""
    turn = _pick(device, index)
    return START_MS + index * PERIOD_MS + _TEXTS[turn][0], _VALUES[turn]


def messages(count: int) -> Iterator[tuple[str, bytes]]:
    """(device, payload) of `count` readings, the devices in turn."""
    for n in range(count):
        device = n % len(DEVICES)
        yield DEVICES[device], payload(device, n // len(DEVICES))


class _Link:
    """An MQTT connection in lock step: sends packets, counts the bytes of the answers."""

    def __init__(self, port: int, client_id: str, version: int, **connect: Any) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(encode(p.Connect(client_id, version, **connect), version))
        header = self._receive(2)
        self._receive(header[1])

    def _receive(self, size_bytes: int) -> bytes:
        received = b""
        while len(received) < size_bytes:
            more = self._socket.recv(size_bytes - len(received))
            if not more:
                raise ConnectionError("the LAN broker closed the connection; expected it to answer")
            received += more
        return received

    def exchange(self, packets: list[p.Packet], answer_bytes: int, version: int) -> None:
        """Send packets and wait for so many bytes of answers."""
        self._socket.sendall(b"".join(encode(packet, version) for packet in packets))
        self._receive(answer_bytes)

    def close(self, version: int) -> None:
        """Disconnect in the regular way."""
        self._socket.sendall(encode(p.Disconnect(), version))
        self._socket.close()


def open_session(port: int, client_id: str) -> None:
    """A session at the broker that keeps readings for this client id from now on."""
    link = _Link(port, client_id, MQTT_5, clean_start=False,
                 properties={"session_expiry_interval": _NEVER_EXPIRES})
    wanted = p.Subscribe(1, [p.Subscription(topics.SENSOR_DATA + "/+", 1)])
    link.exchange([wanted], 6, MQTT_5)
    link.close(MQTT_5)


def preload(port: int, count: int) -> None:
    """Publish `count` readings with QoS 1: every open session's queue gets them."""
    link = _Link(port, "bench-load", MQTT_3_1_1, clean_start=True)
    window: list[p.Packet] = []
    for device, content in messages(count):
        window.append(p.Publish(f"{topics.SENSOR_DATA}/{device}", content, 1, packet_id=len(window) + 1))
        if len(window) == _WINDOW:
            link.exchange(window, 4 * len(window), MQTT_3_1_1)
            window = []
    link.exchange(window, 4 * len(window), MQTT_3_1_1)
    link.close(MQTT_3_1_1)


def _with_turn(content: bytes, seq: int) -> bytes:
    return content[:-1] + b', "spool": "bench", "seq": %d, "first": 0}' % seq


def trickle(port: int, per_s: int, seconds: float) -> None:
    """Publish readings with QoS 1 at a steady rate, a tenth of a second's worth at a time, as our publisher does: with
    spool and seq, so that the bridge takes them by turn and keeps no ten minutes of digests."""
    link = _Link(port, "bench-load", MQTT_3_1_1, clean_start=True)
    some, lines = max(1, per_s // 10), messages(int(per_s * seconds))
    next_s = time.monotonic()
    seq = 0
    while window := [p.Publish(f"{topics.SENSOR_DATA}/{device}", _with_turn(content, (seq + n) // len(DEVICES)), 1,
                               packet_id=n + 1) for n, (device, content) in zip(range(some), lines, strict=False)]:
        seq += len(window)
        link.exchange(list(window), 4 * len(window), MQTT_3_1_1)
        next_s += some / per_s
        time.sleep(max(0.0, next_s - time.monotonic()))
    link.close(MQTT_3_1_1)


def _received_ms(n: int) -> int:
    """When the bridge took in the n-th reading: a few ms after it was made."""
    at_ms, _ = expected(n % len(DEVICES), n // len(DEVICES))
    return at_ms + 2 + n % 5


def fill_outbox(path: Path, count: int) -> None:
    """An outbox file in which `count` readings wait, already seen by the detector, as an outage leaves it."""
    store = Store(str(path))
    try:
        counters = Counters(store)
        outbox = Outbox(store, counters)
        lines = messages(count)
        for start in range(0, count, 10_000):
            rows = [(device, _received_ms(n), content, None) for n, (device, content)
                    in zip(range(start, min(start + 10_000, count)), lines, strict=False)]
            intake = Intake()
            intake.rows["readings"] += rows
            intake.counts["", "readings_in"] += len(rows)
            intake.counts["", "received"] += len(rows)
            for device, *_ in rows:
                intake.counts[device, "committed"] += 1
            outbox.commit(intake)
        Rows(store, counters, scoring=True).mark(outbox.next_id - 1, {}, [], {})
    finally:
        store.close()
