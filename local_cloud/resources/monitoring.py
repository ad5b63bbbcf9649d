"""AWS::CloudWatch alarms and dashboards: kept as the template has them, not evaluated yet."""

import json

from local_cloud.errors import DeployError
from local_cloud.resources.registry import STORED, TAGS, Applied, Context, Properties, require, resource


@resource(
    "AWS::CloudWatch::Alarm",
    STORED,
    attributes="Arn",
    honoured="AlarmName AlarmDescription ActionsEnabled AlarmActions OKActions InsufficientDataActions Namespace "
    "MetricName Dimensions Period EvaluationPeriods DatapointsToAlarm Threshold ThresholdMetricId ComparisonOperator "
    "Statistic ExtendedStatistic Unit TreatMissingData Metrics EvaluateLowSampleCountPercentile",
    stated=TAGS,
    note="kept, not evaluated yet: no alarm fires locally",
)
async def alarm(properties: Properties, context: Context) -> Applied:
    """One alarm."""
    name = context.name(properties, "AlarmName", 255)
    for needed in ("ComparisonOperator", "EvaluationPeriods"):
        require(properties, needed)
    if "MetricName" not in properties and "Metrics" not in properties:
        raise DeployError("an alarm needs MetricName or Metrics")
    return Applied(name, {"Arn": context.arn("cloudwatch", f"alarm:{name}")})


@resource(
    "AWS::CloudWatch::CompositeAlarm",
    STORED,
    attributes="Arn",
    honoured="AlarmName AlarmDescription AlarmRule ActionsEnabled AlarmActions OKActions InsufficientDataActions "
    "ActionsSuppressor ActionsSuppressorExtensionPeriod ActionsSuppressorWaitPeriod",
    stated=TAGS,
    note="kept, not evaluated yet: no alarm fires locally",
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
