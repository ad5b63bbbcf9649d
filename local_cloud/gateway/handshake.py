"""CONNECT to CONNACK: a connection's first packet becomes an admitted client with its session, or a refusal.

A will's delay interval is not honoured: the will is published at once.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Broker, Refused
from local_cloud.gateway.packets import MQTT_5
from local_cloud.gateway.topics import is_topic_name

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)
NO_RECEIVE_MAXIMUM = 65_535
# MQTT 3.1.1 return codes by MQTT 5's reason codes; any other is 5, not authorized.
RETURN_CODES = {p.CLIENT_IDENTIFIER_NOT_VALID: 2, p.SERVER_UNAVAILABLE: 3, p.QUOTA_EXCEEDED: 3,
                p.UNSPECIFIED_ERROR: 3, p.BAD_USER_NAME_OR_PASSWORD: 4}


def greet(connection: Connection, connect: p.Connect) -> None:
    """Admit the client and answer CONNACK, or refuse it and close."""
    connection.version = connect.version
    broker = connection.broker
    try:
        assigned = _check(broker, connect)
        connection.client_id = connect.client_id
        admission = broker.admit(connection, connect)
        if not broker.may_connect(connect.client_id, connection.loop.time()):
            raise Refused(p.QUOTA_EXCEEDED, f"client id {connect.client_id!r} connects more than once in "
                                            f"{broker.limits.connect_interval_s} s")
    except Refused as refusal:
        _refuse(connection, refusal)
        return
    connection.principal, connection.authorize = admission.principal, admission.authorize
    _take_over(broker, connect.client_id)
    _open(connection, connect, assigned)


def _check(broker: Broker, connect: p.Connect) -> bool:
    """What does not depend on who it is; gives a client without an id one, and says so."""
    code = broker.faults.take_refusal()
    if code is not None:
        raise Refused(code, "the fault switchboard refuses connects")
    if "authentication_method" in connect.properties:
        raise Refused(p.BAD_AUTHENTICATION_METHOD, "extended authentication is not offered")
    if connect.will is not None:
        if connect.will.qos > 1:
            raise Refused(p.QOS_NOT_SUPPORTED, "will with QoS 2; at most 1")
        if not is_topic_name(connect.will.topic):
            raise Refused(p.TOPIC_NAME_INVALID, f"will topic {connect.will.topic!r} is no topic name")
    assigned = not connect.client_id
    if assigned:
        if connect.version != MQTT_5 and not connect.clean_start:
            raise Refused(p.CLIENT_IDENTIFIER_NOT_VALID, "a persistent session of MQTT 3.1.1 needs a client id")
        connect.client_id = str(uuid.uuid4())
    longest = broker.limits.client_id_bytes
    if longest is not None and len(connect.client_id.encode()) > longest:
        raise Refused(p.CLIENT_IDENTIFIER_NOT_VALID, f"client id is longer than {longest} bytes")
    return assigned


def _refuse(connection: Connection, refusal: Refused) -> None:
    LOG.warning("connect refused: client %r from %s: 0x%02X %s",
                connection.client_id, connection.source_ip, refusal.reason_code, refusal)
    connection.broker.counters.refused += 1
    if connection.version == MQTT_5:
        connection.send(p.Connack(reason_code=refusal.reason_code, properties=p.reason(str(refusal))))
    else:
        connection.send(p.Connack(reason_code=RETURN_CODES.get(refusal.reason_code, 5)))
    connection.leave(str(refusal))
    connection.close()


def _take_over(broker: Broker, client_id: str) -> None:
    earlier = broker.sessions.get(client_id)
    if earlier is not None and earlier.connection is not None:
        broker.counters.taken_over += 1
        earlier.connection.disconnect(p.SESSION_TAKEN_OVER, "another connection uses this client id")


def _open(connection: Connection, connect: p.Connect, assigned: bool) -> None:
    broker, wanted = connection.broker, connect.properties
    expiry_s = broker.granted_expiry_s(connect)
    connection.reason_strings = bool(wanted.get("request_problem_information", 1))
    connection.will = connect.will
    keep_alive_s = _keep_alive(broker, connect.keep_alive_s)
    session, resumed = broker.open_session(connection, connect, expiry_s)
    connection.session = session
    connection.outbound.open(wanted.get("receive_maximum", NO_RECEIVE_MAXIMUM), wanted.get("maximum_packet_size"))
    broker.counters.connects += 1
    LOG.info("client %r connected from %s (MQTT %s%s)", connect.client_id, connection.source_ip,
             "5" if connect.version == MQTT_5 else "3.1.1", ", session resumed" if resumed else "")
    properties = _offer(broker, connect, expiry_s, keep_alive_s, assigned) if connect.version == MQTT_5 else {}
    connection.send(p.Connack(resumed, p.SUCCESS, properties))
    connection.cancel("connect")
    if keep_alive_s:
        connection.watch_keep_alive(keep_alive_s)
    connection.deliver()


def _keep_alive(broker: Broker, wanted_s: int) -> int:
    limits = broker.limits
    if limits.keep_alive_max_s is not None and not 0 < wanted_s <= limits.keep_alive_max_s:
        return limits.keep_alive_max_s
    return max(wanted_s, limits.keep_alive_min_s or 0)


def _offer(broker: Broker, connect: p.Connect, expiry_s: float | None, keep_alive_s: int,
           assigned: bool) -> p.Properties:
    """The CONNACK's properties: what this broker can do, and where it changed what the client asked for."""
    limits = broker.limits
    offer: p.Properties = {"maximum_qos": 1, "retain_available": 1, "topic_alias_maximum": limits.topic_aliases,
                           "wildcard_subscription_available": 1, "subscription_identifier_available": 0,
                           "shared_subscription_available": 0}
    if limits.unacked_inbound is not None:
        offer["receive_maximum"] = limits.unacked_inbound
    if limits.packet_bytes is not None:
        offer["maximum_packet_size"] = limits.packet_bytes
    if expiry_s is not None and expiry_s != connect.properties.get("session_expiry_interval", 0):
        offer["session_expiry_interval"] = int(expiry_s)
    if keep_alive_s != connect.keep_alive_s:
        offer["server_keep_alive"] = keep_alive_s
    if assigned:
        offer["assigned_client_identifier"] = connect.client_id
    return offer
