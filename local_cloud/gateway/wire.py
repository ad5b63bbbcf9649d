"""MQTT's data types on the wire: integers, strings and the property lists of MQTT 5, read from and written to bytes.

The codec builds packets from these; anything out of order raises MalformedPacket.
"""

from __future__ import annotations

from typing import Any

from local_cloud.gateway.packets import MalformedPacket, Properties

LONGEST_VARINT = 268_435_455  # four bytes of seven bits

# id: (name, type). "pairs" and "varints" may come more than once and are lists.
PROPERTIES: dict[int, tuple[str, str]] = {
    0x01: ("payload_format_indicator", "flag"),
    0x02: ("message_expiry_interval", "u32"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation_data", "binary"),
    0x0B: ("subscription_identifier", "varints"),
    0x11: ("session_expiry_interval", "u32"),
    0x12: ("assigned_client_identifier", "text"),
    0x13: ("server_keep_alive", "u16"),
    0x15: ("authentication_method", "text"),
    0x16: ("authentication_data", "binary"),
    0x17: ("request_problem_information", "flag"),
    0x18: ("will_delay_interval", "u32"),
    0x19: ("request_response_information", "flag"),
    0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "u16"),
    0x22: ("topic_alias_maximum", "u16"),
    0x23: ("topic_alias", "u16"),
    0x24: ("maximum_qos", "flag"),
    0x25: ("retain_available", "flag"),
    0x26: ("user_property", "pairs"),
    0x27: ("maximum_packet_size", "u32"),
    0x28: ("wildcard_subscription_available", "flag"),
    0x29: ("subscription_identifier_available", "flag"),
    0x2A: ("shared_subscription_available", "flag"),
}
IDS = {name: (number, kind) for number, (name, kind) in PROPERTIES.items()}
NEVER_ZERO = frozenset({"receive_maximum", "topic_alias", "maximum_packet_size"})

_MESSAGE = {"payload_format_indicator", "message_expiry_interval", "content_type", "response_topic",
            "correlation_data", "user_property"}
_REASON = {"reason_string", "user_property"}
_AUTH = {"authentication_method", "authentication_data"}
# Which properties each packet may carry (MQTT 5, table 2-4).
ALLOWED: dict[str, frozenset[str]] = {name: frozenset(names) for name, names in {
    "CONNECT": {"session_expiry_interval", "receive_maximum", "maximum_packet_size", "topic_alias_maximum",
                "request_response_information", "request_problem_information", "user_property"} | _AUTH,
    "WILL": _MESSAGE | {"will_delay_interval"},
    "CONNACK": {"session_expiry_interval", "receive_maximum", "maximum_qos", "retain_available",
                "maximum_packet_size", "assigned_client_identifier", "topic_alias_maximum",
                "wildcard_subscription_available", "subscription_identifier_available",
                "shared_subscription_available", "server_keep_alive", "response_information",
                "server_reference"} | _REASON | _AUTH,
    "PUBLISH": _MESSAGE | {"topic_alias", "subscription_identifier"},
    "ACK": _REASON,
    "SUBSCRIBE": {"subscription_identifier", "user_property"},
    "UNSUBSCRIBE": {"user_property"},
    "DISCONNECT": {"session_expiry_interval", "server_reference"} | _REASON,
    "AUTH": _REASON | _AUTH,
}.items()}


class Reader:
    """Takes values off the front of one packet's bytes; running past the end is MalformedPacket."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    def take(self, size_bytes: int) -> bytes:
        """The next bytes."""
        start = self.position
        stop = start + size_bytes
        if stop > self.end:
            raise MalformedPacket(f"packet ends early: {size_bytes} bytes wanted, {self.end - start} left")
        self.position = stop
        return self.data[start:stop]

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes, big-endian."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        """A variable byte integer in its shortest form."""
        value = 0
        for index in range(4):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                if byte == 0 and index:
                    raise MalformedPacket("variable byte integer is not in its shortest form")
                return value
        raise MalformedPacket("variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Bytes behind a two-byte length."""
        return self.take(self.u16())

    def text(self) -> str:
        """UTF-8 behind a two-byte length; NUL and surrogates are malformed."""
        return decode_text(self.binary())

    def rest(self) -> bytes:
        """Everything left."""
        return self.take(self.end - self.position)

    def done(self) -> None:
        """Nothing may be left over."""
        if self.position != self.end:
            raise MalformedPacket(f"{self.end - self.position} bytes left over at the end of the packet")


