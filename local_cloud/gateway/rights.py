"""What a device may do: its certificate's policies, evaluated per connection, remembered until the registry changes."""

from __future__ import annotations

from local_cloud.gateway.packets import MQTT_5, Connect
from local_cloud.gateway.policy import ALLOWED, Context, Statement, evaluate
from local_cloud.gateway.registry import Certificate, Registry

REMEMBERED_DECISIONS = 1000
# The kind of resource that each action is about.
_RESOURCES = {"Connect": "client", "Publish": "topic", "RetainPublish": "topic", "Receive": "topic",
              "Subscribe": "topicfilter"}


class Rights:
    """Decisions for one connection; `allow("Publish", topic)` is what the broker asks for every message."""

    def __init__(self, registry: Registry, certificate: Certificate, connect: Connect, source_ip: str) -> None:
        self._registry = registry
        self._certificate = certificate
        self._connect = connect
        self._source_ip = source_ip
        self._version = -1
        self._statements: list[Statement] = []
        self._context: Context = {}
        self._decided: dict[tuple[str, str], bool] = {}

    def allow(self, action: str, name: str) -> bool:
        """Whether the policies allow `iot:<action>` on that client id, topic or topic filter."""
        if self._version != self._registry.version:
            self._reload()
        decision = self._decided.get((action, name))
        if decision is None:
            if len(self._decided) >= REMEMBERED_DECISIONS:
                self._decided.clear()
            resource = self._registry.arn(_RESOURCES[action], name)
            decision = evaluate(self._statements, f"iot:{action}", resource, self._context) == ALLOWED
            self._decided[action, name] = decision
        return decision

    def _reload(self) -> None:
        self._version = self._registry.version
        self._statements = self._registry.statements(self._certificate)
        self._context = self._read_context()
        self._decided.clear()

    def _read_context(self) -> Context:
        connect, thing = self._connect, self._registry.attached_thing(self._certificate, self._connect.client_id)
        context: dict[str, str | tuple[str, ...]] = {
            "iot:ClientId": connect.client_id, "aws:SourceIp": self._source_ip,
            "iot:CertificateId": self._certificate.id, "iot:ConnectAttributes": _connect_attributes(connect),
            "iot:Connection.Thing.IsAttached": "true" if thing else "false",
        }
        if connect.will is not None:
            context["iot:LastWillTopic"] = self._registry.arn("topic", connect.will.topic)
        if thing is not None:
            context["iot:Connection.Thing.ThingName"] = thing.name
            if thing.type_name is not None:
                context["iot:Connection.Thing.ThingTypeName"] = thing.type_name
            context.update({f"iot:Connection.Thing.Attributes[{name}]": value
                            for name, value in thing.attributes.items()})
        return context


def _connect_attributes(connect: Connect) -> tuple[str, ...]:
    if connect.version == MQTT_5:
        persistent = bool(connect.properties.get("session_expiry_interval"))
    else:
        persistent = not connect.clean_start
    return ("PersistentConnect",) * persistent + ("LastWill",) * (connect.will is not None)
