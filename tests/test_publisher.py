"""The publisher against a real broker: paho-mqtt 1.6.1 and 2.x, kills on both sides, a small go-back-N bridge.

About 40 s: most tests start publishers in processes of their own, several twice, once for each paho-mqtt.
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from contract import payloads, topics
from contract.errors import BadPayload
from deploy.pi_bundle import BundleError, contents, paho_sdist
from device import schedule, sensors, settings
from device.link import Link, backoff_s
from device.message import message, reading_text
from device.publisher import Publisher
from device.spool import Spool
from device.turn import Turn
from tests.conftest import find_service

ROOT = Path(__file__).resolve().parent.parent
MOSQUITTO = find_service("mosquitto")
CONF = """\
listener {port} 127.0.0.1
persistence true
persistence_location {directory}/
max_queued_messages 0
max_inflight_messages 1000
"""


def until(condition: Callable[[], Any], what: str, deadline_s: float = 20) -> None:
    """Wait for a condition; fail with `what` when it does not come."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        archive = paho_sdist()
    except BundleError as error:
        pytest.skip(str(error))
    home = tmp_path_factory.mktemp("paho1") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for name, data in contents(archive).items():
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


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_publishes_exactly_rate_times_seconds(python: str, broker: Broker, bridge: Bridge, runs: Runs) -> None:
    started = time.monotonic()
    code, last_line, err = ended(runs.start(python, broker.port, "--rate", "40", "--seconds", "1.5", "--seed", "1"))
    assert (code, last_line) == (0, "published 60 readings, 60 acknowledged"), err
    assert time.monotonic() - started >= 59 / 40
    assert bridge.seqs() == runs.made() == list(range(1, 61))
    shape = rb'\{"timestamp":\d{10}\.\d{3},"sensor1":\d+\.\d{2},"sensor2":-?\d\.\d{4},"device_id":"pi",' \
            rb'"spool":"[0-9a-f]{16}","seq":\d+,"first":\d+\}'
    assert all(re.fullmatch(shape, raw) for raw in bridge.raw), bridge.raw[0]


def test_the_record_has_every_reading_with_its_digits(broker: Broker, bridge: Bridge, runs: Runs) -> None:
    run = runs.start(sys.executable, broker.port, "--rate", "100", "--count", "20", "--extra", "humidity")
    code, _, err = ended(run)
    assert code == 0, err
    for line, raw in zip(runs.record.read_text().splitlines(), bridge.raw, strict=True):
        made, sent = json.loads(line, parse_float=str), json.loads(raw, parse_float=str)
        assert made["values"] == {name: sent[name] for name in ("sensor1", "sensor2", "humidity")}
        assert (made["device"], made["seq"], made["timestamp"], made["spool"]) == (
            sent["device_id"], sent["seq"], sent["timestamp"], sent["spool"])


def test_seqs_go_on_in_the_next_run_and_the_spool_is_the_same(broker: Broker, bridge: Bridge, runs: Runs) -> None:
    for count, total in (("5", 5), ("7", 12)):
        code, last_line, err = ended(runs.start(sys.executable, broker.port, "--rate", "200", "--count", count))
        assert (code, last_line) == (0, f"published {count} readings, {count} acknowledged"), err
        assert bridge.seqs() == runs.made() == list(range(1, total + 1))
    assert len({spool for _, spool, _ in bridge.taken}) == 1


def test_the_brokers_word_counts_where_there_is_no_bridge(python: str, broker: Broker, runs: Runs) -> None:
    run = runs.start(python, broker.port, "--rate", "200", "--count", "50", ACK="broker")
    assert ended(run)[:2] == (0, "published 50 readings, 50 acknowledged")


@pytest.mark.parametrize("kind", ["embedded"])
def test_the_embedded_broker_serves_it_too(kind: str, tmp_path: Path, runs: Runs) -> None:
    broker = Broker(tmp_path, kind)
    bridge = Bridge(broker.port)
    try:
        code, last_line, err = ended(runs.start(sys.executable, broker.port, "--rate", "100", "--count", "100"))
        assert (code, last_line) == (0, "published 100 readings, 100 acknowledged"), err
        assert bridge.seqs() == list(range(1, 101))
    finally:
        bridge.close()
        broker.kill()


def from_stdin(lines: bytes, port: int, directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "device.publisher", "--broker", "127.0.0.1", "--port", str(port),
                           "--device-id", "pi", "--spool", str(directory / "spool.db"), "--sensor", "stdin",
                           *arguments], input=lines, capture_output=True, cwd=ROOT, timeout=30, check=False)


