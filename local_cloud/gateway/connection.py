"""One client's connection: bytes from its socket become packets, packets become calls on the broker, and back.

An asyncio protocol without a task of its own; `handshake`, `inbound`, `outbound` and `subscribing` do the work of each
kind of packet, this file the transport: flow, throughput, keep-alive, the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from local_cloud.gateway import handshake, subscribing
from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Authorize, Broker
from local_cloud.gateway.codec import LARGEST_PACKET_BYTES, Parser, encode
from local_cloud.gateway.faults import LINK_BLACK_HOLE, LINK_CUT
from local_cloud.gateway.inbound import Inbound
from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.outbound import Outbound
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5, MalformedPacket, Packet
from local_cloud.gateway.session import Session

LOG = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 10
KEEP_ALIVE_GRACE = 1.5


def nothing_allowed(action: str, topic: str) -> bool:
    """The rights of a connection that has not been admitted."""
    return False


class Connection(asyncio.Protocol):
    """From accept to close; `certificate_der` is the client's certificate, set by the door when there is TLS."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.parser = Parser()
        self.version = MQTT_3_1_1
        self.client_id = ""
        self.source_ip = ""
        self.certificate_der: bytes | None = None
        self.principal: str | None = None
        self.authorize: Authorize = nothing_allowed
        self.session: Session | None = None
        self.will: p.Will | None = None
        self.reason_strings = True
        self.closed = False
        self.ended_by: int | None = None  # reason code of the DISCONNECT; SUCCESS: the client's own; None: none
        self.write_paused = False
        self.inbound = Inbound(self)
        self.outbound = Outbound(self)
        self._bytes = TokenBucket(self.loop.time())
        self._pauses: set[str] = set()
        self._out: list[bytes] = []
        self._held = False
        self._heard_at_s = self.loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket (or, over TLS, the handshake) is ready."""
        self.transport = cast(asyncio.Transport, transport)
        self.source_ip = (transport.get_extra_info("peername") or ("",))[0]
        self.broker.connections.add(self)
        self.broker.counters.connections += 1
        self.later("connect", CONNECT_TIMEOUT_S, self.abort)
        if self._pauses:
            self.transport.pause_reading()
        self._process()

    def data_received(self, data: bytes) -> None:
        """Bytes; over TLS the first may come before `connection_made`."""
        self.broker.counters.bytes_in += len(data)
        self._heard_at_s = self.loop.time()
        self.parser.max_packet_bytes = self.broker.limits.packet_bytes or LARGEST_PACKET_BYTES
        self.parser.push(data)
        if wait_s := self.spend_bytes(len(data)):
            self.broker.counters.delayed += 1
            self.pause("rate")
            self.later("rate", wait_s, lambda: self.resume("rate"))
        self._process()

    def eof_received(self) -> bool:
        """The client closed its side: so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, by us or by them."""
        self.leave(str(exc) if exc else "connection closed by the client")

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """It caught up."""
        self.write_paused = False
        self.deliver()

    def pause(self, why: str) -> None:
        """Stop reading for one more reason."""
        if not self._pauses and self.transport and not self.closed:
            self.transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """A reason is gone; with the last one reading goes on, with what was already here first."""
        if why not in self._pauses:
            return
        self._pauses.discard(why)
        if not self._pauses and self.transport and not self.closed:
            self._heard_at_s = self.loop.time()
            self.transport.resume_reading()
            self._process()

    def later(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Call once, in place of an earlier timer of that name, unless the connection is gone by then."""
        self.cancel(name)
        self._timers[name] = self.loop.call_later(delay_s, call)

    def cancel(self, name: str) -> None:
        """Forget the timer of that name, if there is one."""
        if name in self._timers:
            self._timers.pop(name).cancel()

    def spend_bytes(self, size_bytes: int) -> float:
        """Count throughput of either direction; seconds to wait before more."""
        limits = [rate for rate in (self.broker.limits.bytes_per_s, self.broker.faults.bytes_per_s) if rate]
        return self._bytes.spend(size_bytes, min(limits) if limits else None, self.loop.time())

    # Packets

    def _process(self) -> None:
        if self.transport is None:
            return
        try:
            while not self._pauses and not self.closed:
                packet = self.parser.next_packet()
                if packet is None:
                    return
                self._handle(packet)
        except MalformedPacket as error:
            self.broker.counters.malformed += 1
            self.disconnect(error.reason_code, str(error))

    def _handle(self, packet: Packet) -> None:
        kind = type(packet)
        if self.session is None:
            if not isinstance(packet, p.Connect):
                raise MalformedPacket(f"{kind.__name__} before CONNECT")
            handshake.greet(self, packet)
        elif kind is p.Publish:
            self.inbound.publish(cast(p.Publish, packet))
        elif kind is p.Ack:
            self._on_ack(cast(p.Ack, packet))
        elif kind is p.Pingreq:
            self.send(p.Pingresp())
        elif kind is p.Subscribe:
            subscribing.subscribe(self, cast(p.Subscribe, packet))
        elif kind is p.Unsubscribe:
            subscribing.unsubscribe(self, cast(p.Unsubscribe, packet))
        elif kind is p.Disconnect:
            self._on_disconnect(cast(p.Disconnect, packet))
        else:
            self.disconnect(p.PROTOCOL_ERROR, f"{kind.__name__} is not for a client to send now")

    def _on_ack(self, packet: p.Ack) -> None:
        if packet.kind != p.PUBACK:
            self.disconnect(p.PROTOCOL_ERROR, "PUBREC, PUBREL and PUBCOMP belong to QoS 2, which is not offered")
            return
        self.outbound.acknowledged(packet.packet_id)

    def _on_disconnect(self, packet: p.Disconnect) -> None:
        session = cast(Session, self.session)
        wanted_s = packet.properties.get("session_expiry_interval")
        if wanted_s is not None:
            if session.expiry_s == 0 and wanted_s:
                self.disconnect(p.PROTOCOL_ERROR, "a session that was to end with its connection cannot be kept")
                return
            session.expiry_s = self.broker.capped_expiry_s(wanted_s)
        if packet.reason_code != p.DISCONNECT_WITH_WILL:
            self.will = None
        self.ended_by = p.SUCCESS
        self.leave("client disconnected")
        self.close()

    def send(self, packet: Packet) -> None:
        """Write a packet, together with what else this turn of the loop writes."""
        self.send_bytes(encode(packet, self.version))

    def send_bytes(self, data: bytes) -> None:
        """Write a packet's bytes."""
        if not self._out and not self._held:
            self.loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if not self._out or self._held or self.transport is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        if not self.transport.is_closing():
            self.broker.counters.bytes_out += len(data)
            self.spend_bytes(len(data))
            self.transport.write(data)

    def deliver(self) -> None:
        """Send what the session holds for this client, as far as limits go."""
        if self.session is not None and not self.closed and not self._held:
            self.outbound.drain(self.session)

    def watch_keep_alive(self, keep_alive_s: float) -> None:
        """Disconnect when nothing is heard for 1.5 times that long."""
        deadline_s = keep_alive_s * KEEP_ALIVE_GRACE
        silent_s = 0.0 if self._pauses - {"link"} else self.loop.time() - self._heard_at_s
        if silent_s >= deadline_s:
            self.disconnect(p.KEEP_ALIVE_TIMEOUT, f"nothing heard for {silent_s:.0f} s")
        else:
            self.later("keep-alive", deadline_s - silent_s, lambda: self.watch_keep_alive(keep_alive_s))

    # The end

    def follow_link(self, link: str) -> None:
        """The fault switchboard changed the link's state."""
        if link == LINK_CUT:
            self.abort()
        elif link == LINK_BLACK_HOLE:
            self._held = True
            self.pause("link")
        elif self._held:
            self._held = False
            if self.closed:  # ended while nothing could be said: the other side learns it now
                self.abort()
                return
            if self._out:
                self.loop.call_soon(self._flush)
            self.resume("link")
            self.deliver()

    def disconnect(self, reason_code: int, text: str = "") -> None:
        """End it from this side; MQTT 5 is told the reason."""
        if self.closed:
            return
        if text:
            LOG.info("disconnecting client %r of %s: 0x%02X %s", self.client_id, self.source_ip, reason_code, text)
        if self.version == MQTT_5 and self.session is not None:
            self.send(p.Disconnect(reason_code, p.reason(text) if self.reason_strings else {}))
        self.ended_by = reason_code
        self.leave(text)
        self.close()

    def close(self) -> None:
        """Send what is waiting, then close; through a black hole nothing goes before it is restored."""
        if self._held:
            return
        self._flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection as a failing network does."""
        self.leave("connection dropped")
        self.broker.connections.discard(self)
        self._out.clear()
        if self.transport is not None:
            self.transport.abort()

    def leave(self, text: str) -> None:
        """Let go of the session, once; publishes the will unless the client took its leave."""
        if self.closed:
            return
        self.closed = True
        for timer in self._timers.values():
            timer.cancel()
        if self in self.broker.connections:
            self.broker.counters.connections -= 1
            if not self._held:
                self.broker.connections.discard(self)
        session, self.session = self.session, None
        if session is not None:
            LOG.debug("client %r left: %s", self.client_id, text)
            if self.will is not None:
                self.inbound.publish_will(self.will)
            self.broker.release_session(session)
            self.broker.gone(self)
