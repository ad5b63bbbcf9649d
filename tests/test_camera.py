"""The camera, simulated and real, against librdkafka's mock cluster: exact counts, deliveries, clear failures."""
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from contract import payloads
from device import camera
from tests import drawn_people
from tests.bridge_rig import ROOT, until
from tests.camera_rig import ended, received, start


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """Bootstrap servers of a mock cluster that lives in this process."""
    host = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": ""})
    yield ",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=10).brokers.values())
    host.flush(1)


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
    empty = dict.fromkeys(("SOURCE", "EVERY", "SEED", "MODEL", "CONFIDENCE", "SPOOL", "SPOOL_MAX", "RECORD"), "")
    run = start(kafka, "--count", "2", KAFKA_TOPIC="two", DEVICE_ID="hall", RATE="50", **empty)
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
    until(lambda: record.exists() and len(record.read_text().splitlines()) >= 5, "events to be made")
    run.send_signal(number)
    code, last_line, err = ended(run)
    n = len(record.read_text().splitlines())
    assert (code, last_line) == (0, f"sent {n} events, {n} confirmed"), err


@pytest.mark.parametrize(("arguments", "said"), [
    (["--rate", "0", "--every", "0"], "--rate is 0"), (["--every", "0", "--device-id", "a/b"], "bad device id"),
    (["--count", "1", "--seconds", "1"], "at most one"), (["--every", "0"], "1 frame or more"),
    (["--count", "0"], "--count is 0"), (["--seconds", "-1"], "--seconds is -1"),
    (["--spool-max", "0"], "1 event or more"), (["--confidence", "1"], "between 0 and 1"),
])
def test_faulty_settings_are_refused(arguments: list[str], said: str) -> None:
    code, _, err = ended(start("127.0.0.1:1", *arguments))
    assert code == 2 and said in err


def test_a_record_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = ended(start("127.0.0.1:1", "--count", "1", "--wait", "0", "--record", str(tmp_path / "file" / "r")))
    assert code == 1 and "camera: cannot go on" in err and "--record" in err and "Traceback" not in err


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person walks through twenty frames."""
    path, background = tmp_path_factory.mktemp("video") / "street.avi", drawn_people.street()
    walker = drawn_people.Walker(200, 250, 90, 6, first=1)
    drawn_people.write(path, [drawn_people.frame([walker], number, background) for number in range(20)])
    return path


def test_a_video_file_gives_an_event_per_frame_and_a_preview(kafka: str, video: Path, tmp_path: Path) -> None:
    picture, record = tmp_path / "seen.png", tmp_path / "made"
    run = start(kafka, "--source", str(video), "--topic", "film", "--device-id", "gate", "--preview", str(picture),
                "--record", str(record), "--spool", str(tmp_path / "spool.db"))
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert re.fullmatch(r"looked at 20 frames, \d+ ms each; 0 dropped, 0 reconnects", out.splitlines()[-2])
    assert out.splitlines()[-1] == "sent 20 events, 20 confirmed"
    messages = received(kafka, "film", 20)
    assert [message.value().decode() for message in messages] == record.read_text().splitlines()
    events = [json.loads(message.value()) for message in messages]
    assert {tuple(event) for event in events} == {("device_id", "timestamp", "persons_detected")}
    assert [event["persons_detected"] for event in events][-8:] == [1] * 8
    assert picture.stat().st_size > 1000


def test_frames_of_an_interval_become_one_event_and_details_come_last(kafka: str, video: Path, tmp_path: Path) -> None:
    code, last_line, err = ended(start(kafka, "--source", str(video), "--topic", "detail", "--every", "8", "--details",
                                       "--spool", str(tmp_path / "spool.db")))
    assert (code, last_line) == (0, "sent 3 events, 3 confirmed"), err  # 8, 8 and the last 4 frames
    for message in received(kafka, "detail", 3):
        event = payloads.read(message.value(), required="persons_detected")
        assert list(json.loads(message.value())) == [
            "device_id", "timestamp", "persons_detected", "model", "frames_dropped", "boxes", "confidence"]
    assert event.values["persons_detected"] == 1 == len(event.extra["boxes"]) == len(event.extra["confidence"])
    assert event.extra["model"] == "hog" and len(event.extra["boxes"][0]) == 4 and event.values["frames_dropped"] == 0


def test_a_damaged_file_sends_what_was_counted_and_ends_with_4(kafka: str, video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    broken.write_bytes(video.read_bytes()[:video.stat().st_size // 2])
    code, last_line, err = ended(start(kafka, "--source", str(broken), "--topic", "broken",
                                       "--spool", str(tmp_path / "spool.db")))
    found = re.fullmatch(r"sent (\d+) events, (\d+) confirmed", last_line)
    assert code == 4 and found and 0 < int(found[1]) < 20 and found[1] == found[2]
    assert "broken.avi is damaged" in err and "Traceback" not in err


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--source", "/no/such.mp4"], 4, "no file /no/such.mp4"),
    (["--source", "/no/such.mp4", "--model", "/no/such.onnx"], 1, "no such file"),
    (["--source", "gopher://x"], 2, "gopher://"),
])
def test_a_source_that_cannot_be_used_ends_with_its_code(arguments: list[str], code: int, said: str, kafka: str,
                                                         tmp_path: Path) -> None:
    got, _, err = ended(start(kafka, "--spool", str(tmp_path / "spool.db"), *arguments))
    assert got == code and said in err and "Traceback" not in err


def test_a_container_refuses_a_webcam_in_one_line() -> None:
    code, _, err = ended(start("127.0.0.1:1", "--source", "0", KUBERNETES_SERVICE_HOST="10.0.0.1"))
    assert code == 2 and "is a container (KUBERNETES_SERVICE_HOST is set)" in err and "rtsp://" in err


def test_the_simulated_camera_needs_neither_opencv_nor_numpy() -> None:
    hide = ("import sys\nfor name in ('cv2', 'numpy', 'onnxruntime'): sys.modules[name] = None\n"
            "from device.camera import main\n"
            "sys.exit(main(['--count', '1', '--wait', '0', '--bootstrap', '127.0.0.1:1']))")
    done = subprocess.run([sys.executable, "-c", hide], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "sent 1 events, 0 confirmed" in done.stdout, done.stderr


def test_a_real_source_keeps_its_events_under_the_home_directory(tmp_path: Path, video: Path) -> None:
    code, _, err = ended(start("127.0.0.1:1", "--source", str(video), "--wait", "0", "--count", "2", "--device-id",
                               "a b", HOME=str(tmp_path)))
    assert code == 3, err
    assert (tmp_path / ".edgecloud" / "a%20b.camera.db").exists()


def test_the_same_seed_sees_the_same() -> None:
    looks = [[eye() for _ in range(20)] for eye in (camera.persons("a"), camera.persons("a"), camera.persons("b"))]
    assert looks[0] == looks[1] != looks[2]
    assert set(looks[0]) <= set(range(9)) and len(set(looks[0])) > 1
