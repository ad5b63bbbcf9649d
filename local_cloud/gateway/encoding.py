"""Packets to bytes, in MQTT 3.1.1 or 5: what the broker and the tests' clients send."""

from __future__ import annotations

from collections.abc import Callable

from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_5, RESERVED_FLAGS, Packet
from local_cloud.gateway.wire import encode_binary, encode_text, encode_varint, write_properties


def encode(packet: Packet, version: int) -> bytes:
    """The packet's bytes in that version; raises ValueError where a field does not fit MQTT."""
    first_byte, body = _ENCODERS[type(packet)](packet, version)
    size_bytes = len(body)
    if size_bytes < 128:
        return bytes((first_byte, size_bytes)) + body
    return bytes((first_byte,)) + encode_varint(size_bytes) + body


def _properties(packet: Packet, version: int) -> bytes:
    return write_properties(packet.properties) if version == MQTT_5 else b""  # type: ignore[union-attr]


def _encode_publish(packet: p.Publish, version: int) -> tuple[int, bytes]:
    first_byte = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    return first_byte, encode_text(packet.topic) + packet_id + _properties(packet, version) + packet.payload


def _encode_connect(packet: p.Connect, version: int) -> tuple[int, bytes]:
    will = packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    payload = encode_text(packet.client_id)
    if will:
        flags |= 4 | will.qos << 3 | will.retain << 5
        if version == MQTT_5:
            payload += write_properties(will.properties)
        payload += encode_text(will.topic) + encode_binary(will.payload)
    if packet.username is not None:
        payload += encode_text(packet.username)
    if packet.password is not None:
        payload += encode_binary(packet.password)
    head = encode_text("MQTT") + bytes((version, flags)) + packet.keep_alive_s.to_bytes(2, "big")
    return p.CONNECT << 4, head + _properties(packet, version) + payload


def _encode_ack(packet: p.Ack, version: int) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big") + _encode_reason(packet, version)
    return packet.kind << 4 | RESERVED_FLAGS.get(packet.kind, 0), body


def _encode_reason(packet: p.Ack | p.Disconnect | p.Auth, version: int) -> bytes:
    if version != MQTT_5 or not (packet.reason_code or packet.properties):
        return b""
    return bytes((packet.reason_code,)) + (write_properties(packet.properties) if packet.properties else b"")


def _encode_subscribe(packet: p.Subscribe, version: int) -> tuple[int, bytes]:
    body = packet.packet_id.to_bytes(2, "big") + _properties(packet, version)
    for wanted in packet.subscriptions:
        options = wanted.qos
        if version == MQTT_5:
            options |= wanted.no_local << 2 | wanted.retain_as_published << 3 | wanted.retain_handling << 4
        body += encode_text(wanted.topic_filter) + bytes((options,))
    return p.SUBSCRIBE << 4 | 2, body


def _encode_unsubscribe(packet: p.Unsubscribe, version: int) -> tuple[int, bytes]:
    filters = b"".join(encode_text(topic_filter) for topic_filter in packet.topic_filters)
    return p.UNSUBSCRIBE << 4 | 2, packet.packet_id.to_bytes(2, "big") + _properties(packet, version) + filters


def _encode_codes(packet: p.Suback | p.Unsuback, version: int) -> tuple[int, bytes]:
    kind = p.SUBACK if isinstance(packet, p.Suback) else p.UNSUBACK
    codes = bytes(packet.reason_codes) if version == MQTT_5 or kind == p.SUBACK else b""
    return kind << 4, packet.packet_id.to_bytes(2, "big") + _properties(packet, version) + codes


_ENCODERS: dict[type, Callable[..., tuple[int, bytes]]] = {
    p.Publish: _encode_publish, p.Connect: _encode_connect, p.Ack: _encode_ack, p.Subscribe: _encode_subscribe,
    p.Unsubscribe: _encode_unsubscribe, p.Suback: _encode_codes, p.Unsuback: _encode_codes,
    p.Connack: lambda packet, version: (
        p.CONNACK << 4, bytes((packet.session_present, packet.reason_code)) + _properties(packet, version)),
    p.Disconnect: lambda packet, version: (p.DISCONNECT << 4, _encode_reason(packet, version)),
    p.Auth: lambda packet, version: (p.AUTH << 4, _encode_reason(packet, version)),
    p.Pingreq: lambda packet, version: (p.PINGREQ << 4, b""),
    p.Pingresp: lambda packet, version: (p.PINGRESP << 4, b""),
}
