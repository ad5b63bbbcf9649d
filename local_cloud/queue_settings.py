"""What a template sets of a queue: AWS::SQS::Queue properties in, QueueSettings for queues.py out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local_cloud.errors import Unsupported
from local_cloud.properties import flag, integer, refuse_unknown

MAX_WAIT_S = 20
MAX_VISIBILITY_S = 43_200


@dataclass(slots=True)
class QueueSettings:
    """What a template may set of a queue; times in seconds."""

    visibility_s: int = 30
    retention_s: int = 345_600
    delay_s: int = 0
    max_size_bytes: int = 1_048_576
    wait_s: int = 0
    dead_letter_arn: str | None = None
    max_receive_count: int = 0
    redrive_allow: dict[str, Any] = field(default_factory=dict)


def settings_from(properties: Mapping[str, Any]) -> QueueSettings:
    """Read AWS::SQS::Queue properties; Unsupported names a value that is not honoured."""
    where = "AWS::SQS::Queue"
    if "FifoQueue" in properties and flag(f"{where}.FifoQueue", properties["FifoQueue"]):
        raise Unsupported("FifoQueue: IoT rules cannot write to FIFO queues and none are emulated; "
                          "use a standard queue")

    def number(name: str, default: int, lowest: int, highest: int) -> int:
        return integer(f"{where}.{name}", properties.get(name, default), lowest, highest)

    settings = QueueSettings(
        visibility_s=number("VisibilityTimeout", 30, 0, MAX_VISIBILITY_S),
        retention_s=number("MessageRetentionPeriod", 345_600, 60, 1_209_600),
        delay_s=number("DelaySeconds", 0, 0, 900),
        max_size_bytes=number("MaximumMessageSize", 1_048_576, 1024, 1_048_576),
        wait_s=number("ReceiveMessageWaitTimeSeconds", 0, 0, MAX_WAIT_S),
        redrive_allow=json_object(properties.get("RedriveAllowPolicy")))
    redrive = json_object(properties.get("RedrivePolicy"))
    if redrive:
        refuse_unknown(f"{where}.RedrivePolicy", redrive, {"deadLetterTargetArn", "maxReceiveCount"})
        settings.dead_letter_arn = str(redrive["deadLetterTargetArn"])
        settings.max_receive_count = integer(f"{where}.RedrivePolicy.maxReceiveCount",
                                             redrive.get("maxReceiveCount"), 1, 1000)
    return settings


def json_object(value: Any) -> dict[str, Any]:
    """A policy given as an object or as its JSON text."""
    return dict(json.loads(value) if isinstance(value, str) else value or {})
