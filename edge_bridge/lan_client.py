"""paho's MQTT client, quick at what comes by the thousand: PUBLISH packets, taken to mqtt_source.py from a buffer.

paho reads each packet with a select and three calls of recv, and makes some twenty objects of it. Each call lets
another thread have the interpreter, and waits to get it back: while rows are committed and scored, that is most of
what receiving costs. Here the socket is read 32 KiB at a time, and whole PUBLISH packets of QoS 0 and 1 are taken apart
at once; every other packet, and whatever is not as it should be, is left to paho.
"""
import socket
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho

CHUNK_BYTES = 32 * 1024  # some 350 readings: acknowledgements that wait to be written wait no longer than these take
_PUBLISH_BELOW_QOS_2, _OF_TYPE_AND_QOS, _QOS_1 = 0x30, 0xF4, 0x02  # in a packet's first byte
_MOST_LENGTH_BYTES = 4

Received = Callable[[bytes, bytes, int], None]


class LanClient(paho.Client):
    """A paho client whose messages go to `received`: topic as UTF-8, payload, and packet id, 0 with QoS 0."""

    def __init__(self, received: Received, **options: Any) -> None:
        super().__init__(paho.CallbackAPIVersion.VERSION2, **options)
        self._received = received
        self._has_properties = self.protocol == paho.MQTTv5
        self._chunk, self._taken = b"", 0
        self._chunk_of: socket.socket | None = None  # what was read of a connection is gone with it
        self.on_message = lambda _, __, message: received(
            message._topic, bytes(message.payload), message.mid if message.qos else 0)

    def _sock_recv(self, bufsize: int) -> bytes:
        """As paho's: up to bufsize bytes, b"" at the end. Raises BlockingIOError when there is nothing now."""
        if self._nothing_left():
            connection: Any = self._sock
            self._chunk, self._taken, self._chunk_of = b"", 0, connection
            self._chunk = super()._sock_recv(CHUNK_BYTES)
        start = self._taken
        self._taken = min(start + bufsize, len(self._chunk))
        return self._chunk[start:self._taken]

    def _nothing_left(self) -> bool:
        return self._taken == len(self._chunk) or self._chunk_of is not self._sock

    def loop_read(self, max_packets: int = 1) -> Any:
        """Take in what there is, since select does not tell of what was read already; chunk by chunk, and what is to be
        sent does not wait for the end of a flood."""
        while True:
            result: int = super().loop_read(max_packets)
            if not result and self._in_packet["command"] == 0:
                self._take_publishes()
            if result or self._nothing_left():
                return result
            result = (self.loop_write() if self.want_write() else 0) or self.loop_misc()
            if result or self._nothing_left():
                return result

    def _take_publishes(self) -> None:
        """Hand on the whole PUBLISH packets that come next."""
        chunk, received, at = self._chunk, self._received, self._taken
        while not self._nothing_left() and chunk[at] & _OF_TYPE_AND_QOS == _PUBLISH_BELOW_QOS_2:
            length, topic_at = _length(chunk, at + 1)
            end = topic_at + length
            if not 2 <= length <= len(chunk) - topic_at:
                break  # the rest has not come yet
            content_at = topic_end = topic_at + 2 + int.from_bytes(chunk[topic_at:topic_at + 2], "big")
            packet_id = 0
            if chunk[at] & _QOS_1:
                content_at += 2
                packet_id = int.from_bytes(chunk[topic_end:content_at], "big")
            if self._has_properties:
                skipped, content_at = _length(chunk, content_at)
                content_at = content_at + skipped if skipped >= 0 else end + 1
            if content_at > end or topic_end == topic_at + 2:
                break  # paho says what is wrong with it
            self._taken = at = end
            received(chunk[topic_at + 2:topic_end], chunk[content_at:end], packet_id)


def _length(chunk: bytes, at: int) -> tuple[int, int]:
    """A length of MQTT's (7 bits a byte, the lowest first) and where it ends; -1 when it is not whole or too long."""
    length = 0
    for place, byte in enumerate(chunk[at:at + _MOST_LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return length, at + place + 1
    return -1, at
