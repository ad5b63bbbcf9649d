"""CloudWatch metrics of this local cloud: metric_sources.py puts values in, alarms ask for statistics over a window.

Values are summed up per second, which is finer than any period, and forgotten when no alarm looks back that far.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

STATISTICS = ("Sum", "Average", "Minimum", "Maximum", "SampleCount")
Dimensions = frozenset[tuple[str, str]]

_QUEUE, _FUNCTION, _RULE, _ACTION = ({"QueueName"}, {"FunctionName"}, {"RuleName"}, {"RuleName", "ActionType"})
_API, _STREAM = ({"ApiId"}, {"DeliveryStreamName"})
# What is measured here of AWS's own metrics, with the dimensions that AWS documents for them.
MEASURED: dict[str, dict[str, set[str]]] = {
    "AWS/SQS": dict.fromkeys((
        "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed", "ApproximateAgeOfOldestMessage", "NumberOfMessagesSent",
        "NumberOfMessagesReceived", "NumberOfMessagesDeleted"), _QUEUE),
    "AWS/Lambda": dict.fromkeys(("Invocations", "Errors", "Throttles", "Duration", "IteratorAge"), _FUNCTION),
    "AWS/IoT": dict.fromkeys(("TopicMatch", "RuleNotFound"), _RULE) | dict.fromkeys(
        ("Success", "Failure", "ErrorActionSuccess", "ErrorActionFailure"), _ACTION),
    "AWS/ApiGateway": dict.fromkeys(("Count", "4xx", "5xx"), _API),
    "AWS/Firehose": dict.fromkeys(("IncomingRecords", "IncomingBytes", "DeliveryToS3.Records"), _STREAM)}


@dataclass(slots=True)
class Second:
    """All values of one metric in one second."""

    at_s: int
    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        """One more value."""
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)


def dimensions_of(given: Mapping[str, str]) -> Dimensions:
    """Dimensions as a key."""
    return frozenset((str(name), str(value)) for name, value in given.items())


@dataclass
class Metrics:
    """Every metric that has a value, by namespace, name and dimensions."""

    _series: dict[tuple[str, str, Dimensions], deque[Second]] = field(default_factory=dict)

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], value: float, at_s: float) -> None:
        """Take one value of the present (a value that is older than the newest is counted with that one)."""
        seconds = self._series.setdefault((namespace, name, dimensions_of(dimensions)), deque())
        if not seconds or seconds[-1].at_s < int(at_s):
            seconds.append(Second(int(at_s)))
        seconds[-1].add(value)

    def names(self) -> list[tuple[str, str, dict[str, str]]]:
        """(namespace, name, dimensions) of every metric that has values."""
        return sorted(((namespace, name, dict(sorted(dimensions))) for namespace, name, dimensions in self._series),
                      key=str)

    def statistic(self, namespace: str, name: str, dimensions: Dimensions, statistic: str, from_s: float,
                  to_s: float) -> float | None:
        """One of STATISTICS over from_s < second <= to_s; None without a value."""
        return combined(self._within((namespace, name, dimensions), from_s, to_s), statistic)

    def over_all(self, namespace: str, name: str, keys: frozenset[str] | None, where: Dimensions, statistic: str,
                 from_s: float, to_s: float) -> float | None:
        """The statistic over the values of every metric with these dimensions among its own (keys: exactly these)."""
        return combined(
            (second for series in self._series if series[:2] == (namespace, name) and where <= series[2]
             and (keys is None or keys == {key for key, _ in series[2]})
             for second in self._within(series, from_s, to_s)), statistic)

    def forget(self, before_s: float) -> None:
        """Drop what is older; a metric without values is gone."""
        for series, seconds in list(self._series.items()):
            while seconds and seconds[0].at_s < before_s:
                seconds.popleft()
            if not seconds:
                del self._series[series]

    def _within(self, series: tuple[str, str, Dimensions], from_s: float, to_s: float) -> Iterator[Second]:
        return (second for second in self._series.get(series, ()) if from_s < second.at_s <= to_s)


def combined(seconds: Iterator[Second], statistic: str) -> float | None:
    """One statistic over the values of several seconds; None without a value."""
    found = list(seconds)
    if not found:
        return None
    total, count = sum(one.total for one in found), sum(one.count for one in found)
    return {"Sum": total, "Average": total / count, "SampleCount": count, "Minimum": min(one.least for one in found),
            "Maximum": max(one.most for one in found)}[statistic]
