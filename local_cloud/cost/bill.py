"""The bill of a running local cloud: what its services counted, and what its template costs each month, priced.

Read at the control port (`GET /bill`). Each row is usage since the start: {"meter", "resource" (its logical id where
it has one), "origin", "quantity", "usd"}; `monthly` is what costs the same whether anything comes or not; `publishes`
are the messages to topics that each function sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from local_cloud.cost.calls import FunctionCalls
from local_cloud.cost.meter import Usage
from local_cloud.cost.prices import MONTH_S, Prices
from local_cloud.functions import Function
from local_cloud.queue_poller import QueuePoller
from local_cloud.services import LocalServices

FIREHOSE_STEP_BYTES = 5120
LOG_LINE_BYTES = 26  # CloudWatch adds them to each line
_UNIT_S = {"minute": 60, "hour": 3600, "day": 86_400}


class Deployed(Protocol):
    """What the bill reads of a deployed resource."""

    @property
    def kind(self) -> str: ...
    @property
    def logical_id(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def properties(self) -> dict[str, Any]: ...


def bill(services: LocalServices, calls: FunctionCalls, resources: Iterable[Deployed], prices: Prices,
         seconds: float) -> dict[str, Any]:
    """Everything as one JSON object; seconds: how long the cloud has run."""
    deployed = list(resources)
    # From behind: what was made first has the name, and a policy, made later, refers to it by the same.
    logical = {name: one.logical_id for one in reversed(deployed) for name in (one.ref, one.ref.rpartition("/")[2])}
    backed_up = {one.ref for one in deployed if _backed_up(one.properties)}
    services.iot_meter.read()
    found = [*services.meter.usage(), *collected(services, calls, prices)]
    found += [replace(one, meter="dynamodb.backup_gb_month") for one in found
              if one.meter == "dynamodb.gb_month" and one.resource in backed_up]
    rows = [row(replace(one, resource=logical.get(one.resource, one.resource), origin=_named(one.origin, logical)),
                prices) for one in found]
    template = ((one.kind, one.logical_id, one.properties) for one in deployed)
    monthly = [row(one, prices) for one in fixed(template, prices)]
    return {"currency": "USD", "prices_as_of": prices.as_of, "seconds": round(seconds, 3), "rows": rows,
            "monthly": monthly, "measured_ms": _measured(services, logical),
            "publishes": {logical.get(name, name): count for (name, kind), count in calls.counters.items()
                          if kind == "publishes"}}


def row(one: Usage, prices: Prices) -> dict[str, Any]:
    """Usage with its price; storage is priced as one month of it."""
    return {"meter": one.meter, "resource": one.resource, "origin": one.origin,
            "quantity": round(one.quantity, 9), "usd": prices.usd(one.meter, one.quantity)}


def _backed_up(properties: Mapping[str, Any]) -> bool:
    return bool(properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"))


def _named(origin: str, logical: Mapping[str, str]) -> str:
    """The origin, its first word (a name, or the ARN of a queue or a table's stream) by logical id."""
    first, space, rest = origin.partition(" ")
    name = first
    if first.startswith("arn:aws:sqs:"):
        name = first.rpartition(":")[2]
    elif first.startswith("arn:aws:dynamodb:"):
        name = first.split("/")[1]
    return logical.get(name, first) + space + rest


def collected(services: LocalServices, calls: FunctionCalls, prices: Prices) -> Iterator[Usage]:
    """What the services' own counters say, in units that AWS meters."""
    for name in services.rules.names():
        counters = services.rules.rule(name).counters
        yield Usage("iot.rule", name, "", counters["rule_units"])
        yield Usage("iot.action", name, "", counters["action_units"])
    for name in services.queues.names():
        queue = services.queues.by_name(name)
        yield Usage("sqs.request", queue.url, "send", queue.counters["send_requests"])
    for name in services.firehose.names():
        stream = services.firehose.by_name(name)
        yield Usage("firehose.gb", name, "", stream.counters["metered_5kb"] * FIREHOSE_STEP_BYTES / 1e9)
        yield Usage("s3.put", stream.settings.bucket, name, stream.counters["objects"])
        yield Usage("s3.gb_month", stream.settings.bucket, name, stream.counters["object_bytes"] / 1e9)
    for api_id, api in services.apis.items():
        yield Usage("api.request", api_id, "", api.counters["metered_512kb"])
    for poller in services.pollers.values():
        if isinstance(poller, QueuePoller):
            yield Usage("sqs.request", poller.source_url, "receive and delete", poller.counters["requests"])
    for name in services.functions.names():
        function = services.functions.by_name(name)
        assert function is not None
        yield from _function(function, services, calls, prices)


def _function(function: Function, services: LocalServices, calls: FunctionCalls, prices: Prices) -> Iterator[Usage]:
    """Requests and GB-seconds by what invoked the function; the time in proportion to the invocations."""
    counters = function.counters
    total = counters["invocations"]
    if not total:
        return
    feeding = [poller for poller in services.pollers.values() if poller.feeds(function)]
    by_source: dict[str, float] = {poller.settings.source_arn: poller.counters["batches"] for poller in feeding}
    by_source[""] = total - sum(by_source.values())
    memory_mb = function.settings.memory_mb
    ms = prices.lambda_ms(invocations=total, event_bytes=counters["event_bytes"], memory_mb=memory_mb, publishes=0,
                          calls=calls.counters[function.name, "calls"])
    publishing_ms = prices.assumptions["publish_ms"] * calls.counters[function.name, "publishes"]
    meter = "lambda.gb_s" if function.settings.architecture == "arm64" else "lambda.gb_s_x86"
    for source, count in by_source.items():
        yield Usage("lambda.request", function.name, source, count)
        yield Usage(meter, function.name, source, ms / 1000 * memory_mb / 1024 * count / total)
    yield Usage(meter, function.name, "publishing", publishing_ms / 1000 * memory_mb / 1024)
    yield Usage("logs.gb", function.name, "", log_bytes(function) / 1e9)


def log_bytes(function: Function) -> int:
    """What CloudWatch would take in of a function's log; its file holds the platform's own lines too."""
    written = b"".join(path.read_bytes() for path in (function.log_path.with_suffix(".log.1"), function.log_path)
                       if path.exists())
    lines = written.splitlines()
    if not function.settings.platform_logged:
        lines = [line for line in lines if b'"type": "platform.' not in line]
    return sum(len(line) + LOG_LINE_BYTES for line in lines)


def _measured(services: LocalServices, logical: Mapping[str, str]) -> dict[str, Any]:
    """How long invocations took here, for comparison: {function: {"invocations", "mean_ms"}}."""
    found = {}
    for name in services.functions.names():
        function = services.functions.by_name(name)
        if function is not None and (count := function.counters["invocations"]):
            found[logical.get(name, name)] = {
                "invocations": int(count), "mean_ms": round(function.counters["duration_ms"] / count, 2)}
    return found


def fixed(resources: Iterable[tuple[str, str, Mapping[str, Any]]], prices: Prices) -> Iterator[Usage]:
    """Each month's usage that does not depend on what comes in: (type, logical id, properties) of a template."""
    assumed = prices.assumptions
    polls = assumed["pollers_per_queue"] * MONTH_S / assumed["long_poll_s"]
    for kind, logical_id, properties in resources:
        if kind == "AWS::CloudWatch::Alarm":
            yield Usage("cloudwatch.alarm", logical_id, "", _alarm_metrics(properties))
        elif kind == "AWS::CloudWatch::CompositeAlarm":
            yield Usage("cloudwatch.composite_alarm", logical_id, "", 1)
        elif kind == "AWS::CloudWatch::Dashboard":
            yield Usage("cloudwatch.dashboard", logical_id, "", 1)
        elif kind == "AWS::Lambda::EventSourceMapping" and "StartingPosition" not in properties:
            yield Usage("sqs.request", logical_id, "idle polling", polls)
        elif kind == "AWS::Events::Rule" and "ScheduleExpression" in properties:
            yield Usage("lambda.request", logical_id, "schedule",
                        MONTH_S / period_s(properties["ScheduleExpression"]) * len(properties.get("Targets", [1])))


def _alarm_metrics(properties: Mapping[str, Any]) -> int:
    """An alarm is billed for each metric that it looks at; a query for those that it finds, which while nothing fails
    are none."""
    return sum("MetricStat" in one for one in properties.get("Metrics", ())) + ("MetricName" in properties)


def period_s(expression: str) -> float:
    """Seconds between two runs of `rate(5 minutes)`; a cron expression counts as once a day."""
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    return int(found[1]) * _UNIT_S[found[2]] if found else 86_400.0
