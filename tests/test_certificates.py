"""Certificates of a running bridge: a new one is taken up, one that ended or was revoked is told; nothing is lost."""
import datetime
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_bridge import alarms, certificates
from edge_bridge.alarms import Alarms
from edge_bridge.certificates import CHECK_S, DAY_S, Identity, IdentityError, Watch
from local_cloud.pki import LocalCa, certificate_id
from tests.bridge_rig import THING, BridgeProcess, Cloud, Mosquitto, Pi, until
from tests.gateway_rig import ALLOW_ALL, Device, make_device

BEGIN = "-----BEGIN CERTIFICATE-----"
NOW_S = 1_795_332_240.0


def write_pair(directory: Path, name: str, days: float) -> None:
    """<name>.crt, <name>.key: a certificate that signs itself and ends so many days after NOW_S."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC) + datetime.timedelta(days=days)
    certificate = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(),
                                          end - datetime.timedelta(days=4000), end).sign(key, hashes.SHA256())
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Files:
    """A directory of certificates, the settings that name it, and a watch whose clock is the test's."""

    def __init__(self, directory: Path, days: float = 400) -> None:
        self.directory = directory
        directory.mkdir()
        write_pair(directory, "a", days)
        shutil.copy(directory / "a.crt", directory / "AmazonRootCA1.pem")
        self.settings: Any = SimpleNamespace(certs=str(directory), certificate=str(directory / "a.crt"),
                                             private_key=str(directory / "a.key"),
                                             root_ca=str(directory / "AmazonRootCA1.pem"))
        self.taken: list[Identity] = []
        self.alarms = Alarms()
        self.now_s = NOW_S
        self.watch = Watch(self.settings, certificates.read(self.settings), self.alarms, self.taken.append,
                           now_s=lambda: self.now_s, clock=lambda: self.now_s)

    def look(self) -> list[str]:
        """What is up after the next look."""
        self.now_s += CHECK_S
        self.watch.look()
        return list(self.alarms.up())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "certs")


def test_the_end_is_read_from_the_certificate(files: Files) -> None:
    assert certificates.read(files.settings).not_after_s == pytest.approx(NOW_S + 400 * DAY_S, abs=1)
    ca = LocalCa(files.directory / "ca")
    end_s = datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.UTC).timestamp()
    assert certificates.not_after_s(make_device(ca, "x").pem.encode()) == end_s


def test_a_certificate_beyond_2049_has_another_form_of_time(tmp_path: Path) -> None:
    files = Files(tmp_path / "certs", days=20_000)
    assert files.watch.left_s() == pytest.approx(20_000 * DAY_S, abs=1)


def test_it_looks_only_when_it_is_time(files: Files) -> None:
    assert files.look() == []
    write_pair(files.directory, "a", 500)
    files.now_s += CHECK_S / 2
    files.watch.look()
    assert files.taken == []
    assert files.look() == [] and len(files.taken) == 1
    assert files.look() == [] and len(files.taken) == 1
    assert files.watch.left_s() > 499 * DAY_S


def test_one_under_another_name_is_found_when_the_old_one_is_gone(files: Files) -> None:
    write_pair(files.directory, "b", 500)
    assert files.look() == [] and files.taken == [], "beside the old one it is none of ours"
    for name in ("a.crt", "a.key"):
        (files.directory / name).unlink()
    assert files.look() == [] and len(files.taken) == 1


@pytest.mark.parametrize("spoil", [
    lambda directory: (directory / "a.key").unlink(),
    lambda directory: (directory / "a.crt").write_text(f"{BEGIN}\nAAAA\n-----END CERTIFICATE-----\n"),
    lambda directory: (directory / "a.crt").write_bytes(b""),
    lambda directory: (directory / "AmazonRootCA1.pem").write_text("none"),
    lambda directory: (write_pair(directory, "b", 9), shutil.copy(directory / "b.crt", directory / "a.crt"))])
