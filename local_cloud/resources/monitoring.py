"""AWS::CloudWatch alarms, evaluated by alarms.py; composite alarms and dashboards are kept as the template has them."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from local_cloud import alarm_rules
from local_cloud.errors import DeployError
from local_cloud.properties import flag
from local_cloud.resources.registry import (
    EMULATED,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    require,
    resource,
)

_KINDS: dict[str, Callable[[Any], Any]] = {
    "Period": int, "EvaluationPeriods": int, "DatapointsToAlarm": int, "Threshold": float,
    "ActionsEnabled": partial(flag, "ActionsEnabled")}


@resource(
    "AWS::CloudWatch::Alarm",
    EMULATED,
    attributes="Arn",
    honoured="AlarmName AlarmDescription ActionsEnabled AlarmActions OKActions InsufficientDataActions Namespace "
    "MetricName Dimensions Period EvaluationPeriods DatapointsToAlarm Threshold ComparisonOperator "
    "Statistic TreatMissingData Metrics",
    stated={**TAGS, "Unit": "values are compared as they come"},
    refused={
        "ExtendedStatistic": "percentiles are not kept",
        "EvaluateLowSampleCountPercentile": "percentiles are not kept",
        "ThresholdMetricId": "no anomaly detection",
    },
    note="evaluated every few seconds on what the local services, functions' embedded metrics included, measure; a "
    "metric that nothing measures here, a statistic, expression or action that is not emulated stops the start; SNS "
    "topics are told of changes. The control port's `GET /alarms` and CloudWatch's DescribeAlarms show the states",
)
async def alarm(properties: Properties, context: Context) -> Applied:
    """One alarm."""
    name, alarms = context.name(properties, "AlarmName", 255), context.services.alarms
    for needed in ("ComparisonOperator", "EvaluationPeriods", "Threshold"):
        require(properties, needed)
    if "MetricName" not in properties and "Metrics" not in properties:
        raise DeployError("an alarm needs MetricName or Metrics")
    arn = context.arn("cloudwatch", f"alarm:{name}")
    watch = alarm_rules.watch(properties, alarms.metrics)
    await context.call("cloudwatch", "put_metric_alarm", AlarmName=name, **_as_asked(properties))
    await alarms.add(name, context.logical_id, arn, watch)

    async def delete() -> None:
        alarms.remove(name)
        await context.call("cloudwatch", "delete_alarms", AlarmNames=[name])

    return Applied(name, {"Arn": arn}, delete)


def _as_asked(properties: Properties) -> Properties:
    """The alarm for CloudWatch's API: numbers and booleans of a template may be text."""
    asked = {key: _KINDS[key](value) if key in _KINDS else value for key, value in properties.items()
             if key not in ("AlarmName", "Tags", "Metrics")}
    if "Metrics" in properties:
        asked["Metrics"] = [
            {**entry, "ReturnData": flag("ReturnData", entry.get("ReturnData", True)),
             **({"Period": int(entry["Period"])} if "Period" in entry else {})} for entry in properties["Metrics"]]
    return asked


@resource(
    "AWS::CloudWatch::CompositeAlarm",
    STORED,
    attributes="Arn",
    honoured="AlarmName AlarmDescription AlarmRule ActionsEnabled AlarmActions OKActions InsufficientDataActions "
    "ActionsSuppressor ActionsSuppressorExtensionPeriod ActionsSuppressorWaitPeriod",
    stated=TAGS,
    note="kept, not evaluated: alarms over alarms never fire locally",
)
async def composite_alarm(properties: Properties, context: Context) -> Applied:
    """An alarm over alarms."""
    require(properties, "AlarmRule")
    name = context.name(properties, "AlarmName", 255)
    return Applied(name, {"Arn": context.arn("cloudwatch", f"alarm:{name}")})


@resource(
    "AWS::CloudWatch::Dashboard",
    STORED,
    honoured="DashboardName DashboardBody",
    note="kept, not drawn; its body must be JSON",
)
async def dashboard(properties: Properties, context: Context) -> Applied:
    """One dashboard."""
    try:
        json.loads(require(properties, "DashboardBody"))
    except ValueError as fault:
        raise DeployError(f"DashboardBody is not JSON: {fault}") from None
    return Applied(context.name(properties, "DashboardName", 255))
