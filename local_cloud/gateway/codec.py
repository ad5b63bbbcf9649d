"""Cuts a stream of bytes into MQTT packets; with `decode` and `encode` it is the codec of gateway and LAN broker alike.

`Parser.feed` takes whatever a socket gave, in any pieces. Bytes that are no MQTT raise MalformedPacket and nothing
else; a parser keeps at most one packet of the size it allows, and refuses a larger one from its header alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from local_cloud.gateway import packets as p
from local_cloud.gateway.decoding import decode
from local_cloud.gateway.encoding import encode
from local_cloud.gateway.packets import MQTT_3_1_1, MalformedPacket, Packet
from local_cloud.gateway.wire import LONGEST_VARINT

__all__ = ["Parser", "decode", "encode"]
FIXED_HEADER_MAX_BYTES = 5
LARGEST_PACKET_BYTES = LONGEST_VARINT + FIXED_HEADER_MAX_BYTES


class Parser:
    """Cuts a stream of bytes into packets. `version` is taken from the CONNECT unless given (a client's side)."""

    def __init__(self, max_packet_bytes: int = LARGEST_PACKET_BYTES, version: int | None = None) -> None:
        self.max_packet_bytes = max_packet_bytes
        self.version = version
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """What is held of an incomplete packet."""
        return len(self._buffer)

    def push(self, data: bytes) -> None:
        """Keep what a socket gave, for `next_packet` to cut."""
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """The first complete packet held, or None; raises MalformedPacket where the stream stops making sense."""
        buffer = self._buffer
        header = _fixed_header(buffer, self.max_packet_bytes)
        if header is None or header[1] > len(buffer):
            return None
        start, stop = header
        first_byte, body = buffer[0], bytes(buffer[start:stop])
        del buffer[:stop]
        return self._decode(first_byte, body)

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Every packet that is complete with these bytes."""
        self.push(data)
        while (packet := self.next_packet()) is not None:
            yield packet

    def _decode(self, first_byte: int, body: bytes) -> Packet:
        if self.version is None:
            if first_byte >> 4 != p.CONNECT:
                raise MalformedPacket(f"first packet is of type {first_byte >> 4}, not CONNECT")
            packet = decode(first_byte, body, MQTT_3_1_1)
            assert isinstance(packet, p.Connect)
            self.version = packet.version
            return packet
        return decode(first_byte, body, self.version)


def _fixed_header(buffer: bytearray, max_packet_bytes: int) -> tuple[int, int] | None:
    """Where the first packet's body starts and stops; None while the header is incomplete."""
    size_bytes = 0
    for index in range(1, FIXED_HEADER_MAX_BYTES):
        if index >= len(buffer):
            return None
        byte = buffer[index]
        size_bytes |= (byte & 0x7F) << (7 * (index - 1))
        if not byte & 0x80:
            if byte == 0 and index > 1:
                raise MalformedPacket("remaining length is not in its shortest form")
            stop = size_bytes + index + 1
            if stop > max_packet_bytes:
                raise p.PacketTooLarge(f"packet of {stop} bytes; at most {max_packet_bytes}")
            return index + 1, stop
    raise MalformedPacket("remaining length is longer than four bytes")
