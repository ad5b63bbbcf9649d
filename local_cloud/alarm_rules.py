"""What an alarm watches and when it goes off: CloudFormation properties in, state of the last periods out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.metric_math import Window, check_metric, compile_expression
from local_cloud.metrics import STATISTICS, Metrics, dimensions_of
from local_cloud.properties import flag, integer, refuse_unknown

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
MISSING, IGNORE, BREACHING, NOT_BREACHING = "missing", "ignore", "breaching", "notBreaching"
RANGE_BEYOND = 2  # periods that are looked at beyond those evaluated, in case some lack data
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt, "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt, "LessThanOrEqualToThreshold": operator.le}
_ACTIONS = {ALARM: "AlarmActions", OK: "OKActions", INSUFFICIENT_DATA: "InsufficientDataActions"}


@dataclass(frozen=True)
class Watch:
    """One alarm, ready to be evaluated. window: the value of a stretch of time; actions: SNS topics by state."""

    window: Window
    period_s: int
    periods: int
    datapoints: int
    threshold: float
    comparison: str
    missing: str
    actions: Mapping[str, Sequence[str]]
    description: str
    given: Mapping[str, Any]

    def points(self, now_s: float, speed: float) -> list[float | None]:
        """The values of the last periods, newest last; at a speed of 60 a minute takes a second."""
        length_s = self.period_s / speed
        return [self.window(now_s - (back + 1) * length_s, now_s - back * length_s)
                for back in reversed(range(self.periods + RANGE_BEYOND))]

    def breaching(self, value: float) -> bool:
        """Whether one period's value is on the wrong side of the threshold."""
        return _COMPARISONS[self.comparison](value, self.threshold)

    def state(self, points: Sequence[float | None], current: str) -> str:
        """The state that CloudWatch's rules for missing data give; `points` are newest last."""
        wrong = [None if value is None else self.breaching(value) for value in points]
        there = [one for one in wrong if one is not None]
        if len(there) >= self.periods:
            return ALARM if sum(there[-self.periods:]) >= self.datapoints else OK
        lacking, count = self.periods - len(there), sum(there)
        if self.missing == BREACHING:
            return ALARM if count + lacking >= self.datapoints else OK
        if self.missing == NOT_BREACHING or not all(there) or count >= self.datapoints:
            return ALARM if count >= self.datapoints else OK
        return self._without_a_good_one(wrong, current)

    def _without_a_good_one(self, wrong: Sequence[bool | None], current: str) -> str:
        """Data are missing and none of those there is good; a breach that is too young does not count yet."""
        if True not in wrong:
            return INSUFFICIENT_DATA if self.missing == MISSING else current
        oldest = len(wrong) - wrong.index(True)
        return ALARM if self.missing == MISSING and oldest >= self.datapoints else current


def watch(properties: Mapping[str, Any], metrics: Metrics) -> Watch:
    """Read an AWS::CloudWatch::Alarm; Unsupported or DeployError name what cannot be evaluated."""
    window, period_s = _window(properties, metrics)
    periods = integer("EvaluationPeriods", properties["EvaluationPeriods"], 1, 1440)
    comparison, missing = properties["ComparisonOperator"], properties.get("TreatMissingData", MISSING)
    if comparison not in _COMPARISONS:
        raise Unsupported(f"ComparisonOperator: {comparison} is not emulated; {', '.join(_COMPARISONS)} are")
    if missing not in (MISSING, IGNORE, BREACHING, NOT_BREACHING):
        raise DeployError(f"TreatMissingData: got {missing!r}, expected missing, ignore, breaching or notBreaching")
    enabled = flag("ActionsEnabled", properties.get("ActionsEnabled", True))
    datapoints = integer("DatapointsToAlarm", properties.get("DatapointsToAlarm", periods), 1, periods)
    return Watch(window, period_s, periods, datapoints, float(properties["Threshold"]), comparison, missing,
                 {state: _topics(key, properties.get(key, ())) if enabled else () for state, key in _ACTIONS.items()},
                 str(properties.get("AlarmDescription", "")), dict(properties))


def _topics(key: str, arns: Sequence[str]) -> tuple[str, ...]:
    for arn in arns:
        if not str(arn).startswith("arn:aws:sns:"):
            raise Unsupported(f"{key}: {arn} is no SNS topic; other actions are not emulated")
    return tuple(arns)


def _window(properties: Mapping[str, Any], metrics: Metrics) -> tuple[Window, int]:
    if "Metrics" not in properties:
        period_s = integer("Period", properties["Period"], 1, 86_400)
        return _statistic(properties, properties.get("Statistic"), metrics), period_s
    found: dict[str, Window] = {}
    answers: list[tuple[str, int]] = []
    entries = sorted(properties["Metrics"], key=lambda entry: "Expression" in entry)  # metrics before what uses them
    for entry in entries:
        refuse_unknown("Metrics", entry, {"Id", "Expression", "MetricStat", "Period", "ReturnData", "Label"})
        found[entry["Id"]], period_s = _entry(entry, metrics, found)
        if flag("ReturnData", entry.get("ReturnData", True)):
            answers.append((entry["Id"], period_s))
    if len(answers) != 1:
        raise DeployError(f"Metrics: {len(answers)} entries have ReturnData, an alarm evaluates exactly one")
    ((answer, period_s),) = answers
    periods_s = [int(entry["MetricStat"]["Period"]) for entry in entries if "MetricStat" in entry] or [period_s]
    return found[answer], period_s or max(periods_s)


def _entry(entry: Mapping[str, Any], metrics: Metrics, others: Mapping[str, Window]) -> tuple[Window, int]:
    if "Expression" in entry:
        return compile_expression(entry["Expression"], metrics, others), int(entry.get("Period", 0))
    measured = entry["MetricStat"]
    refuse_unknown("MetricStat", measured, {"Metric", "Period", "Stat", "Unit"})
    return _statistic(measured["Metric"], measured["Stat"], metrics), int(measured["Period"])


def _statistic(metric: Mapping[str, Any], statistic: Any, metrics: Metrics) -> Window:
    if statistic not in STATISTICS:
        raise Unsupported(f"Statistic: {statistic} is not emulated; {', '.join(STATISTICS)} are")
    dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", ())}
    namespace, name, key = metric["Namespace"], metric["MetricName"], dimensions_of(dimensions)
    check_metric(namespace, name, dimensions)
    return lambda from_s, to_s: metrics.statistic(namespace, name, key, statistic, from_s, to_s)
