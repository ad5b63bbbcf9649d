"""The camera's spool and its way to Kafka, against librdkafka's mock cluster: away, back, restarted, full, killed."""
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer

from device.camera import Camera
from device.eyes.outlet import MOST_IN_FLIGHT, Outlet, new_producer
from device.spool import Spool, SpoolError
from tests.bridge_rig import ROOT, free_port, until
from tests.camera_rig import Belt, ended, received, start

NOWHERE = "127.0.0.1:1"
MockKafka = Callable[[], tuple[Producer, str]]


def outlet(path: Path | str, belt: Belt, most: int = 1000) -> Outlet:
    return Outlet(belt, "edge-data", "camera-01", Spool(str(path), most))  # type: ignore[arg-type]


def texts(first: int, last: int) -> list[str]:
    return [f"event {number}" for number in range(first, last)]


def test_what_is_not_confirmed_is_there_after_a_restart_and_goes_first(tmp_path: Path) -> None:
    belt, path = Belt(), tmp_path / "spool.db"
    one = outlet(path, belt)
    for text in texts(0, 5):
        one.put(text)
    belt.answer(2)
    assert (one.made, one.confirmed, one.waiting) == (5, 2, 3)
    assert not one.finish(0)
    belt = Belt()
    two = outlet(path, belt)
    assert two.left_over == 3
    two.put("event 5")
    assert [value.decode() for value, _ in belt.held] == texts(2, 6)
    belt.answer()
    assert (two.made, two.confirmed, two.waiting) == (1, 1, 0) and two.finish(0)
    assert outlet(path, Belt()).left_over == 0


def test_a_confirmation_out_of_order_forgets_nothing_before_it(tmp_path: Path) -> None:
    belt = Belt()
    one = outlet(tmp_path / "spool.db", belt)
    for text in texts(0, 3):
        one.put(text)
    belt.held.reverse()
    belt.answer(2)  # 2 and 1; 0 is not confirmed
    one.finish(0)
    assert outlet(tmp_path / "spool.db", Belt()).left_over == 3


def test_few_are_in_flight_the_rest_waits_on_disk() -> None:
    belt = Belt()
    one = outlet(":memory:", belt, 10_000)
    for text in texts(0, MOST_IN_FLIGHT + 100):
        one.put(text)
    assert len(belt.held) == MOST_IN_FLIGHT and one.waiting == MOST_IN_FLIGHT + 100
    while one.waiting:
        belt.answer(150)
        one.serve()
    assert [value.decode() for value in belt.delivered] == texts(0, MOST_IN_FLIGHT + 100)


def test_a_full_spool_drops_the_oldest_and_counts_them_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    belt = Belt()
    one = outlet(tmp_path / "spool.db", belt, most=10)
    for text in texts(0, 25):
        one.put(text)
    assert one.dropped == 15 and one.summary() == "25 events, 0 confirmed, 25 waiting, 15 dropped"
    assert caplog.messages == ["the spool is full: the oldest events are dropped, and counted"]
    belt.answer()
    assert one.dropped == 0, "all were in flight, and arrived although the disk had dropped them"
    one.finish(0)
    two = outlet(tmp_path / "spool.db", belt, most=10)
    assert two.dropped == 0, "a run counts its own"


def test_a_spool_that_cannot_be_closed_takes_nothing_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(Spool):
        def close(self) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    belt = Belt()
    one = Outlet(belt, "edge-data", "camera-01", Full(str(tmp_path / "spool.db")))  # type: ignore[arg-type]
    one.put("event 0")
    belt.answer()
    assert one.finish(0) and "disk is full" in caplog.text