def decode_text(data: bytes) -> str:
    """An MQTT UTF-8 string's characters."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedPacket(f"string is not UTF-8: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        raise MalformedPacket("string has the character NUL, which MQTT forbids")
    return text


def encode_varint(value: int) -> bytes:
    """A variable byte integer."""
    if not 0 <= value <= LONGEST_VARINT:
        raise ValueError(f"{value} does not fit a variable byte integer (0 to {LONGEST_VARINT})")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_binary(data: bytes) -> bytes:
    """Bytes behind a two-byte length."""
    if len(data) > 0xFFFF:
        raise ValueError(f"field of {len(data)} bytes is longer than MQTT's 65,535")
    return len(data).to_bytes(2, "big") + data


def encode_text(text: str) -> bytes:
    """UTF-8 behind a two-byte length."""
    return encode_binary(text.encode("utf-8"))


def read_properties(reader: Reader, packet: str) -> Properties:
    """The property list at the reader; `packet` is a row of ALLOWED. Pairs become lists of (name, value)."""
    size_bytes = reader.varint()
    start = reader.position
    if start + size_bytes > reader.end:
        raise MalformedPacket("property list is longer than its packet")
    if not size_bytes:
        return {}
    inner = Reader(reader.data, start, start + size_bytes)
    reader.position = inner.end
    found: Properties = {}
    while inner.position < inner.end:
        _read_property(inner, packet, found)
    return found


def _read_property(reader: Reader, packet: str, found: Properties) -> None:
    number = reader.varint()
    name, kind = PROPERTIES.get(number, ("", ""))
    if name not in ALLOWED[packet]:
        raise MalformedPacket(f"property 0x{number:02X} does not belong in {packet}")
    value = _READ[kind](reader)
    if kind == "flag" and value > 1:
        raise MalformedPacket(f"{name} is {value}; 0 or 1 expected")
    if not value and (name in NEVER_ZERO or kind == "varints"):
        raise MalformedPacket(f"{name} must not be 0")
    if kind in ("pairs", "varints"):
        found.setdefault(name, []).append(value)
        if name == "subscription_identifier" and packet == "SUBSCRIBE" and len(found[name]) > 1:
            raise MalformedPacket("subscription_identifier comes twice")
    elif name in found:
        raise MalformedPacket(f"{name} comes twice")
    else:
        found[name] = value


_READ: dict[str, Any] = {
    "flag": Reader.u8, "u16": Reader.u16, "u32": Reader.u32, "text": Reader.text, "binary": Reader.binary,
    "varints": Reader.varint, "pairs": lambda reader: (reader.text(), reader.text()),
}
_WRITE: dict[str, Any] = {
    "flag": lambda value: value.to_bytes(1, "big"), "u16": lambda value: value.to_bytes(2, "big"),
    "u32": lambda value: value.to_bytes(4, "big"), "text": encode_text, "binary": encode_binary,
    "varints": encode_varint, "pairs": lambda pair: encode_text(pair[0]) + encode_text(pair[1]),
}


def write_properties(properties: Properties) -> bytes:
    """The property list with its length in front."""
    if not properties:
        return b"\0"
    out = bytearray()
    for name, value in properties.items():
        number, kind = IDS[name]
        for single in value if kind in ("pairs", "varints") else (value,):
            out.append(number)
            out += _WRITE[kind](single)
    return encode_varint(len(out)) + bytes(out)
