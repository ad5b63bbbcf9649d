"""The publisher's parts by themselves: messages, the schedule of readings, back-off, settings."""
import random
import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from contract import payloads
from contract.errors import BadPayload
from device import schedule, settings
from device.link import backoff_s
from device.message import message, reading_text


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
        settings.read(["--port", "x", "--outliers", "2", "--device-id", "a/b", "--extra", "seq,humidity,sensor1"],
                      {"ACK": "nobody", "TOPIC": "a/#"})
    assert [line.split()[0] for line in str(fault.value).splitlines()] == [
        "--port", "--topic", "--outliers", "--extra", "--device-id", "--ack"]
    assert "expected other names than sensor1, seq" in str(fault.value)


def test_the_password_has_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.read(["--help"], {"MQTT_PASSWORD": "secret"})
    shown = capsys.readouterr().out
    assert "MQTT_PASSWORD" in shown and "--password" not in shown and "secret" not in shown
