"""The doctor beside a running bridge, whose word it takes and which it must not disturb; how `make doctor` finds it."""
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy import doctor as make_doctor
from deploy.pipeline import Pipeline, Plan
from edge_bridge import alarms, doctor_running, store
from edge_bridge.doctor_case import NOT_APPLICABLE, OK, Case, Finding, read_env_file
from tests.bridge_rig import DEADLINE_S, BridgeProcess, Pi, free_port, until
from tests.doctor_rig import Site, faults, running_bridge, server
from tests.doctor_rig import site as site

AT_A_BRIDGE = {"bridge", "alarms", "connect", "receipts topic", "publish", "duplicate client id", "receipts"}


@contextmanager
def bridge(site: Site, directory: Path, **environment: str) -> Iterator[tuple[BridgeProcess, dict[str, str]]]:
    """A real bridge that is connected, and its settings."""
    directory.mkdir(exist_ok=True)
    process = BridgeProcess(directory, site.cloud, **{
        "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(site.broker.port), "EDGECLOUD_VERSION": "1.2.3",
        "RECEIPT_TIMEOUT": "600", **environment}).start()
    try:
        until(lambda: set(process.status().get("connected", {"": False}).values()) == {True}, "the bridge to connect")
        yield process, {**site.environment, **{name: value for name, value in process.environment.items()
                                               if name not in os.environ}}
    finally:
        process.close()


@contextmanager
def readings(site: Site) -> Iterator[Pi]:
    """A Pi that publishes ten readings a second."""
    pi, ended = Pi(site.broker.port), threading.Event()

    def make() -> None:
        while not ended.wait(0.1):
            pi.make()

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield pi
    finally:
        ended.set()
        thread.join(DEADLINE_S)
        pi.close()


@pytest.mark.needs("mosquitto")
def test_beside_a_running_bridge_all_is_well_and_the_bridge_is_left_alone(site: Site, tmp_path: Path) -> None:
    port, kafka = str(free_port()), site.environment["BOOTSTRAP_SERVERS"]
    with bridge(site, tmp_path, METRICS_PORT=port, METRICS_HOST="127.0.0.1", BOOTSTRAP_SERVERS=kafka) as (
            process, environment), readings(site):
        until(lambda: process.status().get("delivered"), "the first receipt")
        by_file = site.examine(environment, watch_s=0.5)
        by_http = site.examine({**environment, "STATUS_FILE": ""}, watch_s=0.5)
        for found in (by_file, by_http):
            assert faults(found) == set() and {finding.state for finding in found.values()} == {OK}
        assert f"127.0.0.1:{port}/metrics" in by_http["bridge"].found
        elsewhere = site.examine({**environment, "STATUS_FILE": "", "OUTBOX": str(tmp_path / "unseen" / "outbox.db")})
        assert elsewhere["connect"].found.startswith("the running bridge"), "its lock is not to be seen from here"
        assert process.status()["connects"] == 1 and "TAKEN_OVER" not in process.log()
        assert process.status()["dead_lettered"] == 0, "nothing of the doctor's came to the bridge"


@pytest.mark.needs("mosquitto")
def test_two_bridges_of_one_thing_take_over_from_each_other(site: Site, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with bridge(site, tmp_path / "a") as (_, environment):
        second = BridgeProcess(tmp_path / "b", site.cloud, MQTT_BROKER="127.0.0.1",
                               MQTT_PORT=str(site.broker.port)).start()
        told: set[str] = set()

        def both_sides() -> bool:
            found = site.examine(environment, watch_s=1.0)
            told.update({"cloud"} if "another client came" in found["duplicate client id"].found else set())
            told.update({"LAN"} if "mqtt" in found["bridge"].found and "bridge" in faults(found) else set())
            return told == {"cloud", "LAN"}

        try:
            until(both_sides, "the takeovers", within_s=3 * DEADLINE_S)
        finally:
            second.close()


@pytest.mark.needs("mosquitto")
def test_a_running_bridge_that_may_not_publish(site: Site, tmp_path: Path) -> None:
    mute = site.device("mute", "Connect", "Subscribe", "Receive")
    with bridge(site, tmp_path, **mute) as (_, environment), readings(site):
        found: dict[str, Finding] = {}

        def refused() -> bool:
            found.update(site.examine(environment, watch_s=1.0))
            return "publish" in faults(found)

        until(refused, "a publish that is refused", within_s=3 * DEADLINE_S)
    assert "iot:Publish" in found["publish"].fix and found["connect"].state == OK


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize(("status", "checks", "says"), [
    ({}, set(), ""),
    ({"alarms": {alarms.CERTIFICATE_EXPIRES: "it ends"}}, {"alarms"}, "certificate_expires: it ends"),
    ({"version": "0.0.1"}, {"versions"}, "the running bridge is 0.0.1, this is 1.2.3"),
    ({"connected": {"cloud": True, "mqtt": False}}, {"bridge"}, "no connection, or not all the time: mqtt"),
    ({"stalled_s": 100.0}, {"bridge"}, "nothing went out for 100 s"),
    ({"at": 0}, {"bridge"}, "it hangs"), ({"thing": "another"}, {"bridge"}, "one runs, but tells nothing of itself"),
    ({"connected": {"cloud": False}, "alarms": {alarms.REFUSED: "x refused: NOT_AUTHORIZED"}},
     {"bridge", "alarms", "connect"}, "not connected: x refused: NOT_AUTHORIZED"),
    ({"takeovers": 1}, set(), "1 ended by another client"),
    ({"takeovers": 3}, {"duplicate client id"}, "another client came with EdgeCloudAWS, 3 times since"),
    ({"receipts_overdue": 7}, {"receipts"}, "7 messages were accepted and not receipted")])
def test_what_a_bridge_says_of_itself_is_heard(site: Site, tmp_path: Path, status: dict[str, Any], checks: set[str],
                                               says: str) -> None:
    settings = running_bridge(tmp_path, **status)
    with store.lock(settings["OUTBOX"]):
        found = site.examine(settings)
    assert faults(found) == checks and says in str(found)


@pytest.mark.needs("mosquitto")
def test_a_bridge_that_tells_nothing_is_not_taken_over_from(site: Site, tmp_path: Path) -> None:
    with store.lock(str(tmp_path / "outbox.db")):
        found = site.examine({"OUTBOX": str(tmp_path / "outbox.db")})
        starting = site.examine({"OUTBOX": str(tmp_path / "outbox.db"), "STATUS_FILE": str(tmp_path / "status.json")})
    assert faults(found) == faults(starting) == {"bridge"}
    assert "METRICS_PORT" in found["bridge"].fix and "it may be starting" in starting["bridge"].fix
    assert found["connect"].state == starting["connect"].state == NOT_APPLICABLE


def test_the_lock_is_seen_and_not_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "outbox.db")
    assert doctor_running.holds_lock(path) is None
    with store.lock(path):
        assert doctor_running.holds_lock(path) is True
    assert doctor_running.holds_lock(path) is False
    store.lock(path).close()  # StoreError if it were kept


