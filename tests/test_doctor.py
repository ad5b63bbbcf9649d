"""The doctor with no bridge running: all is well, and each check alone sees what breaks exactly its own matter."""
import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract import topics
from deploy.certificates import make_key_and_csr
from edge_bridge import doctor, doctor_cloud
from edge_bridge.doctor_case import FAULT, NOT_APPLICABLE, OK, Case, Finding, fault, ok, read_env_file
from edge_bridge.doctor_cloud import endpoint_kind
from edge_bridge.schema import Store, marker_path
from edge_bridge.volume import Mount
from local_cloud.pki import certificate_id
from tests.bridge_rig import DEADLINE_S, ROOT, THING, Mosquitto, free_port, until
from tests.doctor_rig import (
    Other,
    Site,
    faults,
    https_date,
    kafka_elsewhere,
    server,
    tls_context,
    write_certificate,
)

pytestmark = pytest.mark.needs("mosquitto")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    one = Site(tmp_path_factory.mktemp("site"))
    yield one
    one.close()


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


def test_kafka_that_advertises_what_cannot_be_reached(site: Site) -> None:
    nobody = free_port()
    with server(kafka_elsewhere(site.kafka_port, nobody)) as port:
        found = site.examine({"BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    assert faults(found) == {"Kafka listeners"} and f"127.0.0.1:{nobody}" in found["Kafka listeners"].found


@pytest.mark.parametrize(("name", "checks"), [
    ("MQTT_BROKER", ("LAN broker", "LAN topics", "LAN queue")),
    ("BOOTSTRAP_SERVERS", ("Kafka", "Kafka topic", "Kafka listeners"))])
def test_a_source_that_is_off_is_not_applicable(site: Site, name: str, checks: tuple[str, ...]) -> None:
    found = site.examine({name: ""})
    assert faults(found) == set() and {found[check].state for check in checks} == {NOT_APPLICABLE}


# --- identity, TLS, clock

@pytest.mark.parametrize("of", ["EC", "RSA"])
def test_a_key_of_another_certificate(site: Site, tmp_path: Path, of: str) -> None:
    key = write_certificate(tmp_path, "other")[1]
    if of == "RSA":
        make_key_and_csr(tmp_path, "other")
    found = site.examine({"PRIVATE_KEY": str(key)})
    assert faults(found) == {"key and certificate"} and "is not the key of" in found["key and certificate"].found
    assert found["CA"].state == OK and found["connect"].state == NOT_APPLICABLE


def test_two_certificates_in_one_directory(site: Site, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(site.environment["CERTIFICATE"], tmp_path / f"{name}.crt")
    found = site.examine({"CERTS": str(tmp_path), "CERTIFICATE": ""})
    assert faults(found) == {"key and certificate"} and "a.crt, b.crt" in found["key and certificate"].found


@pytest.mark.parametrize(("end", "says"), [("2049-12-20", "in 12 days"), ("2050-01-01", "ended on 2049-12-31")])
def test_a_certificate_that_ends(site: Site, end: str, says: str) -> None:
    now_s = time.mktime(time.strptime(end, "%Y-%m-%d"))
    found = site.examine({}, now_s=lambda: now_s)
    assert faults(found) == {"expiry"} and says in found["expiry"].found and "ROTATE=1" in found["expiry"].fix


def test_a_root_that_did_not_sign(site: Site, tmp_path: Path) -> None:
    root, _ = write_certificate(tmp_path, "other")
    found = site.examine({"ROOT_CA": str(root)})
    assert faults(found) == {"CA"} and "did not sign" in found["CA"].found and "AmazonRootCA1.pem" in found["CA"].fix


def test_a_server_of_another_name(site: Site, tmp_path: Path) -> None:
    context = tls_context(tmp_path, "other.example")
    with server(lambda connection: connection.close(), context) as port:
        found = site.examine({"IOT_PORT": str(port), "ROOT_CA": str(tmp_path / "other.example.crt")})
    assert faults(found) == {"SNI"} and "localhost" in found["SNI"].found and found["CA"].state == OK


def test_on_port_443_aws_is_told_that_it_is_mqtt(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, chosen = tls_context(tmp_path, "localhost"), []
    context.set_alpn_protocols([doctor_cloud.ALPN])
    with server(lambda connection: chosen.append(connection.selected_alpn_protocol()), context) as port:  # type: ignore[attr-defined]
        monkeypatch.setattr(doctor_cloud, "ALPN_PORT", port)  # 443 itself is not ours to listen on
        found = site.examine({"IOT_PORT": str(port), "ROOT_CA": str(tmp_path / "localhost.crt")}, passive=True)
        until(lambda: len(chosen) == 2, "both handshakes")
    assert faults(found) == set() and set(chosen) == {"x-amzn-mqtt-ca"}


@pytest.mark.parametrize(("ahead_s", "says"), [
    (-3600, "ahead of localhost"), (3600, "behind localhost"), (0, "within")])
def test_the_clock_is_compared_with_the_endpoints(site: Site, tmp_path: Path, ahead_s: float, says: str) -> None:
    with server(https_date(ahead_s), tls_context(tmp_path, "localhost")) as port:
        found = site.examine({}, https_port=port)
    assert faults(found) == ({"clock"} if ahead_s else set()) and says in found["clock"].found


@pytest.mark.parametrize(("host", "says"), [
    ("a3qjexample-ats.iot.eu-north-1.amazonaws.com", ""), ("a3q-ats.iot.cn-north-1.amazonaws.com.cn", ""),
    ("vpce-0a1b-c2d3.iot.data.eu-north-1.vpce.amazonaws.com", ""), ("local-cloud", ""), ("mqtt.example.com", ""),
    ("a3qjexample.iot.eu-north-1.amazonaws.com", "former data endpoint"),
    ("c2example.credentials.iot.eu-north-1.amazonaws.com", "credential provider"),
    ("a3qjexample.jobs.iot.eu-north-1.amazonaws.com", "jobs endpoint"),
    ("data-ats.iot.eu-north-1.amazonaws.com", "not your account's"), ("iot.eu-north-1.amazonaws.com", "control plane"),
    ("abc.execute-api.eu-north-1.amazonaws.com", "an API's address"), ("s3.amazonaws.com", "no IoT data endpoint"),
    ("a3q-ats.iot.eu-north-1.amazonaws.com:8883", "no port")])
def test_the_kind_of_endpoint(host: str, says: str) -> None:
    found = endpoint_kind(host)
    assert found.state == (FAULT if says else OK) and says in found.found + found.fix
    assert not says or "iot:Data-ATS" in found.fix


# --- what the policy allows, tried as the bridge

@pytest.mark.parametrize(("actions", "check", "says"), [
    (("Publish", "Subscribe", "Receive"), "connect", "iot:Connect"),
    (("Connect", "Publish", "Receive"), "receipts topic", "iot:Subscribe"),
    (("Connect", "Subscribe", "Receive"), "publish", "iot:Publish")])
def test_what_the_policy_does_not_allow(site: Site, actions: tuple[str, ...], check: str, says: str) -> None:
    found = site.examine(site.device(f"without-{check.replace(' ', '-')}", *actions))
    assert faults(found) == {check} and says in found[check].fix


def test_a_certificate_that_is_not_active(site: Site) -> None:
    changes = site.device("inactive", "*")
    pem = Path(changes["CERTIFICATE"]).read_text()
    site.cloud.call(lambda: site.cloud.rig.registry.set_status(certificate_id(pem), "INACTIVE"))
    found = site.examine(changes)
    assert faults(found) == {"connect"} and "active" in found["connect"].fix


def test_receipts_that_do_not_come(site: Site) -> None:
    site.cloud.receipts = False
    found = site.examine({}, receipt_s=0.5)
    site.cloud.receipts = True
    assert faults(found) == {"receipts"} and "dead-letter queues" in found["receipts"].fix
    assert site.examine({"RECEIPTS": "off"})["receipts"].state == NOT_APPLICABLE


def test_another_client_of_the_same_name(site: Site) -> None:
    other = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=THING, protocol=paho.MQTTv5)
    other.tls_set_context(site.cloud.device.context())
    other.reconnect_delay_set(1, 1)
    other.connect("localhost", site.cloud.port)
    other.loop_start()
    until(other.is_connected, "the other client to connect")
    found = site.examine({}, watch_s=DEADLINE_S)
    other.disconnect()
    other.loop_stop()
    assert faults(found) == {"duplicate client id"} and "THING" in found["duplicate client id"].fix


def _as_the_bridge(site: Site, on_message: Callable[[Any, Any, Any], None]) -> paho.Client:
    """A client with the bridge's id and session, connected and subscribed."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=THING, protocol=paho.MQTTv5)
    client.tls_set_context(site.cloud.device.context())
    client.on_message = on_message
    subscribed = threading.Event()
    client.on_connect = lambda *_: client.subscribe(topics.receipts(THING), 1)
    client.on_subscribe = lambda *_: subscribed.set()
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    client.connect("localhost", site.cloud.port, clean_start=False, properties=session)
    client.loop_start()
    assert subscribed.wait(DEADLINE_S)
    return client


def test_a_receipt_that_waits_for_the_bridge_is_left_to_it(site: Site) -> None:
    bridge = _as_the_bridge(site, lambda *_: None)
    bridge.disconnect()
    bridge.loop_stop()
    waiting = json.dumps({"v": 1, "ids": ["0123456789abcdef01234567"]}).encode()
    asyncio.run_coroutine_threadsafe(site.cloud.rig.gateway.publish(topics.receipts(THING), waiting, qos=1),
                                     site.cloud.loop).result(DEADLINE_S)
    assert faults(site.examine({})) == set()
    came: list[bytes] = []
    bridge = _as_the_bridge(site, lambda _, __, message: came.append(message.payload))
    until(lambda: waiting in came, "the receipt that waited")
    bridge.disconnect()
    bridge.loop_stop()


def test_passive_does_not_connect(site: Site) -> None:
    found = site.examine({}, passive=True)
    assert found["connect"].state == NOT_APPLICABLE and "--passive" in found["connect"].found and faults(found) == set()


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
    assert _run(environment, "--env-file", str(tmp_path / "none")).returncode == 2


def test_an_env_file_is_read_as_docker_and_a_shell_read_it(tmp_path: Path) -> None:
    file = tmp_path / "bridge.env"
    file.write_text("# no\n\nexport A=1\nB='two words'\nC=\"x=y\"\nD=\nE\n#F=1\n")
    assert read_env_file(str(file)) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}
