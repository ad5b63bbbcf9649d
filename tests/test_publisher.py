"""A publisher's run against a real broker: exact counts, the record, stdin; with paho-mqtt 1.6.1 and 2.x."""
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bridge_rig import ROOT
from tests.publisher_rig import Bridge, Broker, Runs, ended
from tests.publisher_rig import bridge as bridge
from tests.publisher_rig import broker as broker
from tests.publisher_rig import paho_1 as paho_1
from tests.publisher_rig import python as python
from tests.publisher_rig import runs as runs


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
