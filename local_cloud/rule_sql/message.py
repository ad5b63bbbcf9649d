"""One published message as the rules engine sees it: made by the gateway or the CLI, read by statements."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from local_cloud.rule_sql.json_text import loads
from local_cloud.rule_sql.values import UNDEFINED

_BASIC_INGEST = "$aws/rules/"


@dataclass
class Message:
    """A message with what its connection told about it; a Basic Ingest topic is split into rule name and rest.

    `client_id` None means it did not come over MQTT. `mqtt5` holds contentType, payloadFormatIndicator,
    responseTopic, correlationData (bytes, or text in base64) and userProperties (a list of (key, value)).
    """

    topic: str
    payload: bytes
    client_id: str | None = None
    timestamp_ms: int | None = None
    account_id: str = "123456789012"
    trace_id: str | None = None
    source_ip: str | None = None
    principal: str | None = None
    mqtt5: dict[str, Any] = field(default_factory=dict)
    rule_name: str | None = None
    # SET variables by statement, so that newuuid() in one is the same in SELECT and in every action's template.
    variables: dict[object, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.topic.startswith(_BASIC_INGEST):
            self.rule_name, _, self.topic = self.topic[len(_BASIC_INGEST) :].partition("/")
        if self.trace_id is None and self.client_id is not None:
            self.trace_id = str(uuid.uuid4())

    @cached_property
    def received_ms(self) -> int:
        """Epoch milliseconds at which the engine saw the message; the same for every action of it."""
        return int(time.time() * 1000) if self.timestamp_ms is None else self.timestamp_ms

    @cached_property
    def document(self) -> Any:
        """The parsed payload when it is a JSON object or array; else UNDEFINED, and `*` is the raw bytes."""
        try:
            value = loads(self.payload)
        except ValueError:
            return UNDEFINED
        return value if isinstance(value, dict | list) else UNDEFINED
