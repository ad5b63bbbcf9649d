"""The doctor with no bridge running: settings, disk, broker, Kafka; each check alone sees what breaks its matter."""
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import paho.mqtt.client as paho
import pytest

from edge_bridge import doctor, doctor_sources
from edge_bridge.doctor_case import FAULT, NOT_APPLICABLE, OK, Case, Finding, fault, ok, read_env_file
from edge_bridge.store import Store, marker_path
from edge_bridge.volume import Mount
from tests.bridge_rig import DEADLINE_S, ROOT, THING, Mosquitto, free_port, until
from tests.doctor_rig import Other, Site, faults, kafka_elsewhere, server
from tests.doctor_rig import site as site

pytestmark = pytest.mark.needs("mosquitto")


def test_where_all_is_well_everything_is_well(site: Site) -> None:
    found = site.examine({})
    assert [found[name].check for name in doctor.CHECKS] == list(found)
    assert {name for name, finding in found.items() if finding.state != OK} == {"bridge", "alarms", "outbox"}
    assert faults(found) == set() and found["receipts"].found.startswith("for both empty batches")
    assert site.cloud.rows == {}, "an empty batch stores nothing"
    assert not (site.directory / "outbox.db").exists(), "the doctor makes no outbox"


# --- settings and disk

@pytest.mark.parametrize(("changes", "check", "says"), [
    ({"MQTT_PORT": "99999"}, "settings", "MQTT_PORT is '99999'"),
    ({"RETENTION_BYTES": "900000G"}, "disk", "RETENTION_BYTES"),
    ({"MQTT_BROKER": "nowhere.invalid"}, "LAN broker", "nowhere.invalid has no address"),
    ({"MQTT_VERSION": "3.1.1", "MQTT_PORT": "1"}, "LAN broker", "refused"),
    ({"BOOTSTRAP_SERVERS": "nowhere.invalid:9092"}, "Kafka", "nowhere.invalid has no address"),
    ({"BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "Kafka", "127.0.0.1:1"),
    ({"KAFKA_TOPIC": "absent"}, "Kafka topic", "no topic absent"),
    ({"PRIVATE_KEY": "/nowhere.key"}, "key and certificate", "/nowhere.key: No such file"),
    ({"IOT_ENDPOINT": "nowhere.invalid"}, "DNS", "nowhere.invalid has no address"),
    ({"IOT_ENDPOINT": "mqtts://localhost"}, "endpoint", "mqtts://localhost"),
    ({"IOT_PORT": "1"}, "TCP", "localhost:1"),
    ({"ROOT_CA": "/nowhere.pem"}, "CA", "/nowhere.pem: No such file"),
    ({"CLIENT_ID": "other"}, "client id", "edgecloud/receipts/other"),
])
def test_a_setting_that_is_wrong_is_seen_by_its_check_alone(site: Site, changes: dict[str, str], check: str,
                                                            says: str) -> None:
    found = site.examine(changes)
    assert faults(found) - ({"DNS"} if check == "endpoint" else set()) == {check} and says in found[check].found


def test_a_misspelt_name_in_an_env_file_is_seen(site: Site) -> None:
    found = site.examine({}, written={"MQTT_BORKER": "x", "TZ": "UTC"})
    assert faults(found) == {"settings"} and "MQTT_BORKER is no setting; MQTT_BROKER is" in found["settings"].found


@pytest.mark.parametrize(("kind", "says"), [("nfs4", "NFS"), ("fuse.sshfs", "FUSE"), ("tmpfs", "in memory")])
def test_a_file_system_that_cannot_hold_an_outbox(site: Site, kind: str, says: str) -> None:
    found = site.examine({}, mounts=[Mount("/", kind, "somewhere")])
    assert faults(found) == {"volume"} and says in found["volume"].found and "OUTBOX" in found["volume"].fix
    allowed = site.examine({"OUTBOX_ON_SHARE": "allow"}, mounts=[Mount("/", kind, "somewhere")])
    assert faults(allowed) == ({"volume"} if kind == "tmpfs" else set())


def _outbox(path: Path) -> None:
    """An outbox of some pages, closed."""
    store = Store(str(path))
    with store.write() as db:
        db.executemany("INSERT INTO readings VALUES (?, 'pi', ?, 1, ?, NULL, NULL)",
                       [(number, number, bytes(500)) for number in range(1, 200)])
    store.close()


def _flip_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle:middle + 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def _make_newer(path: Path) -> None:
    store = Store(str(path))
    with store.write() as db:
        db.execute("PRAGMA user_version = 99")
    store.close()


@pytest.mark.parametrize(("spoil", "says"), [
    (_flip_a_page, "is damaged"), (_make_newer, "has schema 99"),
    (lambda path: path.write_bytes(b"x" * 5000), "is damaged"),
    (lambda path: marker_path(str(path)).touch(), "was found damaged")])
def test_a_broken_outbox_is_seen_and_left_as_it_is(site: Site, tmp_path: Path, spoil: Callable[[Path], Any],
                                                   says: str) -> None:
    path = tmp_path / "outbox.db"
    _outbox(path)
    assert site.examine({"OUTBOX": str(path)})["outbox"].state == OK
    spoil(path)
    before, files = path.read_bytes(), sorted(tmp_path.iterdir())
    found = site.examine({"OUTBOX": str(path)})
    assert faults(found) == {"outbox"} and says in found["outbox"].found
    assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == files


# --- LAN broker and Kafka

def test_a_broker_that_asks_for_a_password(site: Site, tmp_path: Path) -> None:
    (tmp_path / "passwd").touch(mode=0o644)
    broker = Other(tmp_path / "broker", "allow_anonymous false", f"password_file {tmp_path / 'passwd'}", "user root")
    found = site.examine({"MQTT_PORT": str(broker.port), "MQTT_USERNAME": "edgecloud", "MQTT_PASSWORD": "wrong"})
    broker.close()
    assert faults(found) == {"LAN broker"} and "MQTT_PASSWORD" in found["LAN broker"].fix
    assert "wrong" not in str(found), "a password is not shown"


def test_a_broker_whose_acl_keeps_the_bridge_out(site: Site, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read sensor/#\ntopic read $SYS/#\n")
    broker = Other(tmp_path / "broker", f"acl_file {tmp_path / 'acl'}", "user root")
    found = site.examine({"MQTT_PORT": str(broker.port)})
    broker.close()
    assert faults(found) == {"LAN topics"} and "publish sensor/ack/edgecloud-doctor" in found["LAN topics"].found


def _offline_subscriber(broker: Mosquitto) -> None:
    """A session that stays away while more comes than the broker queues for it."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="away", clean_session=False)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.subscribe("x", 1)
    assert subscribed.wait(DEADLINE_S)
    client.disconnect()
    client.loop_stop()
    sender = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sender")
    sender.connect("127.0.0.1", broker.port)
    sender.loop_start()
    for _ in range(20):
        sender.publish("x", b"y", qos=1).wait_for_publish(DEADLINE_S)
    sender.disconnect()
    sender.loop_stop()


def test_a_broker_that_dropped_messages(site: Site, tmp_path: Path) -> None:
    broker = Other(tmp_path / "broker", "max_queued_messages 1", "max_inflight_messages 1", "sys_interval 1")
    _offline_subscriber(broker)
    found: dict[str, Finding] = {}

    def shown() -> bool:
        found.update(site.examine({"MQTT_PORT": str(broker.port)}))
        return found["LAN queue"].state == FAULT

    until(shown, "the broker to publish its figures", within_s=3 * DEADLINE_S)
    broker.close()
    assert faults(found) == {"LAN queue"} and "max_queued_messages 0" in found["LAN queue"].fix


class Told:
    """A broker that tells so much in $SYS, and refuses to tell the rest; a real one shows this only after a minute."""

    def __init__(self, *shown: tuple[str, bytes], refusal: str = "") -> None:
        self._shown, self._refusal = shown, refusal

    def subscribe(self, *topics: str, qos: int, timeout_s: float) -> list[str]:
        return [self._refusal] * len(topics)

    def find(self, wanted: Callable[[str, bytes], Any], timeout_s: float) -> Any:
        return next((value for one in self._shown if (value := wanted(*one)) is not None), None)


VERSION, UP = ("$SYS/broker/version", b"mosquitto version 2.0.11"), ("$SYS/broker/uptime", b"4711 seconds")


@pytest.mark.parametrize(("broker", "state", "says"), [
    (Told(VERSION, UP), OK, "up 4711 seconds, dropped nothing lately"),
    (Told(VERSION), OK, "up ?, dropped nothing lately"),
    (Told(VERSION, UP, (doctor_sources.DROPPED, b"0")), OK, "up 4711 seconds, dropped nothing;"),
    (Told(VERSION, UP, (doctor_sources.DROPPED, b"3")), FAULT, "dropped 3 messages"),
    (Told(VERSION, UP, refusal="Not authorized"), NOT_APPLICABLE, "does not show it"),
    (Told(), NOT_APPLICABLE, "does not show it")])
def test_what_a_broker_shows_of_its_queue(broker: Told, state: str, says: str) -> None:
    found = doctor_sources._lan_queue(Case.of({}, version="1", timeout_s=DEADLINE_S), cast(Any, broker))
    assert (found.check, found.state) == ("LAN queue", state) and says in found.found


def test_a_broker_that_shows_nothing_of_itself(site: Site, tmp_path: Path) -> None:
    broker = Other(tmp_path / "broker", "sys_interval 0")
    found = site.examine({"MQTT_PORT": str(broker.port)})
    broker.close()
    assert (faults(found), found["LAN queue"].state) == (set(), NOT_APPLICABLE)


def test_kafka_that_advertises_what_cannot_be_reached(site: Site) -> None:
    nobody = free_port()
    with server(kafka_elsewhere(site.kafka_port, nobody)) as port:
        found = site.examine({"BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    assert faults(found) == {"Kafka listeners"} and f"127.0.0.1:{nobody}" in found["Kafka listeners"].found


def test_one_bootstrap_server_that_answers_is_enough(site: Site) -> None:
    found = site.examine({"BOOTSTRAP_SERVERS": f"nowhere.invalid:9092,127.0.0.1:{site.kafka_port}"}, passive=True)
    assert faults(found) == set() and found["Kafka"].state == OK
    found = site.examine({"BOOTSTRAP_SERVERS": "nowhere.invalid:9092,127.0.0.1:1"}, passive=True)
    assert faults(found) == {"Kafka"} and found["Kafka"].found.startswith("nowhere.invalid has no address")
    assert "127.0.0.1:1" in found["Kafka"].found


@pytest.mark.parametrize(("name", "checks"), [
    ("MQTT_BROKER", ("LAN broker", "LAN topics", "LAN queue")),
    ("BOOTSTRAP_SERVERS", ("Kafka", "Kafka topic", "Kafka listeners"))])
def test_a_source_that_is_off_is_not_applicable(site: Site, name: str, checks: tuple[str, ...]) -> None:
    found = site.examine({name: ""})
    assert faults(found) == set() and {found[check].state for check in checks} == {NOT_APPLICABLE}


# --- the doctor itself

def test_a_check_that_hangs_or_breaks_hides_no_other(site: Site) -> None:
    def hangs(case: Case) -> Iterator[Finding]:
        yield ok("a", "well")
        threading.Event().wait(DEADLINE_S)

    def breaks(case: Case) -> Iterator[Finding]:
        raise RuntimeError("broken")
        yield fault("d", "", "")

    case = Case.of(site.environment, version="1.2.3", timeout_s=1.0)
    found = doctor.examine(case, [(hangs, ("a", "b", "c")), (breaks, ("d", "e"))])
    assert [(one.check, one.state) for one in found] == [
        ("a", OK), ("b", FAULT), ("c", NOT_APPLICABLE), ("d", FAULT), ("e", NOT_APPLICABLE)]
    assert "no answer within 1 s" in found[1].found and "RuntimeError: broken" in found[3].found


def test_a_server_that_never_answers_is_told_in_time(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        found = site.examine({"MQTT_PORT": port, "BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "IOT_PORT": port},
                             timeout_s=5.0)
    assert faults(found) >= {"LAN broker", "Kafka", "CA"} and list(found) == list(doctor.CHECKS)


def _run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edge_bridge", "doctor", "--timeout", "60", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5 * DEADLINE_S, env=environment)


def test_the_command_prints_json_and_its_exit_code_says_it_all(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "bridge.env"
    file.write_text("# written by hand\n" + "".join(f"{name}={value}\n" for name, value in site.environment.items()))
    environment = {"PATH": "/usr/bin:/bin", "EDGECLOUD_VERSION": "7.8.9"}
    done = _run(environment, "--json", "--env-file", str(file))
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["version"], told["thing"]) == (0, True, "7.8.9", THING), done.stdout
    assert [check["check"] for check in told["checks"]] == list(doctor.CHECKS)
    again = _run({**environment, "KAFKA_TOPIC": "absent"}, "--passive", "--env-file", str(file))
    assert again.returncode == 1 and "\u2717 Kafka topic" in again.stdout and "fix: kafka-topics.sh" in again.stdout
    file.write_bytes("THING=Gerät\n".encode("latin-1"))
    for name in ("none", file.name):
        refused = _run(environment, "--env-file", str(tmp_path / name))
        assert refused.returncode == 2 and f"{name} cannot be read" in refused.stderr, refused.stderr


def test_an_env_file_is_read_as_docker_and_a_shell_read_it(tmp_path: Path) -> None:
    file = tmp_path / "bridge.env"
    file.write_text("\ufeffexport A=1\n# no\n\nB='two words'\nC=\"x=y\"\nD=\nE\n#F=1\n", encoding="utf-8")
    assert read_env_file(str(file)) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}
