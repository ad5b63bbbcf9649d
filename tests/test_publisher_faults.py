"""What fails around a publisher: kills on both sides, an absent broker, signals, a bad sensor, refusals."""
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.bridge_rig import ROOT, until
from tests.publisher_rig import Bridge, Broker, Runs, ended
from tests.publisher_rig import bridge as bridge
from tests.publisher_rig import broker as broker
from tests.publisher_rig import paho_1 as paho_1
from tests.publisher_rig import python as python
from tests.publisher_rig import runs as runs


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


@pytest.mark.needs("mosquitto")
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
