"""What queue_poller.py and stream_poller.py share: AWS::Lambda::EventSourceMapping properties, and what a handler's
answer says about each record of a batch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.event_filter import Test, compile_criteria
from local_cloud.functions import MAX_REQUEST_BYTES
from local_cloud.properties import flag, integer

WHERE = "AWS::Lambda::EventSourceMapping"
MAX_PAYLOAD_BYTES = MAX_REQUEST_BYTES - 4096
_QUEUES_ONLY = ("ScalingConfig",)
_STREAMS_ONLY = ("StartingPosition", "ParallelizationFactor", "BisectBatchOnFunctionError", "MaximumRetryAttempts",
                 "MaximumRecordAgeInSeconds", "DestinationConfig")


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """One mapping as the template wants it; -1 means without limit, as in the template."""

    source_arn: str
    enabled: bool
    batch_size: int
    window_s: int
    partial_failures: bool
    keep: Test | None
    max_concurrency: int = 1000
    starting_position: str = "TRIM_HORIZON"
    bisect: bool = False
    max_retries: int = -1
    max_record_age_s: int = -1
    on_failure_arn: str | None = None


def queue_settings(properties: Mapping[str, Any]) -> MappingSettings:
    """Properties of a mapping whose source is a queue."""
    _refuse(properties, _STREAMS_ONLY, "a queue")
    settings = _shared(properties, default_batch=10)
    if settings["batch_size"] > 10 and settings["window_s"] < 1:
        raise DeployError(f"{WHERE}.BatchSize: {settings['batch_size']} needs MaximumBatchingWindowInSeconds ≥ 1")
    concurrency = properties.get("ScalingConfig", {}).get("MaximumConcurrency", 1000)
    return MappingSettings(**settings, max_concurrency=integer(f"{WHERE}.ScalingConfig.MaximumConcurrency",
                                                               concurrency, 2, 1000))


def stream_settings(properties: Mapping[str, Any]) -> MappingSettings:
    """Properties of a mapping whose source is a DynamoDB stream."""
    _refuse(properties, _QUEUES_ONLY, "a stream")
    position = properties.get("StartingPosition")
    if position not in ("TRIM_HORIZON", "LATEST"):
        raise DeployError(f"{WHERE}.StartingPosition: got {position!r}, expected TRIM_HORIZON or LATEST")

    def number(name: str, default: int, lowest: int, highest: int) -> int:
        return integer(f"{WHERE}.{name}", properties.get(name, default), lowest, highest)

    number("ParallelizationFactor", 1, 1, 10)  # more would only speed up; order per key holds with one batch at a time
    return MappingSettings(
        **_shared(properties, default_batch=100), starting_position=position,
        bisect=flag(f"{WHERE}.BisectBatchOnFunctionError", properties.get("BisectBatchOnFunctionError", False)),
        max_retries=number("MaximumRetryAttempts", -1, -1, 10_000),
        max_record_age_s=number("MaximumRecordAgeInSeconds", -1, -1, 604_800),
        on_failure_arn=properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"))


def _refuse(properties: Mapping[str, Any], names: Collection[str], source: str) -> None:
    for name in names:
        if name in properties:
            raise DeployError(f"{WHERE}.{name}: not for {source}; take it out (AWS refuses it too)")


def _shared(properties: Mapping[str, Any], default_batch: int) -> dict[str, Any]:
    kinds = properties.get("FunctionResponseTypes", [])
    if set(kinds) - {"ReportBatchItemFailures"}:
        raise Unsupported(f"FunctionResponseTypes: {kinds} holds more than ReportBatchItemFailures")
    return {
        "source_arn": properties["EventSourceArn"],
        "enabled": flag(f"{WHERE}.Enabled", properties.get("Enabled", True)),
        "batch_size": integer(f"{WHERE}.BatchSize", properties.get("BatchSize", default_batch), 1, 10_000),
        "window_s": integer(f"{WHERE}.MaximumBatchingWindowInSeconds",
                            properties.get("MaximumBatchingWindowInSeconds", 0), 0, 300),
        "partial_failures": bool(kinds), "keep": compile_criteria(properties.get("FilterCriteria", {}))}


def failed_identifiers(payload: bytes, known: Collection[str]) -> set[str] | None:
    """The record ids that a successful answer names in batchItemFailures; None when the whole batch counts as failed
    (an id that is empty, missing or not of this batch, or an answer of the wrong shape)."""
    try:
        answer = json.loads(payload or b"null")
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return set()
    failures = answer.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        return None
    found = {str(entry.get("itemIdentifier")) if isinstance(entry, dict) else "" for entry in failures}
    return found if found <= set(known) else None


def event_of(records: list[bytes]) -> bytes:
    """The event of a batch from its records, each already JSON."""
    return b'{"Records":[' + b",".join(records) + b"]}"
