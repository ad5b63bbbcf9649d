"""An accepted message on its way: from a client's PUBLISH (or the cloud) to subscribers and the rule engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from local_cloud.gateway.packets import Properties

# Property names as AWS's rule SQL and APIs spell them, by the names on the wire.
_AWS_NAMES = {
    "payload_format_indicator": "payloadFormatIndicator", "content_type": "contentType",
    "response_topic": "responseTopic", "correlation_data": "correlationData",
    "message_expiry_interval": "messageExpiryInterval", "user_property": "userProperties",
}


@dataclass(slots=True)
class Publish:
    """One message; `topic` lacks the Basic Ingest prefix when `rule_name` is set.

    `client_id`, `principal` (the certificate id) and `source_ip` are None for a message from the cloud's side.
    `expires_at_s` is on the event loop's clock. `properties` has the names of the MQTT standard.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    client_id: str | None = None
    principal: str | None = None
    source_ip: str | None = None
    rule_name: str | None = None
    properties: Properties = field(default_factory=dict)
    expires_at_s: float | None = None

    @property
    def mqtt5(self) -> dict[str, Any]:
        """The MQTT 5 properties by AWS's names, user properties as a list of [name, value]."""
        found = {_AWS_NAMES[name]: value for name, value in self.properties.items() if name in _AWS_NAMES}
        if "userProperties" in found:
            found["userProperties"] = [list(pair) for pair in found["userProperties"]]
        return found


def forwardable(properties: Properties) -> Properties:
    """What of a PUBLISH's properties travels on to subscribers."""
    return {name: value for name, value in properties.items() if name in _AWS_NAMES}