@pytest.mark.parametrize(("lines", "made"), [(5, 3), (2, 2)])
def test_stdin_ends_with_the_count_or_the_lines(lines: int, made: int, broker: Broker, bridge: Bridge,
                                                tmp_path: Path) -> None:
    done = from_stdin(b'{"sensor2": 1}\n' * lines, broker.port, tmp_path, "--count", "3")
    assert (done.returncode, done.stdout.decode()) == (0, f"published {made} readings, {made} acknowledged\n")


def test_readings_from_stdin_with_a_bad_line_among_them(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    lines = b'{"sensor1": 20.10, "sensor2": 0.5}\n{"sensor1": 1}\nno json\n{"sensor2": 7e-3, "timestamp": 1.5}\n'
    done = from_stdin(lines, broker.port, tmp_path)
    assert (done.returncode, done.stdout) == (0, b"published 2 readings, 2 acknowledged\n"), done.stderr
    assert b'"sensor1":20.10' in bridge.raw[0] and b'{"timestamp":1.5,"sensor2":0.007' in bridge.raw[1]
    assert b"missing sensor2" in done.stderr and b"2 readings failed" in done.stderr


# -- what fails -----------------------------------------------------------------------------------------------------


def test_sigkill_of_the_broker_loses_and_doubles_nothing(python: str, broker: Broker, bridge: Bridge,
                                                         runs: Runs) -> None:
    run = runs.start(python, broker.port, "--rate", "150")
    for _ in range(2):
        more_taken = len(bridge.taken) + 60
        until(lambda goal=more_taken: len(bridge.taken) >= goal, "readings are taken")
        broker.kill()
        more_made = len(runs.made()) + 20
        until(lambda goal=more_made: len(runs.made()) >= goal, "readings are spooled meanwhile")
        broker.start()
        bridge.connect()
    until(lambda: len(bridge.taken) >= more_made, "what was spooled is taken")
    run.send_signal(signal.SIGTERM)
    code, last_line, err = ended(run)
    n = len(runs.made())
    assert (code, last_line) == (0, f"published {n} readings, {n} acknowledged"), err
    assert bridge.seqs() == runs.made() == list(range(1, n + 1))
    assert bridge.skipped == 0


def test_sigkill_of_the_publisher_loses_and_doubles_nothing(python: str, broker: Broker, bridge: Bridge,
                                                            runs: Runs) -> None:
    rng = random.Random(7)
    for _ in range(3):
        run, goal = runs.start(python, broker.port, "--rate", "300"), len(bridge.taken) + rng.randrange(20, 120)
        until(lambda goal=goal: len(bridge.taken) >= goal, f"{goal} readings taken")
        run.kill()
        run.communicate()
    code, last_line, err = ended(runs.start(python, broker.port, "--rate", "300", "--count", "30"))
    assert (code, last_line) == (0, "published 30 readings, 30 acknowledged"), err
    assert bridge.seqs() == runs.made() == list(range(1, len(bridge.taken) + 1))
    assert bridge.skipped == 0


def test_readings_wait_on_disk_while_the_broker_is_away(python: str, broker: Broker, runs: Runs) -> None:
    broker.kill()
    run = runs.start(python, broker.port, "--rate", "1000", "--count", "700", "--wait", "0.1")
    code, last_line, err = ended(run)
    assert (code, last_line) == (3, "published 700 readings, 0 acknowledged"), err
    assert "connection refused" in err and "700 readings wait in" in err
    broker.start()
    bridge = Bridge(broker.port)
    try:
        code, last_line, err = ended(runs.start(python, broker.port, "--rate", "100", "--count", "1"))
        assert (code, last_line) == (0, "published 1 readings, 1 acknowledged"), err
        assert bridge.seqs() == runs.made() == list(range(1, 702))
    finally:
        bridge.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_endless_run_with_all_acknowledged(number: int, broker: Broker, bridge: Bridge,
                                                            runs: Runs) -> None:
    run = runs.start(sys.executable, broker.port, "--rate", "100")
    until(lambda: len(bridge.taken) >= 10, "it runs")
    run.send_signal(number)
    code, last_line, err = ended(run, 10)
    assert code == 0, err
    assert last_line == f"published {len(bridge.taken)} readings, {len(bridge.taken)} acknowledged"
    assert bridge.seqs() == runs.made()


def test_a_signal_while_nobody_acknowledges_keeps_the_rest(broker: Broker, runs: Runs) -> None:
    run = runs.start(sys.executable, broker.port, "--rate", "100", "--wait", "0.2")
    until(lambda: len(runs.made()) >= 10, "it runs")
    run.send_signal(signal.SIGTERM)
    code, last_line, err = ended(run, 10)
    assert code == 3 and last_line.endswith(", 0 acknowledged"), err
    assert f"{len(runs.made())} readings wait in" in err


def test_a_failing_sensor_costs_readings_and_says_so(broker: Broker, bridge: Bridge, runs: Runs,
                                                     tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("n = 0\ndef read():\n    global n\n    n += 1\n"
                                     "    return {'sensor2': 1 / (n % 5), 'sensor1': 20}\n")
    run = runs.start(sys.executable, broker.port, "--rate", "100", "--count", "10", "--sensor", "odd:read",
                     PYTHONPATH=os.pathsep.join((str(ROOT), str(tmp_path))))
    code, last_line, err = ended(run)
    assert (code, last_line) == (3, "published 8 readings, 8 acknowledged")
    assert err.count("odd:read raised ZeroDivisionError") == 1 and "2 readings failed" in err


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed on this machine")
def test_a_wrong_password_is_said_in_one_line(python: str, tmp_path: Path, runs: Runs) -> None:
    broker = Broker(tmp_path, "mosquitto", login=("edgecloud", "right"))
    bad = ("--count", "1", "--wait", "0.5", "--username", "edgecloud")
    try:
        code, _, err = ended(runs.start(python, broker.port, *bad, MQTT_PASSWORD="wr0ng"))
        assert code == 3 and len([line for line in err.splitlines() if "MQTT_PASSWORD" in line]) == 1, err
        assert "wr0ng" not in err
        good = runs.start(python, broker.port, "--count", "1", "--ack", "broker", "--username", "edgecloud",
                          MQTT_PASSWORD="right")
        assert ended(good)[:2] == (0, "published 1 readings, 1 acknowledged")
    finally:
        broker.kill()


def test_an_unknown_host_is_said_in_one_line(runs: Runs) -> None:
    code, _, err = ended(runs.start(sys.executable, 1, "--count", "1", "--wait", "0.5", "--broker", "nobody.invalid"))
    assert code == 3 and "broker nobody.invalid:1: unknown host" in err and "Traceback" not in err


def test_the_second_publisher_of_a_spool_is_refused(broker: Broker, bridge: Bridge, runs: Runs) -> None:
    runs.start(sys.executable, broker.port, "--rate", "100")
    until(lambda: len(bridge.taken) >= 1, "the first runs")
    code, _, err = ended(runs.start(sys.executable, broker.port, "--count", "1"))
    assert code == 1 and "another publisher is using it" in err and "Traceback" not in err


# -- in this process: the acks ---------------------------------------------------------------------------------------


def publish(broker: Broker, spool_path: Path, count: int, turn: Turn | None = None, wait_s: float = 20,
            open_spool: Callable[[str], Spool] = Spool) -> tuple[int, Spool]:
    """A run in this process: (exit code, its spool)."""
    config = settings.read(["--count", str(count), "--rate", "1000", "--device-id", "pi", "--wait", str(wait_s)], {})
    spool = open_spool(str(spool_path))
    publisher = Publisher(config, sensors.simulated(1), spool,
                          lambda post: Link("127.0.0.1", broker.port, "edgecloud-pi", post, ack_topic="sensor/ack/pi"),
                          turn)
    return publisher.run(), spool


def test_lost_messages_and_lost_acks_are_made_good(broker: Broker, tmp_path: Path) -> None:
    bridge = Bridge(broker.port, seed=3, lose=0.03)
    try:
        code, spool = publish(broker, tmp_path / "s.db", 200, Turn(window=50, in_flight=10, stall_s=0.1))
        assert bridge.seqs() == list(range(1, 201))
        assert (code, spool.first, spool.last) == (0, 201, 200)
    finally:
        bridge.close()


def test_a_missing_bridge_is_said_once(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert publish(broker, tmp_path / "s.db", 3, Turn(stall_s=0.1), wait_s=1)[0] == 3
    assert caplog.text.count("no acknowledgement comes on sensor/ack/pi: is the bridge running?") == 1


def test_a_retained_ack_of_another_spool_is_ignored(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    for name in ("old.db", "new.db"):  # a re-flashed card: same device, new file
        assert publish(broker, tmp_path / name, 20)[0] == 0
    spools = [spool for _, spool, _ in bridge.taken]
    assert bridge.seqs() == [*range(1, 21), *range(1, 21)] and len(set(spools)) == 2


def test_a_restored_older_copy_of_the_spool_loses_nothing(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    publish(broker, path, 20)
    shutil.copy(path, tmp_path / "image.db")
    publish(broker, path, 30)
    shutil.copy(tmp_path / "image.db", path)
    code, _ = publish(broker, path, 25)  # their seqs, 21 to 45, are taken: the bridge would call them repeats
    assert code == 0
    assert bridge.seqs() == [*range(1, 51), *range(21, 46)]
    assert len({spool for _, spool, _ in bridge.taken}) == 2


def test_what_was_just_made_is_spooled_even_without_a_wait(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    code, spool = publish(broker, tmp_path / "s.db", 7, wait_s=0)
    assert (code, spool.first, spool.last) == (3, 1, 7)


class FullAtFirst(Spool):
    """A spool whose disk is full for the first two commits."""

    refusals = 2

    def add(self, readings: list[str]) -> int:
        if readings and self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return super().add(readings)


def test_a_full_disk_is_waited_out_and_the_count_stays_exact(broker: Broker, bridge: Bridge, tmp_path: Path,
                                                             caplog: pytest.LogCaptureFixture) -> None:
    assert publish(broker, tmp_path / "s.db", 1500, open_spool=FullAtFirst)[0] == 0
    assert bridge.seqs() == list(range(1, 1501))
    assert caplog.text.count("database or disk is full; trying again") == 1


def test_what_the_bound_dropped_is_skipped_and_the_turn_goes_on(broker: Broker, bridge: Bridge, tmp_path: Path) -> None:
    publish(broker, tmp_path / "s.db", 10)
    spool = Spool(str(tmp_path / "s.db"), max_readings=5)
    text = reading_text({"sensor2": 1}, 1.0, "pi")
    spool.add([text] * 8)
    spool.close()
    code, spool = publish(broker, tmp_path / "s.db", 1)
    assert code == 0 and spool.dropped == 3
    assert bridge.seqs() == [*range(1, 11), *range(14, 20)] and bridge.skipped == 3


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_message_is_what_the_contract_reads() -> None:
    text = reading_text({"sensor1": 20, "sensor2": 1, "humidity": 7}, 1795333375.1684, "pi")
    read = payloads.read(message(text, "pi", "ab", 9, 4))
    assert (read.device_id, read.spool, read.seq, read.first, read.at_ms) == ("pi", "ab", 9, 4, 1795333375168)
    assert set(read.values) == {"sensor1", "sensor2", "humidity"}


@pytest.mark.parametrize(("values", "reason"), [
    ({"sensor1": 1}, "missing sensor2"), ({"sensor2": Decimal("1e-200")}, "number out of range"),
    ({"sensor2": 1, "seq": 3}, "reserved name"), ({"sensor2": 1, "timestamp": "yesterday"}, "bad timestamp"),
    ({"sensor2": 1, **{f"f{i}": i for i in range(252)}}, "too many fields"),
])
def test_what_the_bridge_would_not_take_is_not_spooled(values: dict[str, Any], reason: str) -> None:
    """It would be dead-lettered there, never acknowledged, and all after it would wait."""
    with pytest.raises(BadPayload, match=reason):
        reading_text(values, 1.0, "pi")


def test_late_ticks_are_caught_up_and_the_schedule_does_not_drift() -> None:
    stopping, started, at = threading.Event(), time.monotonic(), []
    for i in schedule.ticks(100, 30, stopping):
        if i == 5:
            stopping.wait(0.1)  # a slow reading
        at.append(time.monotonic() - started)
    assert len(at) == 30
    assert all(moment >= i / 100 - 0.001 for i, moment in enumerate(at)), "none is early"
    assert schedule.count_of(0.1, 30) == 3 and schedule.count_of(10, 30) == 300


def test_the_schedule_ends_when_stopped() -> None:
    stopping = threading.Event()
    stopping.set()
    assert list(schedule.ticks(1, None, stopping)) == []


def test_backoff_has_full_jitter_and_a_bound() -> None:
    rng = random.Random(1)
    waits = [[backoff_s(attempt, rng) for _ in range(200)] for attempt in (0, 3, 50)]
    assert [0.4 < max(tried) <= bound for tried, bound in zip(waits, (0.5, 4.0, 30.0), strict=True)] == [True] * 3
    assert max(waits[2]) > 25 and min(waits[2]) < 3


def test_settings_come_from_flags_then_environment_then_defaults() -> None:
    environment = {"BROKER": "pi.lan", "RATE": "5", "MQTT_USERNAME": "u", "MQTT_PASSWORD": "p", "COUNT": "9",
                   "SEED": ""}
    read = settings.read(["--rate", "10", "--seconds", "2"], environment)
    assert (read.broker, read.port, read.topic, read.rate) == ("pi.lan", 1884, "sensor/data", 10.0)
    assert (read.username, read.password, read.count, read.seconds, read.seed) == ("u", "p", None, 2.0, None)


def test_all_faults_of_the_settings_are_reported_together() -> None:
    with pytest.raises(settings.SettingsError) as fault:
        settings.read(["--port", "x", "--outliers", "2", "--device-id", "a/b"], {"ACK": "nobody", "TOPIC": "a/#"})
    assert [line.split()[0] for line in str(fault.value).splitlines()] == [
        "--port", "--topic", "--outliers", "--device-id", "--ack"]


def test_the_password_has_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.read(["--help"], {"MQTT_PASSWORD": "secret"})
    shown = capsys.readouterr().out
    assert "MQTT_PASSWORD" in shown and "--password" not in shown and "secret" not in shown
