"""What the gateway's tests share: devices with real certificates, a running gateway, and three kinds of MQTT client.

`RawClient` speaks through our codec and sees every packet; paho and the AWS IoT SDK prove that real clients agree.
"""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from awscrt import mqtt5
from awsiot import mqtt5_client_builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from local_cloud.gateway import Gateway, Limits, Publish, Registry
from local_cloud.gateway import packets as p
from local_cloud.gateway.codec import Parser, encode
from local_cloud.gateway.packets import MQTT_5
from local_cloud.pki import LocalCa

DEADLINE_S = 30
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on its own event loop, with a deadline."""
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def with_deadline() -> None:
            await asyncio.wait_for(test(*args, **kwargs), 3 * DEADLINE_S)
        asyncio.run(with_deadline())
    return run


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds."""
    deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s, f"waited {DEADLINE_S} s for {what}"
        await asyncio.sleep(0.005)


def make_csr(key: PrivateKey, name: str = "device") -> str:
    """A certificate signing request for the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(
        key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@dataclass
class Device:
    """A certificate's files, and the file that tells whom to trust."""

    certificate_path: Path
    key_path: Path
    ca_path: Path
    pem: str

    def context(self) -> ssl.SSLContext:
        """TLS as a device does it."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        context.load_cert_chain(self.certificate_path, self.key_path)
        return context


def make_device(ca: LocalCa, name: str, key: PrivateKey | None = None) -> Device:
    """A device with a certificate of that CA, unknown to any registry."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    pem = ca.sign_csr(make_csr(key, name))
    device = Device(ca.directory / f"{name}.crt", ca.directory / f"{name}.key", ca.certificate_path, pem)
    device.certificate_path.write_text(pem)
    device.key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return device


@dataclass
class Rig:
    """A running gateway; `received` is what the rule engine was given, `lifecycle` what AWS IoT itself told it."""

    gateway: Gateway
    registry: Registry
    ca: LocalCa
    received: list[Publish]
    lifecycle: list[Publish]

    @property
    def port(self) -> int:
        return self.gateway.port

    def device(self, name: str, policy: Any = ALLOW_ALL, key: PrivateKey | None = None) -> Device:
        """A registered, active device with a thing of its name and that policy."""
        device = make_device(self.ca, name, key)
        certificate = self.registry.add_certificate(device.pem)
        self.registry.add_thing(name)
        self.registry.attach_thing(name, certificate.arn)
        self.registry.add_policy(f"policy-{name}", policy)
        self.registry.attach_policy(f"policy-{name}", certificate.arn)
        return device

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.received]


@asynccontextmanager
async def running(ca: LocalCa, limits: Limits | None = None,
                  on_publish: Callable[[Publish], Awaitable[None] | None] | None = None) -> AsyncIterator[Rig]:
    """A gateway on a free port, without quotas unless given, that notes what the rule engine would get."""
    received: list[Publish] = []
    lifecycle: list[Publish] = []

    def note(message: Publish) -> Awaitable[None] | None:
        if message.topic.startswith("$aws/events/"):
            lifecycle.append(message)
            return None
        received.append(message)
        return on_publish(message) if on_publish else None

    registry = Registry()
    gateway = Gateway(registry, limits or Limits.lifted(), note, ca)
    await gateway.start("127.0.0.1", 0)
    try:
        yield Rig(gateway, registry, ca, received, lifecycle)
    finally:
        await gateway.close()


