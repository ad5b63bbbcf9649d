"""Bytes to packets: one complete packet of MQTT 3.1.1 or 5 at a time, as the parser cut it from the stream.

Whatever the bytes are, the result is a packet or MalformedPacket.
"""

from __future__ import annotations

from collections.abc import Callable

from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5, RESERVED_FLAGS, MalformedPacket, Packet, Properties
from local_cloud.gateway.wire import Reader, decode_text, read_properties


def decode(first_byte: int, body: bytes, version: int) -> Packet:
    """One packet from its first byte and what follows the remaining length."""
    kind = first_byte >> 4
    if kind == p.PUBLISH:
        return _decode_publish(first_byte, body, version)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise MalformedPacket("packet type 0 is reserved")
    if first_byte & 0x0F != RESERVED_FLAGS.get(kind, 0):
        raise MalformedPacket(f"reserved flags of packet type {kind} are {first_byte & 0x0F}")
    reader = Reader(body)
    packet = decoder(reader, kind, version)
    reader.done()
    return packet


def _decode_publish(first_byte: int, body: bytes, version: int) -> p.Publish:
    # The packet that comes by the thousand: read in place.
    qos = first_byte >> 1 & 3
    if qos == 3 or (first_byte & 8 and not qos):
        raise MalformedPacket("PUBLISH with QoS 3, or with DUP at QoS 0")
    if len(body) < 2:
        raise MalformedPacket("PUBLISH ends before its topic")
    position = 2 + (body[0] << 8 | body[1])
    topic = decode_text(body[2:position])
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(body[position:position + 2], "big")
        position += 2
        if not packet_id:
            raise MalformedPacket("PUBLISH with packet identifier 0")
    if position > len(body):
        raise MalformedPacket("PUBLISH ends inside its header")
    properties: Properties = {}
    if version == MQTT_5:
        reader = Reader(body, position)
        properties = read_properties(reader, "PUBLISH")
        position = reader.position
    return p.Publish(topic, body[position:], qos, bool(first_byte & 1), bool(first_byte & 8), packet_id, properties)


def _decode_connect(reader: Reader, _kind: int, _version: int) -> p.Connect:
    name, version = reader.text(), reader.u8()
    if name != "MQTT" or version not in (MQTT_3_1_1, MQTT_5):
        raise p.UnsupportedVersion(f"protocol {name!r} version {version}; MQTT 4 (3.1.1) or 5 expected")
    flags = reader.u8()
    has_will, will_qos = flags >> 2 & 1, flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not has_will and flags & 0x38):
        raise MalformedPacket(f"CONNECT flags 0x{flags:02X} contradict each other")
    if flags & 0xC0 == 0x40 and version == MQTT_3_1_1:
        raise MalformedPacket("CONNECT with a password but no user name")
    keep_alive_s = reader.u16()
    properties = read_properties(reader, "CONNECT") if version == MQTT_5 else {}
    client_id = reader.text()
    will = None
    if has_will:
        will_properties = read_properties(reader, "WILL") if version == MQTT_5 else {}
        will = p.Will(reader.text(), reader.binary(), will_qos, bool(flags & 0x20), will_properties)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return p.Connect(client_id, version, bool(flags & 2), keep_alive_s, username, password, will, properties)


def _decode_connack(reader: Reader, _kind: int, version: int) -> p.Connack:
    flags, code = reader.u8(), reader.u8()
    if flags > 1:
        raise MalformedPacket(f"CONNACK flags are 0x{flags:02X}")
    return p.Connack(bool(flags), code, read_properties(reader, "CONNACK") if version == MQTT_5 else {})


def _packet_id(reader: Reader) -> int:
    packet_id = reader.u16()
    if not packet_id:
        raise MalformedPacket("packet identifier is 0")
    return packet_id


def _decode_ack(reader: Reader, kind: int, version: int) -> p.Ack:
    packet_id = _packet_id(reader)
    code, properties = _reason(reader, "ACK") if version == MQTT_5 else (p.SUCCESS, {})
    return p.Ack(kind, packet_id, code, properties)


def _reason(reader: Reader, packet: str) -> tuple[int, Properties]:
    """A reason code and properties, each of which may be left out at the end."""
    if reader.position == reader.end:
        return p.SUCCESS, {}
    code = reader.u8()
    if reader.position == reader.end:
        return code, {}
    return code, read_properties(reader, packet)


def _decode_subscribe(reader: Reader, _kind: int, version: int) -> p.Subscribe:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, "SUBSCRIBE") if version == MQTT_5 else {}
    subscriptions = []
    while reader.position < reader.end:
        subscriptions.append(_subscription(reader.text(), reader.u8(), version))
    if not subscriptions:
        raise MalformedPacket("SUBSCRIBE without a topic filter")
    return p.Subscribe(packet_id, subscriptions, properties)


def _subscription(topic_filter: str, options: int, version: int) -> p.Subscription:
    reserved = 0xC0 if version == MQTT_5 else 0xFC
    if options & reserved or options & 3 == 3 or options >> 4 & 3 == 3:
        raise MalformedPacket(f"subscription options are 0x{options:02X}")
    return p.Subscription(topic_filter, options & 3, bool(options & 4), bool(options & 8), options >> 4 & 3)


def _decode_suback(reader: Reader, _kind: int, version: int) -> p.Suback:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, "ACK") if version == MQTT_5 else {}
    return p.Suback(packet_id, list(reader.rest()), properties)


def _decode_unsubscribe(reader: Reader, _kind: int, version: int) -> p.Unsubscribe:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, "UNSUBSCRIBE") if version == MQTT_5 else {}
    filters = []
    while reader.position < reader.end:
        filters.append(reader.text())
    if not filters:
        raise MalformedPacket("UNSUBSCRIBE without a topic filter")
    return p.Unsubscribe(packet_id, filters, properties)


def _decode_unsuback(reader: Reader, _kind: int, version: int) -> p.Unsuback:
    packet_id = _packet_id(reader)
    properties = read_properties(reader, "ACK") if version == MQTT_5 else {}
    return p.Unsuback(packet_id, list(reader.rest()) if version == MQTT_5 else [], properties)


def _decode_disconnect(reader: Reader, _kind: int, version: int) -> p.Disconnect:
    return p.Disconnect(*_reason(reader, "DISCONNECT")) if version == MQTT_5 else p.Disconnect()


def _decode_auth(reader: Reader, _kind: int, version: int) -> p.Auth:
    if version != MQTT_5:
        raise MalformedPacket("packet type 15 (AUTH) exists in MQTT 5 only")
    return p.Auth(*_reason(reader, "AUTH"))


_DECODERS: dict[int, Callable[[Reader, int, int], Packet]] = {
    p.CONNECT: _decode_connect, p.CONNACK: _decode_connack, p.PUBACK: _decode_ack, p.PUBREC: _decode_ack,
    p.PUBREL: _decode_ack, p.PUBCOMP: _decode_ack, p.SUBSCRIBE: _decode_subscribe, p.SUBACK: _decode_suback,
    p.UNSUBSCRIBE: _decode_unsubscribe, p.UNSUBACK: _decode_unsuback, p.DISCONNECT: _decode_disconnect,
    p.PINGREQ: lambda reader, kind, version: p.Pingreq(),
    p.PINGRESP: lambda reader, kind, version: p.Pingresp(), p.AUTH: _decode_auth,
}
