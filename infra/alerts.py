"""Alerts that reach a person: the topic and its e-mail subscriptions, the function watch on its schedule, presence.

The function alert (ingest_stack.py) publishes to the topic too, with `access` and `environment` from here.
"""
from collections.abc import Iterable
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

from infra import notices, rules
from infra.functions import allow, function, table_arn, things
from infra.names import give, keep_logical_id
from infra.settings import Settings, logical_id
from infra.storage_stack import BY_DAY

WATCH_MINUTES = 5
WATCH_TIMEOUT_S = 60
PRESENCE = "presence"  # its rule is <deployment>_presence


@dataclass(frozen=True)
class Alerts:
    """What a function needs that tells of incidents."""

    topic: sns.Topic
    environment: dict[str, str]
    access: list[iam.PolicyStatement]


def make_alerts(stack: cdk.Stack, settings: Settings, *, incidents: str) -> Alerts:
    """The topic with its subscriptions. incidents: name of the incidents table.

    An address gets a message from AWS first, and must confirm.
    """
    topic = notices.topic(stack, "Alerts", display_name=f"EdgeCloud {settings.name}")
    keep_logical_id(topic)  # those who confirmed are subscribed to this topic, not to another in its place
    for address in settings.alert_email:
        sns.CfnSubscription(stack, f"Alerts{logical_id(address)}", topic_arn=topic.topic_arn, protocol="email",
                            endpoint=address)
    give(stack, settings, {"alerts-topic": topic.topic_arn})
    cdk.CfnOutput(stack, "AlertsTopic", value=topic.topic_arn, description=(
        "Incidents and silent bridges are told here; by e-mail with -c alert_email=YOU, or: aws sns subscribe "
        f"--protocol email --notification-endpoint YOU --region {stack.region} --topic-arn THIS"))
    return Alerts(topic, {
        "ALERTS_TOPIC": topic.topic_arn, "INCIDENTS_TABLE": incidents, "MIN_SEVERITY": settings.min_severity,
        "QUIET_HOURS": settings.quiet_hours, "TIME_ZONE": settings.time_zone,
        "ROLLUP_RETENTION_DAYS": str(settings.rollups_days)}, [
        allow(["sns:Publish"], [topic.topic_arn]),
        allow(["dynamodb:UpdateItem", "dynamodb:PutItem"], [table_arn(stack, incidents)])])


def make_watch(stack: cdk.Stack, settings: Settings, alerts: Alerts, *, rollups: str) -> None:
    """The function watch, every five minutes. rollups: name of the table that holds statuses and presence."""
    incidents = table_arn(stack, alerts.environment["INCIDENTS_TABLE"])
    watch = function(
        stack, settings, "watch", also=("alert",), timeout_s=WATCH_TIMEOUT_S, memory_mib=256,
        description="EdgeCloud: closes silent incidents, sends held notices, tells of silent bridges",
        environment={**alerts.environment, "ROLLUPS_TABLE": rollups, **things(settings),
                     "SILENT_MINUTES": str(settings.silent_minutes), "DEPLOYMENT": settings.name,
                     "MONITORING": settings.monitoring},
        access=[*alerts.access,
                allow(["dynamodb:Query"], [incidents, f"{incidents}/index/{BY_DAY}", table_arn(stack, rollups)]),
                allow(["dynamodb:GetItem", "dynamodb:DeleteItem"], [incidents]),
                allow(["dynamodb:BatchWriteItem"], [table_arn(stack, rollups)])])
    events.Rule(stack, "WatchSchedule", description="EdgeCloud: starts the function watch",
                schedule=events.Schedule.rate(cdk.Duration.minutes(WATCH_MINUTES)),
                targets=[targets.LambdaFunction(watch)])  # type: ignore[arg-type]  # jsii's protocol differs in a name


def make_presence(stack: cdk.Stack, settings: Settings, *, queue: sqs.Queue, bucket: s3.IBucket) -> None:
    """AWS IoT's lifecycle events of this deployment's things go to the queue of their statuses.

    They do not go to the archive: nothing is made of old ones.
    """
    rules.rule(stack, settings, PRESENCE, sql=presence_sql(settings.things), queue=queue, bucket=bucket,
               description="EdgeCloud presence: which bridges are connected, to lambdas/status.py")


def presence_sql(ours: Iterable[str]) -> str:
    """AWS IoT publishes these events itself, so the thing stands in the event, not in the connection."""
    mine = " OR ".join(f"clientId = '{thing}'" for thing in ours)
    return (f"SELECT *, clientId AS site FROM '$aws/events/presence/+/+' WHERE (eventType = 'connected' "
            f"OR eventType = 'disconnected') AND ({mine})")
