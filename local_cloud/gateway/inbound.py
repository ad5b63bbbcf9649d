"""A client's PUBLISH: checked against limits and rights, handed to the broker, and what became of it to pubacks.py."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from local_cloud.gateway import packets as p
from local_cloud.gateway import shadows
from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.messages import Publish, forwardable
from local_cloud.gateway.packets import MQTT_5, Properties
from local_cloud.gateway.pubacks import Pubacks
from local_cloud.gateway.topics import is_rule_name, is_topic_name, split_basic_ingest

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)


class Rejected(Exception):
    """A PUBLISH that is not accepted, with the reason code of its PUBACK."""

    def __init__(self, reason_code: int, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code


class Inbound:
    """What one connection publishes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rate = TokenBucket(connection.loop.time())  # in and out together: Outbound takes from it too
        self._aliases: dict[int, str] = {}
        self._pubacks = Pubacks(connection)

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
        if packet.qos and not self._pubacks.admit(packet.packet_id):
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
        except Exception as error:  # the connection must live on whatever a rule does
            self.connection.broker.failed(f"a message on {packet.topic!r}", error)
            self._pubacks.refused(packet.packet_id, p.UNSPECIFIED_ERROR, fault)
            return
        self._pubacks.accepted(packet, result, fault)

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

    def _permitted(self, packet: p.Publish) -> Publish:
        """The message this PUBLISH is, or Rejected."""
        connection, topic = self.connection, packet.topic
        rule_name: str | None = None
        if connection.broker.rules.reserved_topics and topic.startswith("$"):
            rule_name, topic = split_basic_ingest(topic)
            if not (shadows.asked(topic) if rule_name is None else is_rule_name(rule_name)):
                raise Rejected(p.TOPIC_NAME_INVALID, f"reserved topic {packet.topic!r} is not offered here")
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
        if connection.version != MQTT_5 or not packet.qos:  # no PUBACK that could say so
            connection.disconnect(rejection.reason_code, str(rejection))
            return
        LOG.warning("publish of client %r rejected: 0x%02X %s", connection.client_id, rejection.reason_code, rejection)
        self._pubacks.refused(packet.packet_id, rejection.reason_code)

    def publish_will(self, will: p.Will) -> None:
        """The client went without a word: publish what it left for that, if it may."""
        packet = p.Publish(will.topic, will.payload, will.qos, will.retain, properties=dict(will.properties))
        try:
            message = self._permitted(packet)
        except Rejected as rejection:
            LOG.warning("will of client %r is not published: %s", self.connection.client_id, rejection)
            return
        self.connection.broker.follow(self.connection.broker.accept, message, f"the will on {will.topic!r}")


def _check_topic_size(topic: str, connection: Connection) -> None:
    limits = connection.broker.limits
    if limits.topic_slashes is not None and topic.count("/") > limits.topic_slashes:
        raise Rejected(p.TOPIC_NAME_INVALID, f"topic has {topic.count('/')} slashes; at most {limits.topic_slashes}")
    if limits.topic_bytes is not None and len(topic.encode()) > limits.topic_bytes:
        raise Rejected(p.TOPIC_NAME_INVALID, f"topic has {len(topic.encode())} bytes; at most {limits.topic_bytes}")
