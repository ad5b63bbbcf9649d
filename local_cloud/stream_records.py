"""DynamoDB stream records as Lambda hands them to a function: boto3's records in, JSON for stream_shard.py out."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local_cloud.event_filter import Test


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record of a shard; `body` is its JSON in a Lambda event."""

    sequence_number: str
    created_at_s: float
    body: bytes


def changes_nothing(record: Mapping[str, Any]) -> bool:
    """Whether old and new image are equal: AWS makes no record of such a put, moto does."""
    change = record["dynamodb"]
    return "NewImage" in change and change.get("NewImage") == change.get("OldImage")


def convert(record: Mapping[str, Any], stream_arn: str, keep: Test | None = None) -> StreamRecord | None:
    """The record in Lambda's shape, None when `keep` (the filter criteria) does not want it."""
    change = dict(record["dynamodb"])
    created_at_s = _seconds(change.get("ApproximateCreationDateTime", 0))
    change["ApproximateCreationDateTime"] = round(created_at_s, 3)
    shaped = {"eventID": record["eventID"], "eventName": record["eventName"], "eventVersion": "1.1",
              "eventSource": "aws:dynamodb", "awsRegion": stream_arn.split(":")[3], "dynamodb": change,
              "eventSourceARN": stream_arn}
    if keep is not None and not keep(shaped):
        return None
    return StreamRecord(change["SequenceNumber"], created_at_s, json.dumps(shaped, default=_binary).encode())


def _seconds(at: Any) -> float:
    return at.timestamp() if isinstance(at, datetime) else float(at)


def _binary(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise TypeError(f"a stream record holds {type(value).__name__}, which JSON cannot carry")
