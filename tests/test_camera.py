"""The simulated camera against librdkafka's mock cluster: exact counts, confirmed deliveries, clear failures."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from contract import payloads
from device import camera

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """Bootstrap servers of a mock cluster that lives in this process."""
    host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
    yield ",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=10).brokers.values())
    host.flush(1)


def start(bootstrap: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "device.camera", "--bootstrap", bootstrap, *arguments], text=True,
                            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=40)
    return process.returncode, out.splitlines()[-1] if out else "", err


def received(bootstrap: str, topic: str, n: int) -> list[Message]:
    """The n messages of a topic, fewer when they do not come within 15 s."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    messages: list[Message] = []
    end = time.monotonic() + 15
    while len(messages) < n and time.monotonic() < end:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            messages.append(message)
    late = consumer.poll(0.3)
    assert late is None or late.error(), "more than were sent"
    consumer.close()
    return messages


def test_a_run_sends_exactly_rate_times_seconds_and_all_are_confirmed(kafka: str, tmp_path: Path) -> None:
    record = tmp_path / "made" / "camera.jsonl"
    run = start(kafka, "--device-id", "camera-01", "--rate", "20", "--seconds", "1.5", "--seed", "1",
                "--record", str(record))
    code, last_line, err = ended(run)
    assert (code, last_line) == (0, "sent 30 events, 30 confirmed"), err
    messages = received(kafka, "edge-data", 30)
    assert [message.value().decode() for message in messages] == record.read_text().splitlines()
    assert {message.key() for message in messages} == {b"camera-01"}
    assert len({message.partition() for message in messages}) == 1, "one device, one partition, so one order"


def test_an_event_is_what_the_contract_reads(kafka: str) -> None:
    code, _, err = ended(start(kafka, "--count", "3", "--rate", "50", "--topic", "one", "--device-id", "door"))
    assert code == 0, err
    for message in received(kafka, "one", 3):
        event = payloads.read(message.value(), required="persons_detected")
        assert event.device_id == "door" and 0 <= event.values["persons_detected"] <= 8
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.timestamp)
        assert list(json.loads(message.value())) == ["device_id", "timestamp", "persons_detected"]


def test_settings_come_from_the_environment(kafka: str) -> None:
    run = start(kafka, "--count", "2", KAFKA_TOPIC="two", DEVICE_ID="hall", RATE="50")
    assert ended(run)[:2] == (0, "sent 2 events, 2 confirmed")
    assert {message.key() for message in received(kafka, "two", 2)} == {b"hall"}


def test_unconfirmed_events_are_counted_and_the_exit_code_says_so() -> None:
    code, last_line, err = ended(start("127.0.0.1:1", "--count", "2", "--rate", "50", "--wait", "1"))
    assert (code, last_line) == (3, "sent 2 events, 0 confirmed")
    assert "Kafka at 127.0.0.1:1" in err and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_endless_run_with_all_confirmed(number: int, kafka: str, tmp_path: Path) -> None:
    record = tmp_path / "camera.jsonl"
    run = start(kafka, "--rate", "50", "--topic", "endless", "--record", str(record))
    end = time.monotonic() + 20
    while not (record.exists() and len(record.read_text().splitlines()) >= 5):
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.02)
    run.send_signal(number)
    code, last_line, err = ended(run)
    n = len(record.read_text().splitlines())
    assert (code, last_line) == (0, f"sent {n} events, {n} confirmed"), err


@pytest.mark.parametrize(("arguments", "said"), [
    (["--rate", "0"], "--rate is 0"), (["--device-id", "a/b"], "bad device id"),
    (["--count", "1", "--seconds", "1"], "at most one"),
])
def test_faulty_settings_are_refused(arguments: list[str], said: str) -> None:
    code, _, err = ended(start("127.0.0.1:1", *arguments))
    assert code == 2 and said in err


def test_the_same_seed_sees_the_same() -> None:
    looks = [[eye() for _ in range(20)] for eye in (camera.persons("a"), camera.persons("a"), camera.persons("b"))]
    assert looks[0] == looks[1] != looks[2]
    assert set(looks[0]) <= set(range(9)) and len(set(looks[0])) > 1
