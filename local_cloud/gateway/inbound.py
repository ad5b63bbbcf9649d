"""A client's PUBLISH: checked against limits and rights, handed to the broker, acknowledged in the order of arrival."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from local_cloud.gateway import packets as p
from local_cloud.gateway import shadows
from local_cloud.gateway.faults import PubackFault
from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.messages import Publish, forwardable
from local_cloud.gateway.packets import MQTT_5, Properties
from local_cloud.gateway.topics import is_topic_name, split_basic_ingest

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)
RULE_NAME = re.compile(r"[a-zA-Z0-9_]{1,128}\Z")
MOST_UNDER_WAY = 1000  # of all QoS, where no limit is set


class Rejected(Exception):
    """A PUBLISH that is not accepted, with the reason code of its PUBACK."""

    def __init__(self, reason_code: int, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code


class _Pending:
    """A message whose PUBACK (packet id 0: none) is still to be sent."""

    __slots__ = ("done", "fault", "packet_id", "reason_code")

    def __init__(self, packet_id: int, fault: PubackFault | None = None, reason_code: int = p.SUCCESS,
                 done: bool = False) -> None:
        self.packet_id = packet_id
        self.fault = fault
        self.reason_code = reason_code
        self.done = done


class Inbound:
    """What one connection publishes: `_unacked` are the packet ids it waits for, `_pending` the order of PUBACKs."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rate = TokenBucket(connection.loop.time())  # in and out together: Outbound takes from it too
        self._aliases: dict[int, str] = {}
        self._pending: deque[_Pending] = deque()
        self._unacked: set[int] = set()

    def publish(self, packet: p.Publish) -> None:
        """Take one PUBLISH, or discard, reject or disconnect as AWS IoT does."""
        connection = self.connection
        broker = connection.broker
        limits = broker.limits
        if packet.qos > 1:
            connection.disconnect(p.QOS_NOT_SUPPORTED, "PUBLISH with QoS 2; at most 1")
            return
        if packet.properties and not self._resolve_alias(packet):
            return
        if not is_topic_name(packet.topic):
            connection.disconnect(p.TOPIC_NAME_INVALID, f"{packet.topic!r} is no topic name")
            return
        if not self.rate.take(limits.publishes_per_s, connection.loop.time()):
            broker.counters.discarded += 1
            LOG.debug("client %r exceeds %s publishes/s: discarded", connection.client_id, limits.publishes_per_s)
            return
        if limits.payload_bytes is not None and len(packet.payload) > limits.payload_bytes:
            connection.disconnect(p.QUOTA_EXCEEDED, f"payload of {len(packet.payload)} bytes; at most "
                                                    f"{limits.payload_bytes}")
            return
        if packet.qos and not self._admit_packet_id(packet.packet_id):
            return
        self._take(packet)

    def _take(self, packet: p.Publish) -> None:
        fault = self.connection.broker.faults.take_puback_fault(packet.topic) if packet.qos else None
        try:
            message = self._permitted(packet)
            if fault is not None and fault.reason_code:
                raise Rejected(fault.reason_code, "the fault switchboard rejects it")
        except Rejected as rejection:
            self._reject(packet, rejection)
            return
        try:
            result = self.connection.broker.accept(message)
        except Exception:  # the connection must live on whatever a rule does
            LOG.exception("handling a message on %r failed", packet.topic)
            self.connection.broker.counters.failed += 1
            self._finished(self._append(packet.packet_id, fault), p.UNSPECIFIED_ERROR)
            return
        if result is None and fault is None and not self._pending:
            self._acknowledge(packet.packet_id, p.SUCCESS)
        else:
            self._wait(self._append(packet.packet_id, fault), result, packet.topic)

    def _resolve_alias(self, packet: p.Publish) -> bool:
        if "subscription_identifier" in packet.properties:
            self.connection.disconnect(p.PROTOCOL_ERROR, "a client's PUBLISH has no subscription identifier")
            return False
        alias = packet.properties.pop("topic_alias", None)
        if alias is None:
            return True
        if alias > self.connection.broker.limits.topic_aliases:
            self.connection.disconnect(p.TOPIC_ALIAS_INVALID, f"topic alias {alias} is above the maximum")
            return False
        if packet.topic:
            self._aliases[alias] = packet.topic
        elif alias in self._aliases:
            packet.topic = self._aliases[alias]
        else:
            self.connection.disconnect(p.PROTOCOL_ERROR, f"topic alias {alias} was never set")
            return False
        return True

    def _admit_packet_id(self, packet_id: int) -> bool:
        connection, limit = self.connection, self.connection.broker.limits.unacked_inbound
        if packet_id in self._unacked:
            if connection.version == MQTT_5:
                connection.send(p.Ack(p.PUBACK, packet_id, p.PACKET_IDENTIFIER_IN_USE))
            return False
        if limit is not None and connection.version == MQTT_5 and len(self._unacked) >= limit:
            connection.disconnect(p.RECEIVE_MAXIMUM_EXCEEDED, f"more than {limit} publishes await their PUBACK")
            return False
        self._unacked.add(packet_id)
        return True

    def _permitted(self, packet: p.Publish) -> Publish:
        """The message this PUBLISH is, or Rejected."""
        connection, topic = self.connection, packet.topic
        rule_name: str | None = None
        if connection.broker.rules.reserved_topics and topic.startswith("$"):
            rule_name, topic = split_basic_ingest(topic)
            if not (RULE_NAME.match(rule_name) if rule_name else shadows.asked(topic)):
                raise Rejected(p.TOPIC_NAME_INVALID, f"reserved topic {topic!r} is not offered here")
            if packet.retain:
                raise Rejected(p.TOPIC_NAME_INVALID, f"a reserved topic cannot be retained: {packet.topic!r}")
        _check_topic_size(topic, connection)
        if not connection.authorize("Publish", packet.topic):
            raise Rejected(p.NOT_AUTHORIZED, f"no policy lets it publish to {packet.topic!r}")
        if packet.retain and not connection.authorize("RetainPublish", packet.topic):
            raise Rejected(p.NOT_AUTHORIZED, f"no policy lets it publish retained to {packet.topic!r}")
        return self._message(packet, topic, rule_name)

    def _message(self, packet: p.Publish, topic: str, rule_name: str | None) -> Publish:
        connection, properties = self.connection, packet.properties
        expires_at_s = None
        if properties:
            properties = forwardable(properties)
            expires_at_s = self._expiry(properties)
        return Publish(topic, packet.payload, packet.qos, packet.retain, connection.client_id, connection.principal,
                       connection.source_ip, rule_name, properties, expires_at_s)

    def _expiry(self, properties: Properties) -> float | None:
        expiry_s = properties.get("message_expiry_interval")
        if expiry_s is None:
            return None
        longest = self.connection.broker.limits.message_expiry_max_s
        return self.connection.loop.time() + (expiry_s if longest is None else min(max(expiry_s, 1), longest))

    def _reject(self, packet: p.Publish, rejection: Rejected) -> None:
        connection = self.connection
        connection.broker.counters.denied += 1
        if connection.version != MQTT_5 or not packet.qos or connection.broker.rules.denied_publish_disconnects:
            connection.disconnect(rejection.reason_code, str(rejection))
            return
        LOG.warning("publish of client %r rejected: 0x%02X %s", connection.client_id, rejection.reason_code, rejection)
        self._finished(self._append(packet.packet_id, None), rejection.reason_code)

    def _append(self, packet_id: int, fault: PubackFault | None) -> _Pending:
        pending = _Pending(packet_id, fault)
        self._pending.append(pending)
        return pending

    def _wait(self, pending: _Pending, result: Awaitable[None] | None, topic: str) -> None:
        if result is None:
            self._accepted(pending)
            return
        future = asyncio.ensure_future(result)
        future.add_done_callback(lambda done: self._handled(pending, done, topic))
        self._throttle_reading()

    def _handled(self, pending: _Pending, future: asyncio.Future[None], topic: str) -> None:
        if future.cancelled():
            return  # the local cloud is stopping: no PUBACK for what was not finished
        if (error := future.exception()) is not None:
            LOG.error("handling a message on %r failed", topic, exc_info=error)
            self.connection.broker.counters.failed += 1
            self._finished(pending, p.UNSPECIFIED_ERROR)
        else:
            self._accepted(pending)

    def _accepted(self, pending: _Pending) -> None:
        fault = pending.fault
        if fault is not None and fault.delay_s:
            self.connection.loop.call_later(fault.delay_s, self._finished, pending, p.SUCCESS)
        else:
            self._finished(pending, p.SUCCESS)

    def _finished(self, pending: _Pending, reason_code: int) -> None:
        pending.done, pending.reason_code = True, reason_code
        while self._pending and self._pending[0].done:
            self._settle(self._pending.popleft())
        self._throttle_reading()

    def _settle(self, pending: _Pending) -> None:
        fault = pending.fault
        if self.connection.closed or (fault is not None and fault.withhold):
            return
        if fault is not None and fault.drop:
            self.connection.abort()
            return
        self._acknowledge(pending.packet_id, pending.reason_code)

    def _acknowledge(self, packet_id: int, reason_code: int) -> None:
        if not packet_id:
            return
        connection = self.connection
        if reason_code and connection.version != MQTT_5:
            connection.disconnect(reason_code, "MQTT 3.1.1 has no failing PUBACK")
            return
        self._unacked.discard(packet_id)
        if reason_code:
            connection.send(p.Ack(p.PUBACK, packet_id, reason_code))
        else:
            connection.send_bytes(b"\x40\x02" + packet_id.to_bytes(2, "big"))

    def _throttle_reading(self) -> None:
        """No more is read while too much is under way; MQTT 5 clients count for themselves."""
        connection, limit = self.connection, self.connection.broker.limits.unacked_inbound
        full = limit is not None and connection.version != MQTT_5 and len(self._unacked) >= limit
        if full or len(self._pending) >= MOST_UNDER_WAY:
            connection.pause("unacked")
        else:
            connection.resume("unacked")

    def publish_will(self, will: p.Will) -> None:
        """The client went without a word: publish what it left for that, if it may."""
        packet = p.Publish(will.topic, will.payload, will.qos, will.retain, properties=dict(will.properties))
        try:
            message = self._permitted(packet)
        except Rejected as rejection:
            LOG.warning("will of client %r is not published: %s", self.connection.client_id, rejection)
            return
        result = self.connection.broker.accept(message)
        if result is not None:
            asyncio.ensure_future(result).add_done_callback(_log_failure)


def _log_failure(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        LOG.error("handling a will failed", exc_info=error)


def _check_topic_size(topic: str, connection: Connection) -> None:
    limits = connection.broker.limits
    if limits.topic_slashes is not None and topic.count("/") > limits.topic_slashes:
        raise Rejected(p.TOPIC_NAME_INVALID, f"topic has {topic.count('/')} slashes; at most {limits.topic_slashes}")
    if limits.topic_bytes is not None and len(topic.encode()) > limits.topic_bytes:
        raise Rejected(p.TOPIC_NAME_INVALID, f"topic has {len(topic.encode())} bytes; at most {limits.topic_bytes}")
