"""Where metrics come from: the counters of every running service, and what functions print in CloudWatch's embedded
metric format. Each look puts what is new since the last one into metrics.py."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local_cloud.functions import Function
from local_cloud.metrics import Metrics
from local_cloud.queues import Queue
from local_cloud.resources.registry import Services

log = logging.getLogger(__name__)

MARK = b'"_aws"'
Value = tuple[str, str, dict[str, str], float]  # namespace, name, dimensions, value


class Tail:
    """The lines that were added to a log since the last look; a log that was set aside begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def lines(self) -> list[bytes]:
        """Whole lines only: the last one may still be on its way."""
        size_bytes = self._path.stat().st_size if self._path.exists() else 0
        if size_bytes < self._read_bytes:
            self._read_bytes = 0
        if size_bytes == self._read_bytes:
            return []
        with self._path.open("rb") as written:
            written.seek(self._read_bytes)
            whole, newline, _ = written.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        return whole.splitlines()


def embedded(line: bytes) -> Iterator[Value]:
    """The values of one line in embedded metric format; ValueError says what is wrong with it."""
    document = json.loads(line)
    if not isinstance(document, dict) or not isinstance(document.get("_aws"), dict):
        return  # a line that only speaks of it
    try:
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for keys in directive.get("Dimensions") or [[]]:
                dimensions = {key: str(document[key]) for key in keys}
                for metric in directive["Metrics"]:
                    values = document[metric["Name"]]
                    for value in values if isinstance(values, list) else [values]:
                        yield str(directive["Namespace"]), str(metric["Name"]), dimensions, float(value)
    except (KeyError, TypeError, AttributeError) as fault:
        raise ValueError(f"embedded metrics lack or misuse {fault}") from fault


class Sources:
    """Reads everything that runs; `look` is to be called often."""

    def __init__(self, services: Services, metrics: Metrics) -> None:
        self._services = services
        self._metrics = metrics
        self._before: dict[tuple[str, ...], float] = {}
        self._tails: dict[str, Tail] = {}

    def look(self, now_s: float) -> None:
        """Put what is new into the metrics, with the time of this look."""
        for namespace, name, dimensions, value in (
                *self._queues(now_s), *self._functions(), *self._rules(), *self._apis(), *self._streams()):
            self._metrics.put(namespace, name, dimensions, value, now_s)

    def _more(self, *counter: str, value: float) -> float:
        """By how much a counter grew; one that fell was begun anew."""
        before = self._before.get(counter, 0.0)
        self._before[counter] = value
        return value - before if value >= before else value

    def _grown(self, namespace: str, dimensions: dict[str, str], counters: Mapping[str, float]) -> Iterator[Value]:
        """(metric: counter) -> a value for each metric whose counter grew."""
        for name, value in counters.items():
            if more := self._more(namespace, name, *dimensions.values(), value=value):
                yield namespace, name, dimensions, more

    def _queues(self, now_s: float) -> Iterator[Value]:
        for queue in self._services.queues.all():
            yield from self._queue(queue, {"QueueName": queue.name}, now_s)

    def _queue(self, queue: Queue, of: dict[str, str], now_s: float) -> Iterator[Value]:
        for kind, count in zip(("Visible", "NotVisible", "Delayed"), queue.depth(), strict=True):
            yield "AWS/SQS", f"ApproximateNumberOfMessages{kind}", of, count
        sent_ms = queue.oldest_sent_at_ms()
        age_s = 0.0 if sent_ms is None else max(0.0, now_s - sent_ms / 1000)
        yield "AWS/SQS", "ApproximateAgeOfOldestMessage", of, age_s
        counters = queue.counters
        yield from self._grown("AWS/SQS", of, {
            "NumberOfMessagesSent": counters["send"], "NumberOfMessagesReceived": counters["received"],
            "NumberOfMessagesDeleted": counters["delete"]})

    def _functions(self) -> Iterator[Value]:
        for function in self._services.functions.all():
            yield from self._function(function, {"FunctionName": function.name})
            yield from self._printed(function)

    def _function(self, function: Function, of: dict[str, str]) -> Iterator[Value]:
        namespace = "AWS/Lambda"
        while function.durations_ms:
            yield namespace, "Duration", of, function.durations_ms.popleft()
        while function.iterator_ages_ms:
            yield namespace, "IteratorAge", of, function.iterator_ages_ms.popleft()
        errors = self._more(namespace, "Errors", function.name, value=function.counters["errors"])
        if more := self._more(namespace, "Invocations", function.name, value=function.counters["invocations"]):
            yield namespace, "Invocations", of, more
            yield namespace, "Errors", of, errors
            yield namespace, "Throttles", of, 0.0  # further calls wait here for their turn

    def _printed(self, function: Function) -> Iterator[Value]:
        tail = self._tails.setdefault(function.name, Tail(function.log_path))
        for line in tail.lines():
            if MARK in line:
                try:
                    yield from embedded(line)
                except ValueError as fault:
                    log.error("function %s printed metrics that CloudWatch would not take: %s: %.200r", function.name,
                              fault, line)

    def _rules(self) -> Iterator[Value]:
        rules: Any = self._services.rules
        for name, count in rules.not_found.items():
            yield from self._grown("AWS/IoT", {"RuleName": name}, {"RuleNotFound": count})
        for name in rules.names():
            rule = rules.rule(name)
            yield from self._grown("AWS/IoT", {"RuleName": name}, {"TopicMatch": rule.counters["evaluated"]})
            for (metric, action), count in rule.outcomes.items():
                yield from self._grown("AWS/IoT", {"RuleName": name, "ActionType": action}, {metric: count})

    def _apis(self) -> Iterator[Value]:
        for api_id, api in self._services.apis.items():
            yield from self._grown("AWS/ApiGateway", {"ApiId": api_id}, {
                "Count": api.counters["requests"], "4xx": api.counters["status_4xx"],
                "5xx": api.counters["status_5xx"]})

    def _streams(self) -> Iterator[Value]:
        for stream in self._services.firehose.all():
            counters = stream.counters
            yield from self._grown("AWS/Firehose", {"DeliveryStreamName": stream.name}, {
                "IncomingRecords": counters["records"], "IncomingBytes": counters["record_bytes"],
                "DeliveryToS3.Records": counters["delivered"]})