def test_a_half_copied_identity_is_told_and_the_one_in_use_is_kept(files: Files, spoil: Callable[[Path], Any],
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    spoil(files.directory)
    with pytest.raises(IdentityError, match=r"a\.crt"):
        certificates.read(files.settings)
    assert files.look() == files.look() == [alarms.CERTIFICATE_UNUSABLE] and files.taken == []
    assert caplog.text.count("certificate_unusable") == 1, "once per state"
    write_pair(files.directory, "a", 500)
    shutil.copy(files.directory / "a.crt", files.directory / "AmazonRootCA1.pem")
    assert files.look() == [] and len(files.taken) == 1


def test_the_end_is_announced_once_per_state(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.now_s += 369 * DAY_S
    assert files.look() == []
    files.now_s += 2 * DAY_S
    assert files.look() == files.look() == [alarms.CERTIFICATE_EXPIRES]
    files.now_s += 30 * DAY_S
    assert files.look() == files.look() == [alarms.CERTIFICATE_EXPIRED] and files.watch.left_s() < 0
    assert [caplog.text.count(f"alarm {name}: ") for name in alarms.ALL[:2]] == [1, 1]
    write_pair(files.directory, "a", 800)
    assert files.look() == [] and "is over" not in caplog.text.split("certificate_expired: ")[0]


# --- a real bridge at the real gateway

class Running:
    """A bridge that reads from a broker, its publisher, and the cloud's registry."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud(directory)
        self.broker = Mosquitto(directory / "broker")
        self.bridge = BridgeProcess(directory, self.cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(self.broker.port))
        self.pi = Pi(self.broker.port)
        self.bridge.start()
        self.until_connected()

    def until_connected(self) -> None:
        until(lambda: self.bridge.status().get("connected", {}) == {"cloud": True, "mqtt": True}, "both connections")

    def make(self, count: int) -> None:
        for _ in range(count):
            self.pi.make()
        self.pi.flush()

    def second_certificate(self) -> Device:
        """One that the registry knows, and that is not where the bridge looks."""
        def register() -> Device:
            device = make_device(LocalCa(self.cloud.device.ca_path.parent), f"{THING}-2")
            certificate = self.cloud.rig.registry.add_certificate(device.pem)
            self.cloud.rig.registry.attach_thing(THING, certificate.arn)
            self.cloud.rig.registry.add_policy("second", ALLOW_ALL)
            self.cloud.rig.registry.attach_policy("second", certificate.arn)
            return device
        device: Device = self.cloud.call(register)
        return device

    def install(self, device: Device) -> None:
        shutil.copy(device.key_path, self.cloud.device.key_path)
        shutil.copy(device.certificate_path, self.cloud.device.certificate_path)

    def set_status(self, pem: str, status: str) -> None:
        self.cloud.call(lambda: self.cloud.rig.registry.set_status(certificate_id(pem), status))

    def close(self) -> None:
        self.pi.close()
        self.bridge.close()
        self.broker.close()
        self.cloud.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    yield one
    one.close()


@pytest.mark.needs("mosquitto")
def test_a_new_certificate_is_taken_up_under_way_and_nothing_is_lost_or_doubled(running: Running) -> None:
    pid = running.bridge.process.pid if running.bridge.process else 0
    running.make(50)
    second = running.second_certificate()
    running.install(second)
    deadline_s = time.monotonic() + 3 * CHECK_S
    while "it is taken up" not in running.bridge.log():
        assert time.monotonic() < deadline_s
        running.make(5)
        time.sleep(0.05)
    running.set_status(running.cloud.device.pem, "REVOKED")  # it is not needed any more
    running.make(50)
    until(lambda: running.cloud.seqs("pi") == list(range(1, running.pi.made + 1)), "every reading, in order")
    running.until_connected()
    assert (running.cloud.doubled, running.cloud.torn) == ([], [])
    assert running.bridge.process and running.bridge.process.pid == pid and running.bridge.process.poll() is None
    assert running.bridge.status()["alarms"] == {} and "resumed session" in running.bridge.log()


@pytest.mark.needs("mosquitto")
def test_a_revoked_certificate_buffers_alarms_once_and_a_good_one_recovers(running: Running) -> None:
    running.make(20)
    until(lambda: len(running.cloud.seqs("pi")) == 20, "the first readings")
    warning = f"WARNING edge_bridge.alarms: alarm {alarms.REFUSED}: "
    told = running.bridge.log().count(warning)  # a first attempt may have met a busy gateway
    running.set_status(running.cloud.device.pem, "INACTIVE")
    until(lambda: alarms.REFUSED in running.bridge.status()["alarms"], "the alarm")
    running.make(30)
    until(lambda: running.bridge.status()["committed"] == 50, "the readings on disk")
    assert sum(running.bridge.status()["waiting"].values()) == 30 and len(running.cloud.seqs("pi")) == 20
    assert running.bridge.log().count(warning) == told + 1
    running.install(running.second_certificate())
    until(lambda: running.cloud.seqs("pi") == list(range(1, 51)), "every reading", within_s=4 * CHECK_S)
    until(lambda: running.bridge.status()["alarms"] == {}, "the alarm to be over")
    assert running.cloud.doubled == [] and f"alarm {alarms.REFUSED} is over" in running.bridge.log()
