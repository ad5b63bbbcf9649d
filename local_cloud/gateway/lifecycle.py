"""Lifecycle events: that a client connected or disconnected, as AWS IoT publishes it on $aws/events/presence/….

The broker calls when a session opens and when its connection ends; the events go to subscribers and the rule engine.
They come once and in order here; on AWS they may come twice, in any order, and their time is good to two minutes.
"""
from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_cloud.gateway import packets as p

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

PREFIX = "$aws/events/presence"
FORGOTTEN_MS = 3600 * 1000  # a client that was away for so long begins at version 0 again
CONNECTION_LOST, CLIENT_INITIATED = "CONNECTION_LOST", "CLIENT_INITIATED_DISCONNECT"
# By the reason code with which this side ended it; whatever else it says of the client is its error.
REASONS = {p.KEEP_ALIVE_TIMEOUT: "MQTT_KEEP_ALIVE_TIMEOUT", p.SESSION_TAKEN_OVER: "DUPLICATE_CLIENTID",
           p.ADMINISTRATIVE_ACTION: "API_INITIATED_DISCONNECT", p.NOT_AUTHORIZED: "AUTH_ERROR",
           p.QUOTA_EXCEEDED: "THROTTLED", p.UNSPECIFIED_ERROR: "SERVER_ERROR"}
CLIENT_ERROR = "CLIENT_ERROR"
Tell = Callable[[str, bytes], None]  # topic, payload


@dataclass
class Presence:
    """One client id: the version of its latest connection, and since when it is away (None: connected)."""

    version: int
    session: str
    away_ms: int | None = None


class Lifecycle:
    """Tells of connections; `tell` publishes an event, `now_ms` is the wall clock."""

    def __init__(self, tell: Tell, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._tell, self._now_ms = tell, now_ms
        self._known: dict[str, Presence] = {}
        self._open: dict[Connection, Presence] = {}

    def came(self, connection: Connection) -> None:
        """A client was admitted."""
        now_ms, client_id = self._now_ms(), connection.client_id
        self._known = {name: one for name, one in self._known.items()
                       if one.away_ms is None or now_ms - one.away_ms < FORGOTTEN_MS}
        before = self._known.get(client_id)
        presence = Presence(before.version + 1 if before else 0, str(uuid.uuid4()))
        self._known[client_id] = self._open[connection] = presence
        self._publish("connected", connection, presence, now_ms, {})

    def gone(self, connection: Connection) -> None:
        """A client's connection has ended; nothing is said when it is this gateway that ends."""
        presence = self._open.pop(connection, None)
        if presence is None or connection.ended_by == p.SERVER_SHUTTING_DOWN:
            return
        now_ms, reason = self._now_ms(), _reason(connection.ended_by)
        presence.away_ms = now_ms
        self._publish("disconnected", connection, presence, now_ms, {
            "clientInitiatedDisconnect": reason == CLIENT_INITIATED, "disconnectReason": reason})

    def _publish(self, kind: str, connection: Connection, presence: Presence, now_ms: int,
                 further: dict[str, Any]) -> None:
        client_id = connection.client_id
        if "#" in client_id or "+" in client_id:
            return  # as on AWS
        event = {"clientId": client_id, "timestamp": now_ms, "eventType": kind, **further,
                 "sessionIdentifier": presence.session, "principalIdentifier": connection.principal,
                 "ipAddress": connection.source_ip, "versionNumber": presence.version}
        if kind == "disconnected":
            del event["ipAddress"]  # only a connection's beginning tells it
        self._tell(f"{PREFIX}/{kind}/{client_id}", json.dumps(event).encode())


def _reason(ended_by: int | None) -> str:
    """AWS's word for it. None: the connection broke; SUCCESS: the client took its leave."""
    if ended_by is None:
        return CONNECTION_LOST
    return CLIENT_INITIATED if ended_by == p.SUCCESS else REASONS.get(ended_by, CLIENT_ERROR)
