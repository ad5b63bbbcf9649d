"""How devices get in: TCP, where a failing link shows, then TLS, then the certificate against the registry.

The gateway opens it on a port; a connection whose certificate is active goes on as MQTT (connection.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
from pathlib import Path
from typing import cast

from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Broker
from local_cloud.gateway.connection import Connection
from local_cloud.gateway.faults import LINK_BLACK_HOLE, LINK_CUT, LINK_UP
from local_cloud.gateway.registry import Registry
from local_cloud.pki import LocalCa

LOG = logging.getLogger(__name__)
HANDSHAKE_TIMEOUT_S = 10
SHUTDOWN_TIMEOUT_S = 2


class Entrance:
    """One listening port; who comes in with an active certificate of the CA becomes a connection of the broker."""

    def __init__(self, broker: Broker, registry: Registry, ca: LocalCa) -> None:
        self._broker, self._registry, self._ca = broker, registry, ca
        self._context: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._doors: set[_Door] = set()
        broker.faults.watch(self._link_changed)

    async def open(self, host: str, port: int) -> int:
        """Listen; the port in use is returned. OSError when the port is taken."""
        self._context = _server_context(self._ca)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Door(self), host, port)
        port = self._server.sockets[0].getsockname()[1]
        LOG.info("device gateway on %s:%d, CA %s", host, port, self._ca.certificate_path)
        return port

    async def close(self) -> None:
        """Tell the clients, then stop listening."""
        if self._server is None:
            return
        self._server.close()
        self._broker.faults.clear()
        self._broker.shut(p.SERVER_SHUTTING_DOWN)
        for door in list(self._doors):
            door.drop()
        with contextlib.suppress(TimeoutError):  # a client that does not read is not waited for
            await asyncio.wait_for(self._server.wait_closed(), SHUTDOWN_TIMEOUT_S)
        self._server = None

    def _link_changed(self) -> None:
        for door in list(self._doors):
            door.follow_link(self._broker.faults.link)

    def came(self, door: _Door) -> None:
        """A TCP connection was accepted."""
        self._doors.add(door)
        door.follow_link(self._broker.faults.link)

    def left(self, door: _Door, refused: bool = False) -> None:
        """It is no TCP connection before TLS any more."""
        self._doors.discard(door)
        self._broker.counters.refused += refused

    async def welcome(self, door: _Door, transport: asyncio.Transport) -> None:
        """TLS handshake, then the certificate against the registry, then MQTT."""
        loop, connection = asyncio.get_running_loop(), Connection(self._broker)
        try:
            secure = await loop.start_tls(transport, connection, cast(ssl.SSLContext, self._context), server_side=True,
                                          ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                                          ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self._broker.counters.refused += 1
            level = logging.DEBUG if isinstance(error, ConnectionError) else logging.WARNING  # a mere port probe
            LOG.log(level, "TLS handshake with %s failed: %s", door.source_ip, error or type(error).__name__)
            transport.abort()
            return
        finally:
            self.left(door)
        if secure is None or secure.is_closing():
            return
        self._enter(connection, secure)

    def _enter(self, connection: Connection, secure: asyncio.Transport) -> None:
        der = secure.get_extra_info("ssl_object").getpeercert(binary_form=True)
        connection.principal = identity = hashlib.sha256(der).hexdigest()
        if self._registry.active(identity) is None:
            self._broker.counters.refused += 1
            certificate = self._registry.certificates.get(identity)
            LOG.warning("refused certificate %s: %s", identity, certificate.status if certificate else "not registered")
            connection.closed = True
            secure.abort()
            return
        connection.connection_made(secure)
        link = self._broker.faults.link
        if link != LINK_UP:
            connection.follow_link(link)


class _Door(asyncio.Protocol):
    """A TCP connection before TLS: the place where a failing link shows."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None
        self.source_ip = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted: nothing is read before TLS takes the socket over."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self.source_ip = (transport.get_extra_info("peername") or ("",))[0]
        self._entrance.came(self)

    def follow_link(self, link: str) -> None:
        """Go on, wait or drop, as the link's state says."""
        if link == LINK_CUT:
            self.drop(refused=True)
        elif link != LINK_BLACK_HOLE and self._handshake is None and self._transport is not None:
            self._handshake = asyncio.ensure_future(self._entrance.welcome(self, self._transport))

    def drop(self, refused: bool = False) -> None:
        """Close the socket without a word."""
        self._entrance.left(self, refused)
        if self._transport is not None:
            self._transport.abort()


def _server_context(ca: LocalCa) -> ssl.SSLContext:
    """TLS 1.2 and up with the CA's server certificate; a client certificate of that CA is required."""
    certificate_path, key_path = ca.server_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_path, key_path)
    context.load_verify_locations(Path(ca.certificate_path))
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["x-amzn-mqtt-ca", "mqtt"])
    return context
