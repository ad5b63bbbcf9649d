"""What the doctor's tests share: a whole site that is well (broker, Kafka, cloud), to be broken part by part."""
import datetime
import email.utils
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from contract import topics
from edge_bridge import doctor
from edge_bridge.doctor_case import FAULT, Case, Finding
from edge_bridge.volume import Mount
from tests.bridge_rig import DEADLINE_S, THING, Cloud, Mosquitto
from tests.gateway_rig import Device

LOCAL_DISK = [Mount("/", "ext4", "/dev/sda1")]


class Site:
    """A broker, a Kafka cluster and a cloud; `environment` are the settings of a bridge for which all is well."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cloud = Cloud(directory)
        self.broker = Mosquitto(directory / "broker")
        self._cluster = Producer({"test.mock.num.brokers": 1, "log_level": 3})
        self.kafka_port = next(iter(self._cluster.list_topics(timeout=10).brokers.values())).port
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{self.kafka_port}"})
        producer.produce(topics.EDGE_DATA, json.dumps({"timestamp": 1795332240, "persons_detected": 5}).encode())
        assert producer.flush(DEADLINE_S) == 0
        self.environment = {
            "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(self.broker.port),
            "BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka_port}", "THING": THING, "IOT_ENDPOINT": "localhost",
            "IOT_PORT": str(self.cloud.port), **identity(self.cloud.device), "RETENTION_BYTES": "1M",
            "OUTBOX": str(directory / "outbox.db"), "METRICS_PORT": ""}

    def device(self, name: str, *actions: str) -> dict[str, str]:
        """Settings of a thing of that name, whose policy allows these actions on everything."""
        policy = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": [f"iot:{action}" for action in actions], "Resource": "*"}]}
        return {"THING": name, **identity(self.cloud.call(lambda: self.cloud.rig.device(name, policy)))}

    def examine(self, changes: dict[str, str], **case: Any) -> dict[str, Finding]:
        """Every finding by its check, of a bridge with these settings changed."""
        options = {"version": "1.2.3", "timeout_s": DEADLINE_S, "watch_s": 0.1, "mounts": LOCAL_DISK, **case}
        return {found.check: found for found in doctor.examine(Case.of({**self.environment, **changes}, **options))}

    def close(self) -> None:
        self.broker.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    one = Site(tmp_path_factory.mktemp("site"))
    yield one
    one.close()


def identity(device: Device) -> dict[str, str]:
    """The settings that name a device's files."""
    return {"ROOT_CA": str(device.ca_path), "CERTIFICATE": str(device.certificate_path),
            "PRIVATE_KEY": str(device.key_path)}


def faults(found: dict[str, Finding]) -> set[str]:
    """The checks that found one; each says what is wrong and what to do."""
    wrong = {name for name, finding in found.items() if finding.state == FAULT}
    assert all(found[name].found and found[name].fix for name in wrong)
    return wrong


class Other(Mosquitto):
    """A LAN broker with further lines in its configuration."""

    def __init__(self, directory: Path, *lines: str) -> None:
        self._lines = lines
        super().__init__(directory)

    def start(self) -> None:
        kept = [line for line in self._conf.read_text().splitlines()
                if line.split()[0] not in {added.split()[0] for added in self._lines}]
        self._conf.write_text("\n".join([*kept, *self._lines]) + "\n")
        super().start()


def running_bridge(directory: Path, **status: Any) -> dict[str, str]:
    """Settings of a bridge that has this status, as it writes it. The caller holds the outbox's lock."""
    whole = {"v": 1, "thing": THING, "version": "1.2.3", "at": int(time.time() * 1000),
             "connected": {"cloud": True, "mqtt": True, "kafka": True}, "sent": 100, "delivered": 90, "publishes": 5,
             "not_accepted": 0, "connects": 1, "receipts_overdue": 0, "oldest_unsent_s": 0.5, "stalled_s": 0.1,
             "alarms": {}, **status}
    (directory / "status.json").write_text(json.dumps(whole))
    return {"OUTBOX": str(directory / "outbox.db"), "STATUS_FILE": str(directory / "status.json")}


def write_certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """(certificate, key) of a server of these names; it signed itself, and is its own root."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), begin, begin + datetime.timedelta(days=30),
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True,
    ).add_extension(usage, critical=True,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False,
    ).sign(key, hashes.SHA256())
    files = directory / f"{names[0]}.crt", directory / f"{names[0]}.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@contextmanager
def server(serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on a free port that hands each connection to `serve`, in a thread of its own; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(plain: socket.socket) -> None:
        with suppress(OSError), plain:  # a client that breaks off is what some of the tests are about
            serve(tls.wrap_socket(plain, server_side=True) if tls else plain)

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def tls_context(directory: Path, *names: str) -> ssl.SSLContext:
    """A server's context whose certificate is for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(directory, *names))
    return context


def https_date(ahead_s: float) -> Callable[[socket.socket], None]:
    """Answers one HTTP request as AWS IoT does, by a clock that is ahead of ours."""
    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            date = email.utils.formatdate(time.time() + ahead_s, usegmt=True)
            connection.sendall(f"HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
    return serve


def kafka_elsewhere(kafka_port: int, advertised_port: int) -> Callable[[socket.socket], None]:
    """Forwards to a Kafka cluster, and writes another port where the cluster names its own."""
    own, other = (b"127.0.0.1" + struct.pack(">i", port) for port in (kafka_port, advertised_port))

    def serve(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", kafka_port)) as upstream:
            threading.Thread(target=_copy, args=(connection, upstream), daemon=True).start()
            while answer := upstream.recv(65536):
                connection.sendall(answer.replace(own, other))
    return serve


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # either side has gone
        while data := source.recv(65536):
            target.sendall(data)