HTTP_200 = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize("answer", [
    HTTP_200 + b"# TYPE x counter\nx_total 1\n", HTTP_200 + b"\xff", HTTP_200 + b"{", b"SSH-2.0-OpenSSH_9\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx", b""])
def test_another_program_on_the_metrics_port_is_no_bridge(tmp_path: Path, answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with server(serve) as port:
        chosen = Case.of({"OUTBOX": str(tmp_path / "outbox.db"), "METRICS_HOST": "127.0.0.1",
                          "METRICS_PORT": str(port)}, version="1", timeout_s=1.0)
    assert chosen.running is None


# --- make doctor

def _demo(root: Path, name: str) -> Path:
    directory = root / ".demo" / name
    (directory / "outbox").mkdir(parents=True)
    (directory / "bridge.env").write_text("THING=demo\n")
    return directory


def test_make_doctor_takes_the_settings_that_are_meant(tmp_path: Path) -> None:
    older, newer = _demo(tmp_path, "20261122-100000-1"), _demo(tmp_path, "20261122-110000-2")
    (tmp_path / "certs").mkdir()
    choose = make_doctor.settings_file
    assert choose("", {}, tmp_path) is None, "no demo runs"
    with store.lock(str(older / "outbox" / "outbox.db")):
        assert choose("", {}, tmp_path) == older / "bridge.env", "the newer one has ended"
        with store.lock(str(newer / "outbox" / "outbox.db")):
            assert choose("", {}, tmp_path) == newer / "bridge.env"
        (tmp_path / "certs" / "bridge.env").touch()
        assert choose("", {}, tmp_path) == tmp_path / "certs" / "bridge.env"
        assert choose("", {"IOT_ENDPOINT": "x"}, tmp_path) is None
        assert choose("my.env", {"IOT_ENDPOINT": "x"}, tmp_path) == Path("my.env")


def test_make_doctor_says_first_that_there_is_nothing_to_look_at(tmp_path: Path, capfd: pytest.CaptureFixture[str],
                                                                 ) -> None:
    _demo(tmp_path, "20261122-100000-1")
    alone = {**os.environ, "MQTT_BROKER": "", "BOOTSTRAP_SERVERS": "", "OUTBOX": str(tmp_path / "outbox.db")}
    alone.pop("IOT_ENDPOINT", None)
    assert make_doctor.main(["--env-file", "", "--timeout", "5", "--json"], alone, tmp_path) == 1
    told = capfd.readouterr()
    assert told.err == ("doctor: no demo runs here, and certs/bridge.env does not exist: there is no bridge to look "
                        "at; next: make demo, or make provision\n")
    settings = json.loads(told.out)["checks"][0]
    assert (settings["check"], settings["state"]) == ("settings", "fault") and "IOT_ENDPOINT" in settings["found"]
    for environ, file in (({}, "my.env"), ({"IOT_ENDPOINT": "localhost"}, "")):
        make_doctor.main(["--env-file", file, "--timeout", "0.5"], {**alone, **environ}, tmp_path)
        assert "no demo runs" not in capfd.readouterr().err


def test_a_demo_writes_down_the_settings_of_its_bridge_for_its_owner_alone(tmp_path: Path) -> None:
    given = {"THING": "x", "OUTBOX": "/a path/outbox.db", "MQTT_PASSWORD": "p=#'1"}
    Pipeline(Plan(directory=tmp_path, assembly=tmp_path))._write_for_doctor(given)
    file = tmp_path / "bridge.env"
    assert read_env_file(str(file)) == given and file.stat().st_mode & 0o777 == 0o600


def test_make_doctor_stands_outside_of_the_container(tmp_path: Path) -> None:
    file = tmp_path / "bridge.env"
    file.write_text("THING=x\nexport BOOTSTRAP_SERVERS=kafka:9092\n")
    assert make_doctor.host_defaults(file, {}, lambda host: True) == {"CERTS": str(tmp_path)}
    assert make_doctor.host_defaults(file, {"CERTS": "/c"}, lambda host: False) == {"MQTT_BROKER": "127.0.0.1"}
    assert make_doctor.host_defaults(None, {}, lambda host: True) == {}
