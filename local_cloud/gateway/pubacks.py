"""The PUBACKs of one connection: inbound.py says what became of each message, they leave in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from local_cloud.gateway import packets as p
from local_cloud.gateway.faults import PubackFault
from local_cloud.gateway.packets import MQTT_5

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

MOST_UNDER_WAY = 1000  # of all QoS, where no limit is set


class _Pending:
    """A message whose PUBACK (packet id 0: none) is still to be sent."""

    __slots__ = ("done", "fault", "handling", "packet_id", "reason_code")

    def __init__(self, packet_id: int, fault: PubackFault | None) -> None:
        self.packet_id = packet_id
        self.fault = fault
        self.reason_code = p.SUCCESS
        self.done = False
        self.handling: asyncio.Future[None] | None = None  # held here: the loop itself keeps no task alive


class Pubacks:
    """`_unacked` are the packet ids that the client waits for, `_pending` the messages without PUBACK, oldest first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending: deque[_Pending] = deque()
        self._unacked: set[int] = set()

    def admit(self, packet_id: int) -> bool:
        """Whether one more message may await its PUBACK under this id; a refusal is answered here."""
        connection, limit = self._connection, self._connection.broker.limits.unacked_inbound
        if packet_id in self._unacked:
            if connection.version == MQTT_5:
                connection.send(p.Ack(p.PUBACK, packet_id, p.PACKET_IDENTIFIER_IN_USE))
            return False
        if limit is not None and connection.version == MQTT_5 and len(self._unacked) >= limit:
            connection.disconnect(p.RECEIVE_MAXIMUM_EXCEEDED, f"more than {limit} publishes await their PUBACK")
            return False
        self._unacked.add(packet_id)
        return True

    def accepted(self, packet: p.Publish, result: Awaitable[None] | None, fault: PubackFault | None) -> None:
        """A message was accepted: its PUBACK goes when `result`, if any, is there and all earlier ones have gone."""
        if result is None and fault is None and not self._pending:
            self._acknowledge(packet.packet_id, p.SUCCESS)
            return
        pending = self._append(packet.packet_id, fault)
        if result is None:
            self._succeeded(pending)
            return
        topic = packet.topic
        pending.handling = asyncio.ensure_future(result)
        pending.handling.add_done_callback(lambda done: self._handled(pending, done, topic))
        self._throttle_reading()

    def refused(self, packet_id: int, reason_code: int, fault: PubackFault | None = None) -> None:
        """A message was not accepted: its PUBACK says why, in its turn."""
        self._finished(self._append(packet_id, fault), reason_code)

    def _append(self, packet_id: int, fault: PubackFault | None) -> _Pending:
        pending = _Pending(packet_id, fault)
        self._pending.append(pending)
        return pending

    def _handled(self, pending: _Pending, future: asyncio.Future[None], topic: str) -> None:
        if future.cancelled():
            return  # the local cloud is stopping: no PUBACK for what was not finished
        if (error := future.exception()) is not None:
            self._connection.broker.failed(f"a message on {topic!r}", error)
            self._finished(pending, p.UNSPECIFIED_ERROR)
        else:
            self._succeeded(pending)

    def _succeeded(self, pending: _Pending) -> None:
        fault = pending.fault
        if fault is not None and fault.delay_s:
            self._connection.loop.call_later(fault.delay_s, self._finished, pending, p.SUCCESS)
        else:
            self._finished(pending, p.SUCCESS)

    def _finished(self, pending: _Pending, reason_code: int) -> None:
        pending.done, pending.reason_code = True, reason_code
        while self._pending and self._pending[0].done:
            self._settle(self._pending.popleft())
        self._throttle_reading()

    def _settle(self, pending: _Pending) -> None:
        fault = pending.fault
        if self._connection.closed or (fault is not None and fault.withhold):
            return
        if fault is not None and fault.drop:
            self._connection.abort()
            return
        self._acknowledge(pending.packet_id, pending.reason_code)

    def _acknowledge(self, packet_id: int, reason_code: int) -> None:
        if not packet_id:
            return
        connection = self._connection
        if reason_code and connection.version != MQTT_5:
            connection.disconnect(reason_code, "MQTT 3.1.1 has no failing PUBACK")
            return
        self._unacked.discard(packet_id)
        if reason_code:
            connection.send(p.Ack(p.PUBACK, packet_id, reason_code))
        else:
            connection.send_bytes(b"\x40\x02" + packet_id.to_bytes(2, "big"))

    def _throttle_reading(self) -> None:
        """No more is read while too much is under way; MQTT 5 clients count for themselves."""
        connection, limit = self._connection, self._connection.broker.limits.unacked_inbound
        full = limit is not None and connection.version != MQTT_5 and len(self._unacked) >= limit
        if full or len(self._pending) >= MOST_UNDER_WAY:
            connection.pause("unacked")
        else:
            connection.resume("unacked")
