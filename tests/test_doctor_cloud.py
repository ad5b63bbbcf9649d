"""The doctor's way to the cloud: identity, TLS, the clock, and what the policy allows, tried as the bridge."""
import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from contract import topics
from deploy.certificates import make_key_and_csr
from edge_bridge import doctor_cloud
from edge_bridge.doctor_case import FAULT, NOT_APPLICABLE, OK
from edge_bridge.doctor_cloud import endpoint_kind
from local_cloud.pki import certificate_id
from tests.bridge_rig import DEADLINE_S, THING, until
from tests.doctor_rig import Site, faults, https_date, server, tls_context, write_certificate
from tests.doctor_rig import site as site

pytestmark = pytest.mark.needs("mosquitto")


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


# --- what the policy allows

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
