"""What the bridge's tests share: a real LAN broker, a cloud behind the real gateway, a bridge as its own process."""
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from contract import batch, numbers, routes, topics
from edge_bridge.settings import TABLE, Settings
from local_cloud.gateway import Publish
from local_cloud.pki import LocalCa
from tests.conftest import find_service
from tests.gateway_rig import running

ROOT = Path(__file__).resolve().parent.parent
THING = "EdgeCloudAWS"
DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """Wait until the condition holds; its value."""
    deadline_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"waited {within_s} s for {what}"
        time.sleep(0.01)
    return value


def chosen(**values: Any) -> Settings:
    """Settings without looking at files."""
    defaults = {s.name.lower(): s.read(s.default) for s in TABLE}
    return Settings(**{**defaults, **values})


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A real LAN broker with persistence, as deploy/mosquitto.conf has it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        directory.mkdir()
        self._conf = directory / "mosquitto.conf"
        self._conf.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\nautosave_interval 1\n"
            f"persistence_location {directory}/\nmax_queued_messages 0\nmax_inflight_messages 1000\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        program = find_service("mosquitto")
        assert program
        self.process = subprocess.Popen([program, "-c", str(self._conf)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, "mosquitto to listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()


class Cloud:
    """The real gateway in a thread; takes batches as the rules and `persist` would, and sends receipts.

    `rows`: {(device, number): Row} of every distinct batch; `deliveries`: every batch id as it came.
    """

    def __init__(self, directory: Path) -> None:
        self._ca = LocalCa(directory / "ca")
        self.rig: Any = None
        self.receipts = True
        self.lose_receipts = 0
        self.batches: dict[str, bytes] = {}
        self.deliveries: list[str] = []
        self.alerts: list[dict[str, Any]] = []
        self.status: list[dict[str, Any]] = []
        self.torn: list[str] = []
        self.rows: dict[tuple[str, int], batch.Row] = {}
        self.doubled: list[tuple[str, int]] = []
        self._tasks: set[Any] = set()
        self._ready, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        async with running(self._ca, on_publish=self._on_publish) as self.rig:
            from cryptography.hazmat.primitives.asymmetric import rsa
            self.device = self.rig.device(THING, key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
            self.port = self.rig.port
            self._ready.set()
            await self._closing.wait()

    def _on_publish(self, message: Publish) -> None:
        if message.topic == topics.status(THING):
            self.status.append(json.loads(message.payload))
            return None
        if message.client_id is None or message.topic.startswith("$aws/things/"):
            return None
        opened = numbers.loads(message.payload)
        name = opened["id"]
        self.deliveries.append(name)
        if name in self.batches and self.batches[name] != message.payload:
            self.torn.append(name)
        elif name not in self.batches:
            self.batches[name] = message.payload
            self._store(message, opened)
        if self.lose_receipts:
            self.lose_receipts -= 1
        elif self.receipts:
            task = asyncio.ensure_future(self.rig.gateway.publish(
                topics.receipts(THING), numbers.dumps(routes.receipt([name])).encode(), qos=1))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None

    def _store(self, message: Publish, opened: dict[str, Any]) -> None:
        if message.topic == topics.ALERTS:
            self.alerts.append(opened)
            return
        for series in batch.read(message.payload).series:
            for row in batch.unpack(series):
                key = series["device"], row.number
                if key in self.rows:
                    self.doubled.append(key)
                self.rows[key] = row

    def call(self, function: Callable[[], Any]) -> Any:
        """Run on the gateway's loop (its faults, for example)."""
        done = asyncio.run_coroutine_threadsafe(_async(function), self.loop)
        return done.result(DEADLINE_S)

    def faults(self) -> Any:
        return self.rig.gateway.faults

    def seqs(self, device: str) -> list[int]:
        """The publisher's seq of each stored reading of a device, in order of the receive number."""
        return [row.seq for (name, _), row in sorted(self.rows.items()) if name == device and row.seq is not None]

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(DEADLINE_S)


async def _async(function: Callable[[], Any]) -> Any:
    return function()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A LAN broker for one test."""
    made = Mosquitto(tmp_path / "mosquitto")
    yield made
    made.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud for one test."""
    made = Cloud(tmp_path)
    yield made
    made.close()


class BridgeProcess:
    """`python -m edge_bridge` with its own outbox."""

    def __init__(self, directory: Path, cloud: Cloud, **environment: str) -> None:
        self.directory = directory
        self.environment = {
            **os.environ, "MQTT_BROKER": "", "BOOTSTRAP_SERVERS": "", "THING": THING, "IOT_ENDPOINT": "localhost",
            "IOT_PORT": str(cloud.port), "ROOT_CA": str(cloud.device.ca_path),
            "CERTIFICATE": str(cloud.device.certificate_path), "PRIVATE_KEY": str(cloud.device.key_path),
            "OUTBOX": str(directory / "outbox.db"), "STATUS_FILE": str(directory / "status.json"),
            "STATUS_INTERVAL": "0.2", "BATCH_AGE": "0.3", "RECEIPT_TIMEOUT": "2", "RECONNECT_MAX": "1",
            "SCORED_FIELDS": "", "METRICS_PORT": "", "LOG_LEVEL": "DEBUG", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "BridgeProcess":
        with (self.directory / "bridge.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "edge_bridge"], cwd=ROOT, env=self.environment,
                                            stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return dict(json.loads((self.directory / "status.json").read_text()))
        return {}

    def log(self) -> str:
        return (self.directory / "bridge.log").read_text()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()


class Pi:
    """A foreign publisher: QoS 1 to the LAN broker; `made` is what it sent, `confirmed` what sensor/ack said."""

    def __init__(self, port: int, name: str = "pi") -> None:
        self.name, self.made = name, 0
        self.confirmed: dict[str, int] = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(500)
        self._client.on_connect = lambda client, *_: client.subscribe(topics.sensor_ack(name), 1)
        self._client.on_message = self._on_message
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the publisher to connect")

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        answer = json.loads(message.payload)
        self.confirmed[answer["spool"]] = max(answer["seq"], self.confirmed.get(answer["spool"], -1))

    def send(self, payload: bytes | dict[str, Any], topic: str | None = None) -> Any:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self._client.publish(topic or topics.SENSOR_DATA, raw, qos=1)

    def reading(self, **more: Any) -> Any:
        """The next reading, with a seq and a timestamp in milliseconds."""
        self.made += 1
        return self.send({"timestamp": round(time.time(), 3), "sensor1": 20.01, "sensor2": 0.5, "device_id": self.name,
                          "seq": self.made, **more})

    def make(self) -> None:
        """The sensor makes one reading."""
        self.reading()

    def flush(self) -> None:
        """Wait until the broker has taken everything."""
        until(lambda: not self._client._out_messages, "the broker to take all")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