def test_a_refused_event_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.eyes.outlet.AGAIN_S", 0.0)
    belt = Belt()
    one = outlet(":memory:", belt)
    one.put("a")
    one.put("b")
    belt.answer(1, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert (one.confirmed, one.waiting) == (0, 2)
    belt.answer()
    one.serve()
    belt.answer()
    assert belt.delivered == [b"b", b"a"] and one.finish(0)


def test_a_refused_event_that_the_bound_dropped_is_replaced_by_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.eyes.outlet.AGAIN_S", 0.0)
    belt = Belt()
    one = outlet(":memory:", belt, most=2)
    one.put("a")
    one.put("b")
    belt.answer(1, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    one.put("c")
    belt.answer()
    one.serve()
    assert not belt.held and belt.delivered == [b"b", b"c"] and (one.dropped, one.waiting) == (1, 0)


def test_a_full_disk_is_waited_for_and_ends_with_words_when_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.camera.DISK_AGAIN_S", 0.01)
    spool, stopping = Spool(":memory:"), threading.Event()
    assert spool._db is not None
    spool._db.execute("PRAGMA max_page_count = 5")
    belt = Belt()
    camera = Camera(Outlet(belt, "t", "c", spool), "c" * 100, stopping)  # type: ignore[arg-type]
    threading.Timer(1.0, stopping.set).start()
    with pytest.raises(SpoolError, match=r"cannot write the spool.*make room on the disk"):
        while True:
            camera._event(1, {"boxes": list(range(500))})


@pytest.fixture
def mock_kafka() -> MockKafka:
    def made() -> tuple[Producer, str]:
        host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
        return host, ",".join(f"{b.host}:{b.port}" for b in host.list_topics(timeout=10).brokers.values())
    return made


def test_events_made_while_kafka_is_away_arrive_in_the_next_run(tmp_path: Path, mock_kafka: MockKafka) -> None:
    spool = str(tmp_path / "spool.db")
    code, last_line, _ = ended(start(NOWHERE, "--count", "3", "--rate", "100", "--spool", spool, "--wait", "0",
                                     "--seed", "1", "--record", str(tmp_path / "made")))
    assert (code, last_line) == (3, "sent 3 events, 0 confirmed")
    _host, servers = mock_kafka()
    run = start(servers, "--count", "2", "--rate", "100", "--spool", spool, "--record", str(tmp_path / "made"))
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert out.splitlines() == ["3 events were left over from an earlier run and sent first",
                                "sent 2 events, 2 confirmed"]
    values = [message.value().decode() for message in received(servers, "edge-data", 5)]
    assert values == (tmp_path / "made").read_text().splitlines()


def test_a_killed_camera_loses_nothing_that_it_made(tmp_path: Path, mock_kafka: MockKafka) -> None:
    spool, made = str(tmp_path / "spool.db"), tmp_path / "made"
    run = start(NOWHERE, "--rate", "200", "--spool", spool, "--record", str(made))
    until(lambda: made.exists() and made.read_text().count("\n") >= 20, "events to be made", 60)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    _host, servers = mock_kafka()
    next_run = start(servers, "--count", "1", "--spool", spool)
    out, err = next_run.communicate(timeout=60)
    assert next_run.returncode == 0, err
    left_over = int(out.split()[0])
    lines = [line for line in made.read_text().split("\n") if line.endswith("}")]
    assert len(lines) <= left_over <= len(lines) + 1, "on disk first, then in the record"
    arrived = [message.value().decode() for message in received(servers, "edge-data", left_over + 1)]
    assert arrived[:len(lines)] == lines and len(arrived) == left_over + 1


def test_two_cameras_cannot_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool.db"))
    spool.add(["held open"])
    code, _, err = ended(start(NOWHERE, "--count", "1", "--spool", str(tmp_path / "spool.db")))
    assert code == 1 and "cannot use the spool" in err and "--spool" in err and "Traceback" not in err


def test_without_the_kafka_client_it_says_what_to_install() -> None:
    hide = ("import sys; sys.modules['confluent_kafka'] = None; from device.camera import main; "
            "sys.exit(main(['--count', '1']))")
    done = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "install confluent-kafka" in done.stderr and "Traceback" not in done.stderr


def test_the_producer_repeats_without_doubling() -> None:
    complaints: list[str] = []
    producer = new_producer(f"127.0.0.1:{free_port()}", lambda error: complaints.append(error.str()))
    until(lambda: producer.poll(0.05) or complaints, "the producer to say that nobody is there")
