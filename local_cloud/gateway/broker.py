"""The broker's core: sessions by client id, subscriptions, retained messages; connections hand it accepted messages.

The device gateway and the LAN broker are this same core with other `Rules`, `Limits` and functions: `admit` decides
on a CONNECT, `on_publish` is told of every accepted message. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local_cloud.gateway.faults import Counters, Faults
from local_cloud.gateway.limits import Limits, Rules
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.packets import MQTT_5, Connect, Subscription
from local_cloud.gateway.session import NEVER, Delivery, Session
from local_cloud.gateway.topics import SubscriptionIndex, has_wildcard, matches

if TYPE_CHECKING:
    from local_cloud.gateway.connection import Connection

LOG = logging.getLogger(__name__)
REMEMBERED_CONNECTS = 1000
Authorize = Callable[[str, str], bool]  # (IoT action without "iot:", topic or filter)
OnPublish = Callable[[Publish], "Awaitable[None] | None"]
Metered = Callable[[str, str, int], None]  # kind, topic or client id, bytes: as cost/meter.py reads them


def unmetered(kind: str, name: str, size_bytes: int) -> None:
    """Nobody bills a LAN."""


def unnoticed(connection: Connection) -> None:
    """A LAN broker tells nobody who is there."""


class Refused(Exception):
    """A CONNECT that is not admitted; `reason_code` is MQTT 5's, the text goes to the log."""

    def __init__(self, reason_code: int, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code


@dataclass
class Admission:
    """Who a connection is, and what it may do."""

    principal: str | None
    authorize: Authorize


Admit = Callable[["Connection", Connect], Admission]


class Broker:
    """Routes messages to sessions. `admit(connection, connect)` gives an Admission or raises Refused."""

    def __init__(self, rules: Rules, limits: Limits, admit: Admit, on_publish: OnPublish) -> None:
        self.rules = rules
        self.limits = limits
        self.admit = admit
        self.on_publish = on_publish
        self.faults = Faults()
        self.counters = Counters()
        self.metered: Metered = unmetered
        self.came: Callable[[Connection], None] = unnoticed  # a client was admitted, …
        self.gone: Callable[[Connection], None] = unnoticed  # … and its connection has ended
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Publish] = {}
        self.connections: set[Connection] = set()
        self.subscriptions = SubscriptionIndex(rules.hash_matches_parent)
        self._connects_s: dict[str, float] = {}
        self._followed: set[asyncio.Future[None]] = set()
        self.changes = 0  # counts what a saved state would have to be written again for
        self.faults.watch(self._link_changed)

    def _link_changed(self) -> None:
        for connection in list(self.connections):
            connection.follow_link(self.faults.link)

    def may_connect(self, client_id: str, now_s: float) -> bool:
        """Whether the client id may connect once more; a yes counts."""
        interval_s = self.limits.connect_interval_s
        if interval_s is None:
            return True
        last_s = self._connects_s.get(client_id)
        if last_s is not None and now_s - last_s < interval_s:
            return False
        if len(self._connects_s) > REMEMBERED_CONNECTS:
            self._connects_s = {one: at_s for one, at_s in self._connects_s.items() if now_s - at_s < interval_s}
        self._connects_s[client_id] = now_s
        return True

    def open_session(self, connection: Connection, connect: Connect, expiry_s: float | None) -> tuple[Session, bool]:
        """The client's session and whether an earlier one is resumed; a session's old connection must be gone."""
        session = self.sessions.get(connect.client_id)
        if session and session.version != connect.version and not self.rules.resumes_across_versions:
            self.end_session(session)
            session = None
        if session and connect.clean_start:
            self.end_session(session)
            session = None
        resumed = session is not None
        if session is None:
            session = self.sessions[connect.client_id] = Session(connect.client_id, connect.version)
        elif session.expiry_timer:
            session.expiry_timer.cancel()
            session.expiry_timer = None
        session.rewind(self.rules.sets_dup)
        session.version = connect.version
        session.expiry_s = expiry_s
        session.connection = connection
        self.changes += 1
        self.metered("message", "CONNECT", 0)
        self.metered("connected", connect.client_id, 0)
        self.came(connection)
        return session, resumed

    def release_session(self, session: Session) -> None:
        """The connection is gone: the session ends, or stays until it expires."""
        session.connection = None
        self.metered("disconnected", session.client_id, 0)
        if session.expiry_s == 0:
            self.end_session(session)
        elif session.expiry_s is not None:
            session.expiry_timer = asyncio.get_running_loop().call_later(session.expiry_s, self.end_session, session)

    def end_session(self, session: Session) -> None:
        """Forget a session that has no connection."""
        if session.expiry_timer:
            session.expiry_timer.cancel()
        for topic_filter in session.subscriptions:
            self.subscriptions.remove(session.client_id, topic_filter)
        session.subscriptions = {}
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        self.changes += 1

    def granted_expiry_s(self, connect: Connect) -> float | None:
        """How long the session outlives its connection, in this broker's limits; None is for ever."""
        longest = self.limits.session_expiry_s
        if connect.version != MQTT_5:
            return 0 if connect.clean_start else longest
        wanted = connect.properties.get("session_expiry_interval", 0)
        return self.capped_expiry_s(wanted)

    def capped_expiry_s(self, wanted_s: int) -> float | None:
        """An MQTT 5 session expiry interval in this broker's limits."""
        longest = self.limits.session_expiry_s
        if longest is not None:
            return min(wanted_s, longest)
        return None if wanted_s == NEVER else wanted_s

    def subscribe(self, session: Session, wanted: Subscription) -> list[Publish]:
        """Enter a valid, permitted subscription; the retained messages it brings, for the caller to deliver."""
        existed = wanted.topic_filter in session.subscriptions
        session.subscriptions[wanted.topic_filter] = wanted
        self.subscriptions.add(session.client_id, wanted)
        self.changes += 1
        if wanted.retain_handling == 2 or (wanted.retain_handling == 1 and existed):
            return []
        return self._retained_for(wanted.topic_filter)

    def _retained_for(self, topic_filter: str) -> list[Publish]:
        if not has_wildcard(topic_filter):
            found = [self.retained[topic_filter]] if topic_filter in self.retained else []
        elif self.rules.retained_needs_exact_filter:
            return []
        else:
            found = [message for topic, message in self.retained.items()
                     if matches(topic_filter, topic, self.rules.hash_matches_parent)]
        now_s = asyncio.get_running_loop().time()
        return [message for message in found if message.expires_at_s is None or message.expires_at_s > now_s]

    def unsubscribe(self, session: Session, topic_filter: str) -> bool:
        """End a subscription; False when there was none."""
        if session.subscriptions.pop(topic_filter, None) is None:
            return False
        self.subscriptions.remove(session.client_id, topic_filter)
        self.changes += 1
        return True

    def accept(self, message: Publish) -> Awaitable[None] | None:
        """Retain, route and hand on one permitted message; await the result, if any, before acknowledging it."""
        self.counters.publishes += 1
        if message.rule_name is None:
            if message.client_id or not message.topic.startswith("$"):  # what IoT itself tells is free to tell
                self.metered("message", message.topic, len(message.payload))
            if message.retain:
                self._retain(message)
            self.route(message)
        return self.on_publish(message)

    def follow(self, handle: OnPublish, message: Publish, what: str) -> None:
        """Have a message handled that no PUBACK waits for; a failure is logged and counted, not raised."""
        try:
            result = handle(message)
        except Exception as error:
            self.failed(what, error)
            return
        if result is not None:
            future = asyncio.ensure_future(result)
            self._followed.add(future)  # held here: the loop itself keeps no task alive
            future.add_done_callback(lambda done: self._ended(done, what))

    def _ended(self, future: asyncio.Future[None], what: str) -> None:
        self._followed.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self.failed(what, error)

    def failed(self, what: str, error: BaseException) -> None:
        """Log and count what the rule engine could not handle."""
        LOG.error("handling %s failed", what, exc_info=error)
        self.counters.failed += 1

    def _retain(self, message: Publish) -> None:
        self.changes += 1
        if message.payload:
            self.retained[message.topic] = message
        else:
            self.retained.pop(message.topic, None)

    def route(self, message: Publish) -> None:
        """Put a message into the session of every subscriber."""
        for client_id, subscription in self.subscriptions.matching(message.topic).items():
            if subscription.no_local and message.client_id == client_id:
                continue
            session = self.sessions[client_id]
            qos = min(message.qos, subscription.qos)
            if session.connection is None and not qos:
                continue
            session.queue.append(Delivery(message, qos, subscription.retain_as_published and message.retain))
            self.changes += 1
            if session.connection is not None:
                session.connection.deliver()

    def shut(self, reason_code: int) -> None:
        """Close every connection with that reason."""
        for connection in list(self.connections):
            connection.disconnect(reason_code)