class RawClient:
    """An MQTT client that sends the packets it is told and hands out every packet it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = Parser(version=version)
        self.version = version
        self.connack: p.Connack | None = None

    @classmethod
    async def open(cls, port: int, device: Device | None, version: int = MQTT_5) -> "RawClient":
        """TCP, and TLS with a device's certificate."""
        context = device.context() if device else None
        name = "localhost" if device else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        return cls(reader, writer, version)

    @classmethod
    async def connect(cls, port: int, device: Device | None, client_id: str, version: int = MQTT_5,
                      **connect: Any) -> "RawClient":
        """An accepted connection."""
        client = await cls.open(port, device, version)
        connack = await client.greet(p.Connect(client_id, version, **connect))
        assert connack.reason_code == 0, f"CONNACK {connack}"
        return client

    async def greet(self, connect: p.Connect) -> p.Connack:
        """CONNECT and its answer."""
        self.send(connect)
        packet = await self.receive()
        assert isinstance(packet, p.Connack), packet
        self.connack = packet
        return packet

    def send(self, *packets: p.Packet) -> None:
        self._writer.write(b"".join(encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> p.Packet:
        """The next packet; ConnectionError when the other side closes."""
        while (packet := self._parser.next_packet()) is None:
            data = await asyncio.wait_for(self._reader.read(65_536), DEADLINE_S)
            if not data:
                raise ConnectionResetError("closed by the gateway")
            self._parser.push(data)
        return packet

    async def publish(self, topic: str, payload: bytes = b"x", packet_id: int = 1, **fields: Any) -> p.Ack:
        """PUBLISH with QoS 1 and its PUBACK."""
        self.send(p.Publish(topic, payload, 1, packet_id=packet_id, **fields))
        packet = await self.receive()
        assert isinstance(packet, p.Ack) and packet.packet_id == packet_id, packet
        return packet

    async def subscribe(self, *filters: str, qos: int = 1, **options: Any) -> list[int]:
        """SUBSCRIBE and the SUBACK's codes."""
        self.send(p.Subscribe(1, [p.Subscription(one, qos, **options) for one in filters]))
        packet = await self.receive()
        assert isinstance(packet, p.Suback), packet
        return packet.reason_codes

    async def message(self, acknowledge: bool = True) -> p.Publish:
        """The next message, acknowledged."""
        packet = await self.receive()
        assert isinstance(packet, p.Publish), packet
        if packet.qos and acknowledge:
            self.send(p.Ack(p.PUBACK, packet.packet_id))
        return packet

    async def disconnected(self) -> int | None:
        """The DISCONNECT's reason code, None when the socket just closes; anything else is an error."""
        try:
            packet = await self.receive()
            assert isinstance(packet, p.Disconnect), packet
            code = packet.reason_code
            with_eof = await asyncio.wait_for(self._reader.read(1), DEADLINE_S)
            assert with_eof == b""
            return code
        except (ConnectionError, ssl.SSLError):
            return None

    async def quiet(self) -> None:
        """Nothing was sent before the answer to a PINGREQ."""
        self.send(p.Pingreq())
        packet = await self.receive()
        assert isinstance(packet, p.Pingresp), packet

    def end(self) -> None:
        """Close the sending side after what was sent."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def drained(self) -> None:
        """Read until the other side closes."""
        try:
            while await asyncio.wait_for(self._reader.read(65_536), DEADLINE_S):
                pass
        except ConnectionError:
            return

    def close(self) -> None:
        """Drop the connection without a DISCONNECT."""
        self._writer.transport.abort()


class AwsClient:
    """The AWS IoT Device SDK's MQTT 5 client, its futures on our loop."""

    def __init__(self, port: int, device: Device, client_id: str, **options: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self.connected: asyncio.Queue[Any] = asyncio.Queue()
        self.failed: asyncio.Queue[Any] = asyncio.Queue()
        self.disconnected: asyncio.Queue[Any] = asyncio.Queue()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.stopped: asyncio.Queue[Any] = asyncio.Queue()
        options.setdefault("extended_validation_and_flow_control_options",
                           mqtt5.ExtendedValidationAndFlowControlOptions.NONE)
        self.client = mqtt5_client_builder.mtls_from_path(
            str(device.certificate_path), str(device.key_path), endpoint="localhost", port=port,
            ca_filepath=str(device.ca_path), client_id=client_id, min_reconnect_delay_ms=20, max_reconnect_delay_ms=100,
            on_lifecycle_connection_success=self._put(self.connected),
            on_lifecycle_connection_failure=self._put(self.failed),
            on_lifecycle_disconnection=self._put(self.disconnected),
            on_lifecycle_stopped=self._put(self.stopped), on_publish_received=self._put(self.messages), **options)
        self.client.start()

    def _put(self, queue: asyncio.Queue[Any]) -> Callable[[Any], None]:
        return lambda data: self._loop.call_soon_threadsafe(queue.put_nowait, data)

    @staticmethod
    async def next(queue: asyncio.Queue[Any]) -> Any:
        return await asyncio.wait_for(queue.get(), DEADLINE_S)

    def send(self, topic: str, payload: bytes = b"x") -> "asyncio.Future[Any]":
        """Publish with QoS 1."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        return asyncio.wrap_future(self.client.publish(packet))

    async def publish(self, topic: str, payload: bytes = b"x") -> int:
        """The PUBACK's reason code."""
        return int((await asyncio.wait_for(self.send(topic, payload), DEADLINE_S)).puback.reason_code)

    async def subscribe(self, topic_filter: str) -> list[int]:
        wanted = mqtt5.SubscribePacket([mqtt5.Subscription(topic_filter, mqtt5.QoS.AT_LEAST_ONCE)])
        future = asyncio.wrap_future(self.client.subscribe(wanted))
        return [int(code) for code in (await asyncio.wait_for(future, DEADLINE_S)).reason_codes]

    async def stop(self) -> None:
        """Disconnect, and wait for the last callback."""
        self.client.stop()
        await self.next(self.stopped)


class PahoClient:
    """paho-mqtt 2, in its own thread; `messages` and `codes` fill as they come."""

    def __init__(self, port: int, device: Device | None, client_id: str, version: int = MQTT_5, *,
                 login: tuple[str, str] | None = None, clean: bool = True) -> None:
        options: dict[str, Any] = {} if version == MQTT_5 else {"clean_session": clean}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id,
                                  protocol=paho.MQTTProtocolVersion(version), **options)
        self.messages: list[tuple[str, bytes, bool]] = []
        self.codes: list[str] = []
        self.acknowledged: list[int] = []
        self.subscribed: list[list[str]] = []
        self.gone: list[str] = []
        if device:
            self.client.tls_set(str(device.ca_path), str(device.certificate_path), str(device.key_path))
        if login:
            self.client.username_pw_set(*login)
        self.client.on_connect = lambda c, u, flags, code, props: self.codes.append(str(code))
        self.client.on_disconnect = lambda c, u, flags, code, props: self.gone.append(str(code))
        self.client.on_message = lambda c, u, m: self.messages.append((m.topic, m.payload, bool(m.retain)))
        self.client.on_publish = lambda c, u, mid, code, props: self.acknowledged.append(mid)
        self.client.on_subscribe = lambda c, u, mid, codes, props: self.subscribed.append([str(one) for one in codes])
        self.client.connect_async("localhost", port)
        self.client.loop_start()

    async def ready(self) -> "PahoClient":
        await until(lambda: bool(self.codes), "a CONNACK")
        return self

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
