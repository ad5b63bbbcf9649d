"""SUBSCRIBE and UNSUBSCRIBE: filters checked against limits and rights, then entered into the client's session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from local_cloud.gateway import lifecycle, shadows
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_5
from local_cloud.gateway.session import Delivery, Session
from local_cloud.gateway.topics import is_topic_filter

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)
FAILURE_3_1_1 = 0x80


def subscribe(connection: Connection, packet: p.Subscribe) -> None:
    """Answer SUBACK with a code per filter, then send the retained messages they bring."""
    session, broker = connection.session, connection.broker
    if session is None:
        return
    if "subscription_identifier" in packet.properties:
        connection.disconnect(p.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, "subscription identifiers are not offered")
        return
    if any(wanted.qos > 1 for wanted in packet.subscriptions) and not broker.rules.downgrades_qos2:
        connection.disconnect(p.QOS_NOT_SUPPORTED, "SUBSCRIBE with QoS 2; at most 1")
        return
    most = broker.limits.subscriptions_per_request
    too_many = most is not None and len(packet.subscriptions) > most
    codes: list[int] = []
    retained: list[Delivery] = []
    for wanted in packet.subscriptions:
        wanted.qos = min(wanted.qos, 1)
        code = p.QUOTA_EXCEEDED if too_many else _refusal(connection, session, wanted.topic_filter)
        if code:
            LOG.warning("client %r may not subscribe to %r: 0x%02X", connection.client_id, wanted.topic_filter, code)
            broker.counters.denied += 1
            codes.append(code if connection.version == MQTT_5 else FAILURE_3_1_1)
            continue
        codes.append(wanted.qos)
        retained += [Delivery(message, min(message.qos, wanted.qos), True)
                     for message in broker.subscribe(session, wanted)]
    connection.send(p.Suback(packet.packet_id, codes))
    broker.metered("message", "SUBSCRIBE", 0)
    session.queue.extend(retained)
    connection.deliver()


def _refusal(connection: Connection, session: Session, topic_filter: str) -> int:
    """The reason code that refuses the filter, 0 when it is granted."""
    limits, rules = connection.broker.limits, connection.broker.rules
    if not is_topic_filter(topic_filter):
        return p.TOPIC_FILTER_INVALID
    if topic_filter.startswith("$share/"):
        return p.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    offered = shadows.may_be_subscribed(topic_filter) or topic_filter.startswith(lifecycle.PREFIX + "/")
    if rules.reserved_topics and topic_filter.startswith("$") and not offered:
        return p.TOPIC_FILTER_INVALID  # nobody subscribes to Basic Ingest, and no other $ topic is offered
    if limits.topic_slashes is not None and topic_filter.count("/") > limits.topic_slashes:
        return p.TOPIC_FILTER_INVALID
    if limits.topic_bytes is not None and len(topic_filter.encode()) > limits.topic_bytes:
        return p.TOPIC_FILTER_INVALID
    if not connection.authorize("Subscribe", topic_filter):
        return p.NOT_AUTHORIZED
    full = limits.subscriptions is not None and len(session.subscriptions) >= limits.subscriptions
    return p.QUOTA_EXCEEDED if full and topic_filter not in session.subscriptions else p.SUCCESS


def unsubscribe(connection: Connection, packet: p.Unsubscribe) -> None:
    """Answer UNSUBACK."""
    if connection.session is None:
        return
    ended = [connection.broker.unsubscribe(connection.session, one) for one in packet.topic_filters]
    codes = [p.SUCCESS if found else p.NO_SUBSCRIPTION_EXISTED for found in ended]
    connection.send(p.Unsuback(packet.packet_id, codes if connection.version == MQTT_5 else []))
