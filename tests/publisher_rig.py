"""What the publisher's tests share: a real broker, a small bridge that takes turns, publishers in processes."""
import json
import os
import random
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from contract import payloads, topics
from deploy import pi_bundle
from tests.bridge_rig import ROOT, free_port, until
from tests.conftest import find_service

MOSQUITTO = find_service("mosquitto")
FOR_THE_PI = sorted([*ROOT.glob("contract/*.py"),
                     *(path for path in ROOT.glob("device/*.py") if path.name not in pi_bundle.NOT_FOR_THE_PI)])
CONF = """\
listener {port} 127.0.0.1
persistence true
persistence_location {directory}/
max_queued_messages 0
max_inflight_messages 1000
"""


class Broker:
    """A real broker on a port of its own, which it keeps over kill and start."""

    def __init__(self, directory: Path, kind: str, login: tuple[str, str] | None = None) -> None:
        self.port, self._directory, self._log = free_port(), directory, directory / "broker.log"
        self._command = [sys.executable, "-m", "local_cloud.lan_broker", "--host", "127.0.0.1",
                         "--port", str(self.port)]
        if kind == "mosquitto":
            conf = CONF.format(port=self.port, directory=directory) + ("user root\n" if os.geteuid() == 0 else "")
            if login is None:
                conf += "allow_anonymous true\n"
            else:
                hashed, hasher = directory / "passwd", find_service("mosquitto_passwd")
                assert hasher, "mosquitto is here, mosquitto_passwd is not"
                subprocess.run([hasher, "-b", "-c", str(hashed), *login], check=True, capture_output=True)
                conf += f"password_file {hashed}\n"
            (directory / "m.conf").write_text(conf)
            self._command = [str(MOSQUITTO), "-c", str(directory / "m.conf")]
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        until(self._listens, f"the broker listens; {self._log.read_text()}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Bridge:
    """Takes what is next in turn of each (device, spool) and acknowledges it: the edge bridge's part, in a few lines.

    lose: share of messages that it takes no notice of, as if it had crashed before its commit.
    """

    def __init__(self, port: int, seed: int = 0, lose: float = 0.0) -> None:
        self.taken: list[tuple[str, str, int]] = []
        self.raw: list[bytes] = []
        self.skipped = 0
        self._expected: dict[tuple[str, str], int] = {}
        self._rng, self._lose = random.Random(seed), lose
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bridge", clean_session=False,
                                   reconnect_on_failure=False)
        self.subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe(topics.SENSOR_DATA, 1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_message = self._on_message
        self._port = port
        self.connect()

    def connect(self) -> None:
        """At the start, and after the broker was away."""
        self._client.loop_stop()
        self.subscribed.clear()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self.subscribed.wait(10)

    def _on_message(self, client: mqtt.Client, userdata: object, received: mqtt.MQTTMessage) -> None:
        if self._rng.random() < self._lose:
            return
        reading = payloads.read(received.payload)
        turn = (reading.device_id, reading.spool)
        expected = max(self._expected.get(turn, reading.first), reading.first)
        self.skipped += expected - self._expected.get(turn, expected)
        if reading.seq == expected:
            self.taken.append((*turn, reading.seq))
            self.raw.append(received.payload)
            expected += 1
        self._expected[turn] = expected
        if expected > reading.first and (reading.seq < expected - 1 or self._rng.random() >= self._lose):
            client.publish(topics.sensor_ack(reading.device_id),
                           json.dumps(payloads.ack(reading.spool, expected - 1)), qos=1, retain=True)

    def seqs(self) -> list[int]:
        return [seq for _, _, seq in self.taken]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = Broker(tmp_path, "mosquitto" if MOSQUITTO else "embedded")
    yield running
    running.kill()


@pytest.fixture
def bridge(broker: Broker) -> Iterator[Bridge]:
    running = Bridge(broker.port)
    yield running
    running.close()


@pytest.fixture(scope="session")
def paho_1(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python of its own that has paho-mqtt 1.6.1, from its source archive, and nothing else."""
    try:
        archive = pi_bundle.paho_sdist()
    except pi_bundle.BundleError as error:
        pytest.skip(str(error))
    home = tmp_path_factory.mktemp("paho1") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for name, data in pi_bundle.contents(archive).items():
        if name.startswith("paho/"):
            target = packages / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    python = str(home / "bin" / "python")
    told = subprocess.run([python, "-c", "import paho.mqtt as m; print(m.__version__)"], check=True,
                          capture_output=True, text=True)
    assert told.stdout.strip() == "1.6.1"
    return python


@pytest.fixture(params=["paho 1.6.1", "paho 2"])
def python(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("paho_1") if request.param == "paho 1.6.1" else sys.executable


class Runs:
    """Starts publishers in processes of their own; all ended when the test is."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._processes = directory, list[subprocess.Popen[str]]()
        self.record = directory / "made" / "pi.jsonl"

    def start(self, python: str, port: int, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [python, "-m", "device.publisher", "--broker", "127.0.0.1", "--port", str(port), "--device-id", "pi",
                   "--spool", str(self._directory / "spool.db"), "--record", str(self.record), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._processes.append(process)
        return process

    def made(self) -> list[int]:
        """The seqs in the record, in the order in which they stand there."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [json.loads(line)["seq"] for line in lines]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    starter = Runs(tmp_path)
    yield starter
    starter.end()


def ended(process: subprocess.Popen[str], deadline_s: float = 30) -> tuple[int, str, str]:
    """(exit code, last line on stdout, stderr) of a publisher."""
    out, err = process.communicate(timeout=deadline_s)
    return process.returncode, out.splitlines()[-1] if out else "", err
