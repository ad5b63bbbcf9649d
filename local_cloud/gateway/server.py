"""The device gateway: devices reach it over mutual TLS, their messages leave it for subscribers and the rule engine.

Made by the local cloud with the registry that the template filled; `on_publish` is the rule engine's door.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import cast

from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Admission, Broker, OnPublish, Refused
from local_cloud.gateway.connection import Connection
from local_cloud.gateway.faults import LINK_BLACK_HOLE, LINK_CUT, LINK_UP, Counters, Faults
from local_cloud.gateway.lifecycle import Lifecycle
from local_cloud.gateway.limits import AWS_RULES, Limits, Rules
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.registry import ACTIVE, Registry
from local_cloud.gateway.rights import Rights
from local_cloud.gateway.shadows import Shadows, asked
from local_cloud.gateway.topics import is_topic_name, split_basic_ingest
from local_cloud.pki import LocalCa

LOG = logging.getLogger(__name__)
HANDSHAKE_TIMEOUT_S = 10
SHUTDOWN_TIMEOUT_S = 2


class Gateway:
    """IoT Core's MQTT endpoint on a port of this machine.

    `limits` may be changed in place or replaced at run time; `faults` is the switchboard; `counters` what happened.
    """

    def __init__(self, registry: Registry, limits: Limits, on_publish: OnPublish, ca: LocalCa,
                 faults: Faults | None = None, rules: Rules = AWS_RULES) -> None:
        self.registry = registry
        self.broker = Broker(rules, limits, self._admit, self._published, faults)
        self.shadows = Shadows(registry.things, partial(self._announce, qos=1),
                               lambda: self.limits.shadow_requests_per_s,
                               metered=lambda name, size_bytes: self.broker.metered("shadow", name, size_bytes))
        self.lifecycle = Lifecycle(self._announce)
        self.broker.came, self.broker.gone = self.lifecycle.came, self.lifecycle.gone
        self._on_publish = on_publish
        self._telling: set[asyncio.Future[None]] = set()
        self.port = 0
        self._ca = ca
        self._context: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._doors: set[_Door] = set()
        registry.watch(self._certificate_changed)
        self.faults.watch(self._link_changed)

    @property
    def limits(self) -> Limits:
        """The quotas in force."""
        return self.broker.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.broker.limits = limits

    @property
    def faults(self) -> Faults:
        """The fault switchboard."""
        return self.broker.faults

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self.broker.counters

    @property
    def retained(self) -> dict[str, Publish]:
        """Retained messages by topic."""
        return self.broker.retained

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port in use is returned and kept in `port`. OSError when the port is taken."""
        self._context = server_context(self._ca)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Door(self), host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        LOG.info("device gateway on %s:%d, CA %s", host, self.port, self._ca.certificate_path)
        return self.port

    async def close(self) -> None:
        """Tell the clients, then stop listening."""
        if self._server is None:
            return
        self._server.close()
        self.faults.clear()
        self.broker.shut(p.SERVER_SHUTTING_DOWN)
        for door in list(self._doors):
            door.drop()
        with contextlib.suppress(TimeoutError):  # a client that does not read is not waited for
            await asyncio.wait_for(self._server.wait_closed(), SHUTDOWN_TIMEOUT_S)
        self._server = None

    async def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False,
                      properties: p.Properties | None = None) -> None:
        """Publish from the cloud's side (iot-data, republish): to subscribers and, as on AWS, to the rule engine.

        Returns when the rule engine has taken it. ValueError for a topic or QoS that AWS would refuse.
        """
        rule_name, name = split_basic_ingest(topic)
        if not is_topic_name(topic) or (topic.startswith("$") and not rule_name and not asked(topic)):
            raise ValueError(f"cannot publish to topic {topic!r}: no wildcards and no reserved topics but $aws/rules/… "
                             "and a shadow's get, update and delete")
        if qos not in (0, 1):
            raise ValueError(f"cannot publish with QoS {qos}: 0 or 1 expected")
        result = self.broker.accept(Publish(name, payload, qos, retain, rule_name=rule_name,
                                            properties=dict(properties or {})))
        if result is not None:
            await result

    def _published(self, message: Publish) -> Awaitable[None] | None:
        """Every accepted message: to the rule engine, and what asks for a shadow to the shadows."""
        result = self._on_publish(message)
        if message.rule_name is None and (request := asked(message.topic)):
            self.shadows.answer(request, message.payload)
        return result

    def _announce(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """A lifecycle event or what a shadow answers, to subscribers and the rule engine; it is nobody's publish."""
        message = Publish(topic, payload, qos)
        self.broker.route(message)
        self._keep(self._on_publish(message))

    def _keep(self, result: Awaitable[None] | None) -> None:
        if result is not None:
            future = asyncio.ensure_future(result)
            self._telling.add(future)
            future.add_done_callback(self._told)

    def _told(self, future: asyncio.Future[None]) -> None:
        self._telling.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            LOG.error("handling a message of AWS IoT's own failed", exc_info=error)
            self.counters.failed += 1

    def disconnect(self, client_id: str) -> bool:
        """End a client's connection by administrative action; False when it has none."""
        session = self.broker.sessions.get(client_id)
        if session is None or session.connection is None:
            return False
        session.connection.disconnect(p.ADMINISTRATIVE_ACTION, "disconnected by administrative action")
        return True

    def _admit(self, connection: Connection, connect: p.Connect) -> Admission:
        identity = connection.principal or ""
        certificate = self.registry.certificates.get(identity)
        if certificate is None or certificate.status != ACTIVE:
            raise Refused(p.NOT_AUTHORIZED, f"certificate {identity} is not active")
        rights = Rights(self.registry, certificate, connect, connection.source_ip)
        if not rights.allow("Connect", connect.client_id):
            raise Refused(p.NOT_AUTHORIZED, f"no policy of certificate {identity[:12]}… lets client id "
                                            f"{connect.client_id!r} connect")
        return Admission(identity, rights.allow)

    def _certificate_changed(self, identity: str) -> None:
        certificate = self.registry.certificates.get(identity)
        if certificate is not None and certificate.status == ACTIVE:
            return
        for connection in list(self.broker.connections):
            if connection.principal == identity:
                connection.disconnect(p.ADMINISTRATIVE_ACTION, f"certificate {identity} is no longer active")

    def _link_changed(self) -> None:
        for door in list(self._doors):
            door.follow_link()

    async def _welcome(self, door: _Door, transport: asyncio.Transport) -> None:
        """TLS handshake, then the certificate against the registry, then MQTT."""
        loop, connection = asyncio.get_running_loop(), Connection(self.broker)
        try:
            secure = await loop.start_tls(transport, connection, cast(ssl.SSLContext, self._context), server_side=True,
                                          ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                                          ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self.counters.refused += 1
            level = logging.DEBUG if isinstance(error, ConnectionError) else logging.WARNING  # a mere port probe
            LOG.log(level, "TLS handshake with %s failed: %s", door.source_ip, error or type(error).__name__)
            transport.abort()
            return
        finally:
            self._doors.discard(door)
        if secure is None or secure.is_closing():
            return
        self._enter(connection, secure)

    def _enter(self, connection: Connection, secure: asyncio.Transport) -> None:
        der = secure.get_extra_info("ssl_object").getpeercert(binary_form=True)
        connection.principal = identity = hashlib.sha256(der).hexdigest()
        certificate = self.registry.certificates.get(identity)
        if certificate is None or certificate.status != ACTIVE:
            self.counters.refused += 1
            state = certificate.status if certificate else "not registered"
            LOG.warning("refused certificate %s: %s", identity, state)
            connection.closed = True
            secure.abort()
            return
        connection.connection_made(secure)
        if self.faults.link != LINK_UP:
            connection.follow_link(self.faults.link)


class _Door(asyncio.Protocol):
    """A TCP connection before TLS: the place where a failing link shows."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None
        self.source_ip = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted: nothing is read before TLS takes the socket over."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self.source_ip = (transport.get_extra_info("peername") or ("",))[0]
        self._gateway._doors.add(self)
        self.follow_link()

    def follow_link(self) -> None:
        """Go on, wait or drop, as the link's state says."""
        link = self._gateway.faults.link
        if link == LINK_CUT:
            self._gateway.counters.refused += 1
            self.drop()
        elif link != LINK_BLACK_HOLE and self._handshake is None and self._transport is not None:
            self._handshake = asyncio.ensure_future(self._gateway._welcome(self, self._transport))

    def drop(self) -> None:
        """Close the socket without a word."""
        self._gateway._doors.discard(self)
        if self._transport is not None:
            self._transport.abort()


def server_context(ca: LocalCa) -> ssl.SSLContext:
    """TLS 1.2 and up with the CA's server certificate; a client certificate of that CA is required."""
    certificate_path, key_path = ca.server_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_path, key_path)
    context.load_verify_locations(Path(ca.certificate_path))
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["x-amzn-mqtt-ca", "mqtt"])
    return context
