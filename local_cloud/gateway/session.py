"""One client's session: its subscriptions and the messages still to be sent to it, kept across connections.

The broker puts messages in; the connection takes them out in order, and tells which were acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from local_cloud.gateway.messages import Publish
from local_cloud.gateway.packets import Subscription

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LAST_PACKET_ID = 0xFFFF
NEVER = 0xFFFFFFFF  # MQTT 5's session expiry interval for a session that stays


class Delivery:
    """One message for one subscriber. `packet_id` stays the same when it is sent again."""

    __slots__ = ("dup", "message", "packet_id", "qos", "retain")

    def __init__(self, message: Publish, qos: int, retain: bool) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.packet_id = 0
        self.dup = False


class Session:
    """State by client id. `queue` is what is to be sent, `in_flight` what is sent and unacknowledged, oldest first."""

    def __init__(self, client_id: str, version: int) -> None:
        self.client_id = client_id
        self.version = version
        self.expiry_s: float | None = 0  # None: never
        self.subscriptions: dict[str, Subscription] = {}
        self.queue: deque[Delivery] = deque()
        self.in_flight: dict[int, Delivery] = {}
        self.stored = 0  # how many at the head of the queue are replayed after a reconnect
        self.connection: Connection | None = None
        self.expiry_timer: asyncio.TimerHandle | None = None
        self._last_packet_id = 0
        self._reserved: set[int] = set()

    def take_packet_id(self) -> int:
        """An identifier that no message of this session uses; the caller keeps fewer than 65,535 in flight."""
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % LAST_PACKET_ID + 1
            if packet_id not in self._reserved:
                self._reserved.add(packet_id)
                self._last_packet_id = packet_id
                return packet_id

    def acknowledge(self, packet_id: int) -> bool:
        """The client has it; False when it was not in flight."""
        self._reserved.discard(packet_id)
        return self.in_flight.pop(packet_id, None) is not None

    def forget(self, delivery: Delivery) -> None:
        """A delivery that leaves the queue unsent (expired, no longer allowed) gives its identifier back."""
        self._reserved.discard(delivery.packet_id)

    def rewind(self, sets_dup: bool) -> None:
        """Before a resumed connection: what was in flight is sent again first, in its order; QoS 0 is not kept."""
        for delivery in self.in_flight.values():
            delivery.dup = sets_dup
        waiting = [delivery for delivery in self.queue if delivery.qos]
        self.queue = deque([*self.in_flight.values(), *waiting])
        self.in_flight = {}
        self.stored = len(self.queue)
