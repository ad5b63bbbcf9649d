"""The MQTT control packets as values: made by the codec from a client's bytes, and by the broker for the codec to send.

One class per kind of packet, for MQTT 3.1.1 and 5 alike: `properties` is empty in 3.1.1, reason codes are those of
MQTT 5 except in `Connack` and `Suback`, which carry the return code of the version they are sent in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MQTT_3_1_1 = 4
MQTT_5 = 5

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15

RESERVED_FLAGS = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}  # the low half of the first byte; 0 elsewhere

# Reason codes of MQTT 5 (section 2.4), by the names the standard gives them.
SUCCESS = 0x00
DISCONNECT_WITH_WILL = 0x04
NO_SUBSCRIPTION_EXISTED = 0x11
UNSPECIFIED_ERROR = 0x80
MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_PROTOCOL_VERSION = 0x84
CLIENT_IDENTIFIER_NOT_VALID = 0x85
BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
SERVER_UNAVAILABLE = 0x88
SERVER_SHUTTING_DOWN = 0x8B
BAD_AUTHENTICATION_METHOD = 0x8C
KEEP_ALIVE_TIMEOUT = 0x8D
SESSION_TAKEN_OVER = 0x8E
TOPIC_FILTER_INVALID = 0x8F
TOPIC_NAME_INVALID = 0x90
PACKET_IDENTIFIER_IN_USE = 0x91
RECEIVE_MAXIMUM_EXCEEDED = 0x93
TOPIC_ALIAS_INVALID = 0x94
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
ADMINISTRATIVE_ACTION = 0x98
QOS_NOT_SUPPORTED = 0x9B
SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1

LONGEST_REASON = 300  # characters of a reason string; a topic quoted in it may be far longer

Properties = dict[str, Any]


def reason(text: str) -> Properties:
    """A reason string as the properties of a CONNACK or DISCONNECT, cut; none for no text."""
    return {"reason_string": text[:LONGEST_REASON]} if text else {}


class MalformedPacket(ValueError):
    """Bytes that are no MQTT packet; `reason_code` is what a DISCONNECT about it says."""

    reason_code = MALFORMED_PACKET


class PacketTooLarge(MalformedPacket):
    """A packet whose fixed header announces more than the receiver takes; nothing of it was kept."""

    reason_code = PACKET_TOO_LARGE


class UnsupportedVersion(MalformedPacket):
    """A CONNECT of another protocol than MQTT 3.1.1 or 5."""

    reason_code = UNSUPPORTED_PROTOCOL_VERSION


@dataclass(slots=True)
class Will:
    """What the broker publishes for a client that goes without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Connect:
    """A client's first packet; `version` is 4 (MQTT 3.1.1) or 5."""

    client_id: str
    version: int = MQTT_3_1_1
    clean_start: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Connack:
    """The answer to CONNECT."""

    session_present: bool = False
    reason_code: int = SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Publish:
    """An application message; `packet_id` is 0 exactly when `qos` is 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, told apart by `kind`."""

    kind: int
    packet_id: int
    reason_code: int = SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Subscription:
    """One topic filter with its options; the last three exist in MQTT 5 only."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(slots=True)
class Subscribe:
    """A request for one or more subscriptions."""

    packet_id: int
    subscriptions: list[Subscription]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Suback:
    """One code per requested subscription, in order."""

    packet_id: int
    reason_codes: list[int]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsubscribe:
    """A request to end subscriptions."""

    packet_id: int
    topic_filters: list[str]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsuback:
    """The answer to UNSUBSCRIBE; MQTT 3.1.1 sends no codes, so `reason_codes` is empty there."""

    packet_id: int
    reason_codes: list[int] = field(default_factory=list)
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Pingreq:
    """A sign of life."""


@dataclass(slots=True)
class Pingresp:
    """The answer to it."""


@dataclass(slots=True)
class Disconnect:
    """The orderly end; in MQTT 3.1.1 only a client sends it."""

    reason_code: int = SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Auth:
    """Extended authentication of MQTT 5: decoded so that it can be refused by name."""

    reason_code: int = SUCCESS
    properties: Properties = field(default_factory=dict)


Packet = (Connect | Connack | Publish | Ack | Subscribe | Suback | Unsubscribe | Unsuback
          | Pingreq | Pingresp | Disconnect | Auth)
