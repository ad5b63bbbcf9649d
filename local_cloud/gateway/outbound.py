"""A session's queue on its way to the client: in order, inside the client's window and the connection's limits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from local_cloud.gateway import packets as p
from local_cloud.gateway.codec import encode
from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.packets import MQTT_5, Properties
from local_cloud.gateway.session import LAST_PACKET_ID, Delivery, Session

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)


class Outbound:
    """What one connection is sent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._receive_maximum = 1
        self._packet_bytes: int | None = None
        self._stored_rate = TokenBucket(connection.loop.time())

    def open(self, receive_maximum: int, packet_bytes: int | None) -> None:
        """The client's own limits, from its CONNECT."""
        self._receive_maximum = min(receive_maximum, LAST_PACKET_ID - 1)
        self._packet_bytes = packet_bytes

    def acknowledged(self, packet_id: int) -> None:
        """A PUBACK came."""
        session = self.connection.session
        if session is None:
            return
        delivery = session.in_flight.get(packet_id)
        if session.acknowledge(packet_id) and delivery is not None:
            self.connection.broker.metered("message", delivery.message.topic, 0)
            self.connection.broker.changes += 1
            self.drain(session)

    def drain(self, session: Session) -> None:
        """Send from the head of the queue until it is empty or a limit says wait."""
        connection = self.connection
        limit = connection.broker.limits.unacked_outbound
        window = self._receive_maximum if limit is None else min(limit, self._receive_maximum)
        while session.queue and not connection.write_paused and not connection.closed:
            delivery = session.queue[0]
            if delivery.qos and len(session.in_flight) >= window:
                return
            if self._drops(delivery):
                session.forget(session.queue.popleft())
                session.stored = max(0, session.stored - 1)
                continue
            wait_s = self._wait_s(session)
            if wait_s and not delivery.qos and not session.stored:
                connection.broker.counters.discarded += 1
                session.queue.popleft()
                continue
            if wait_s:
                connection.broker.counters.delayed += 1
                connection.later("drain", wait_s, connection.deliver)
                return
            self._send(session, session.queue.popleft())

    def _drops(self, delivery: Delivery) -> bool:
        connection, message = self.connection, delivery.message
        if message.expires_at_s is not None and message.expires_at_s <= connection.loop.time():
            return True
        if not connection.authorize("Receive", message.topic):
            connection.broker.counters.denied += 1
            LOG.debug("no policy lets client %r receive %r", connection.client_id, message.topic)
            return True
        return False

    def _wait_s(self, session: Session) -> float:
        """Seconds until the head of the queue may go; takes its share of the rates when that is now."""
        connection = self.connection
        limits, now_s = connection.broker.limits, connection.loop.time()
        wait_s = connection.spend_bytes(0)
        if session.stored:
            wait_s = max(wait_s, self._stored_rate.wait_s(limits.stored_messages_per_s, now_s))
        wait_s = max(wait_s, connection.inbound.rate.wait_s(limits.publishes_per_s, now_s))
        if not wait_s:
            connection.inbound.rate.take(limits.publishes_per_s, now_s)
            if session.stored:
                self._stored_rate.take(limits.stored_messages_per_s, now_s)
        return wait_s

    def _send(self, session: Session, delivery: Delivery) -> None:
        connection, message = self.connection, delivery.message
        session.stored = max(0, session.stored - 1)
        if delivery.qos and not delivery.packet_id:
            delivery.packet_id = session.take_packet_id()
        packet = p.Publish(message.topic, message.payload, delivery.qos, delivery.retain, delivery.dup,
                           delivery.packet_id)
        if connection.version == MQTT_5 and message.properties:
            packet.properties = self._properties(delivery)
        data = encode(packet, connection.version)
        if self._packet_bytes is not None and len(data) > self._packet_bytes:
            LOG.warning("message on %r (%d bytes) is larger than client %r takes: dropped",
                        message.topic, len(data), connection.client_id)
            session.forget(delivery)
            return
        if delivery.qos:
            session.in_flight[delivery.packet_id] = delivery
        connection.broker.counters.delivered += 1
        connection.broker.metered("message", message.topic, len(message.payload))
        connection.send_bytes(data)

    def _properties(self, delivery: Delivery) -> Properties:
        message = delivery.message
        if message.expires_at_s is None:
            return message.properties
        left_s = max(0, int(message.expires_at_s - self.connection.loop.time()))
        return {**message.properties, "message_expiry_interval": left_s}
