"""One CloudWatch alarm, as every stack makes it: a metric or a query goes in, the operations topic is told.

Standard metrics cost 0.10 dollars an alarm and month, a query 0.10 for each metric that it finds; an expression over
several metrics costs as much as an alarm for each, tells less, and has gaps where one of them has. So there are none.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

RUNBOOK = "docs/runbook.md"
ABOVE, AT_LEAST, BELOW = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"
PERIOD_S = 300
# Missing data: most metrics are only there when something happened; a scheduled function's own must never be missing.
QUIET, SILENT = "notBreaching", "missing"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """When an alarm goes off. metric: "AWS/SQS ApproximateAgeOfOldestMessage", namespace and name; query: in its
    place, Metrics Insights. silence: QUIET (no data is good news) or SILENT (no data is told as well)."""

    says: str
    metric: str = ""
    dimensions: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    statistic: str = "Sum"
    threshold: float = 0
    comparison: str = ABOVE
    period_s: int = PERIOD_S
    periods: int = 1
    silence: str = QUIET


def alarm(scope: Construct, name: str, topic_arn: str, condition: Condition) -> cloudwatch.CfnAlarm:
    """`<name>Alarm`, which the runbook has a row for. It tells the topic of the change to ALARM, not of the one back:
    every new alarm would begin with a message that all is well."""
    namespace, _, metric = condition.metric.partition(" ")
    measured: dict[str, Any] = {
        "namespace": namespace, "metric_name": metric, "statistic": condition.statistic, "period": condition.period_s,
        "dimensions": [cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value)
                       for key, value in condition.dimensions.items()]}
    if condition.query:
        measured = {"metrics": [cloudwatch.CfnAlarm.MetricDataQueryProperty(
            id="q", expression=condition.query, period=condition.period_s, return_data=True)]}
    return cloudwatch.CfnAlarm(
        scope, f"{name}Alarm", threshold=condition.threshold, comparison_operator=condition.comparison,
        evaluation_periods=condition.periods, treat_missing_data=condition.silence, alarm_actions=[topic_arn],
        insufficient_data_actions=[topic_arn] if condition.silence == SILENT else None,
        alarm_description=f"EdgeCloud: {condition.says}. {RUNBOOK}, {name}Alarm", **measured)
