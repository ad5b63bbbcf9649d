"""The device gateway: devices come in by its entrance, their messages leave for subscribers and the rule engine.

Made by the local cloud with the registry that the template filled; `on_publish` is the rule engine's door.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from local_cloud.gateway import packets as p
from local_cloud.gateway.broker import Admission, Broker, OnPublish, Refused
from local_cloud.gateway.connection import Connection
from local_cloud.gateway.entrance import Entrance
from local_cloud.gateway.faults import Counters, Faults
from local_cloud.gateway.lifecycle import Lifecycle
from local_cloud.gateway.limits import AWS_RULES, Limits
from local_cloud.gateway.messages import Publish
from local_cloud.gateway.registry import Registry
from local_cloud.gateway.rights import Rights
from local_cloud.gateway.shadows import Shadows, asked
from local_cloud.gateway.topics import is_rule_name, is_topic_name, split_basic_ingest
from local_cloud.pki import LocalCa


class Gateway:
    """IoT Core's MQTT endpoint on a port of this machine.

    `limits` may be changed in place or replaced at run time; `faults` is the switchboard; `counters` what happened.
    """

    def __init__(self, registry: Registry, limits: Limits, on_publish: OnPublish, ca: LocalCa) -> None:
        self.registry = registry
        self.broker = Broker(AWS_RULES, limits, self._admit, self._published)
        self.shadows = Shadows(registry.things, partial(self._announce, qos=1),
                               lambda: self.limits.shadow_requests_per_s,
                               metered=lambda name, size_bytes: self.broker.metered("shadow", name, size_bytes))
        self.lifecycle = Lifecycle(self._announce)
        self.broker.came, self.broker.gone = self.lifecycle.came, self.lifecycle.gone
        self._on_publish = on_publish
        self._entrance = Entrance(self.broker, registry, ca)
        self.port = 0
        registry.watch(self._certificate_changed)

    @property
    def limits(self) -> Limits:
        """The quotas in force."""
        return self.broker.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.broker.limits = limits

    @property
    def faults(self) -> Faults:
        """The fault switchboard."""
        return self.broker.faults

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self.broker.counters

    @property
    def retained(self) -> dict[str, Publish]:
        """Retained messages by topic."""
        return self.broker.retained

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port in use is returned and kept in `port`. OSError when the port is taken."""
        self.port = await self._entrance.open(host, port)
        return self.port

    async def close(self) -> None:
        """Tell the clients, then stop listening."""
        await self._entrance.close()

    async def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False,
                      properties: p.Properties | None = None) -> None:
        """Publish from the cloud's side (iot-data, republish): to subscribers and, as on AWS, to the rule engine.

        Returns when the rule engine has taken it. ValueError for a topic or QoS that AWS would refuse.
        """
        rule_name, name = split_basic_ingest(topic)
        offered = not topic.startswith("$") or (asked(topic) if rule_name is None else is_rule_name(rule_name))
        if not is_topic_name(topic) or not offered:
            raise ValueError(f"cannot publish to topic {topic!r}: no wildcards and no reserved topics but $aws/rules/… "
                             "and a shadow's get, update and delete")
        if qos not in (0, 1):
            raise ValueError(f"cannot publish with QoS {qos}: 0 or 1 expected")
        result = self.broker.accept(Publish(name, payload, qos, retain, rule_name=rule_name,
                                            properties=dict(properties or {})))
        if result is not None:
            await result

    def _published(self, message: Publish) -> Awaitable[None] | None:
        """Every accepted message: to the rule engine, and what asks for a shadow to the shadows."""
        result = self._on_publish(message)
        if message.rule_name is None and (request := asked(message.topic)):
            self.shadows.answer(request, message.payload)
        return result

    def _announce(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """A lifecycle event or what a shadow answers, to subscribers and the rule engine; it is nobody's publish."""
        message = Publish(topic, payload, qos)
        self.broker.route(message)
        self.broker.follow(self._on_publish, message, f"AWS IoT's own message on {topic!r}")

    def disconnect(self, client_id: str) -> bool:
        """End a client's connection by administrative action; False when it has none."""
        session = self.broker.sessions.get(client_id)
        if session is None or session.connection is None:
            return False
        session.connection.disconnect(p.ADMINISTRATIVE_ACTION, "disconnected by administrative action")
        return True

    def _admit(self, connection: Connection, connect: p.Connect) -> Admission:
        identity = connection.principal or ""
        certificate = self.registry.active(identity)
        if certificate is None:
            raise Refused(p.NOT_AUTHORIZED, f"certificate {identity} is not active")
        rights = Rights(self.registry, certificate, connect, connection.source_ip)
        if not rights.allow("Connect", connect.client_id):
            raise Refused(p.NOT_AUTHORIZED, f"no policy of certificate {identity[:12]}… lets client id "
                                            f"{connect.client_id!r} connect")
        return Admission(identity, rights.allow)

    def _certificate_changed(self, identity: str) -> None:
        if self.registry.active(identity) is not None:
            return
        for connection in list(self.broker.connections):
            if connection.principal == identity:
                connection.disconnect(p.ADMINISTRATIVE_ACTION, f"certificate {identity} is no longer active")
