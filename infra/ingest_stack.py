"""The way in: IoT rules, their queues and archive streams, and the functions persist, alert and aggregate.

Table and bucket names come from storage_stack.py through SSM; rule names go out the same way.
"""
import json
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from contract import routes, topics
from infra import queues, rules, streams
from infra.alerts import make_alerts, make_presence, make_watch
from infra.functions import allow, function, sites, table_arn
from infra.hours import make_hours
from infra.names import give, take
from infra.settings import Settings, logical_id

TIMEOUT_S = 60  # a full batch of events is hundreds of writes, and one DynamoDB partition takes 1,000 items a second
# A wait gathers batches of many sites into one invocation. Alerts do not wait, nor do readings: somebody may watch.
WINDOW_S = {"readings": 0, "events": 1, "alerts": 0, "status": 1}
# A backlog of events is an item each, all in the partition of its camera: more invocations at once would share its
# 1,000 writes a second until none of them finished in time.
MAX_CONCURRENCY = {"events": 5}
# A device's minute takes the batches of this time in one write instead of three, which is an eighth of what a reading
# costs; roll-ups come so much later (docs/cost.md).
STREAM_WINDOW_S = 25
CONSUME = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
STREAM_BATCH = 100
# What DynamoDB removes because it expired changes no roll-up, and need not wake the function.
NOT_REMOVED = '{"eventName":["INSERT","MODIFY"]}'


class IngestStack(cdk.Stack):
    """Every route of contract/routes.py, from its rule to its table."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        self._tables = {what: take(self, settings, f"{what}-table") for what in ("readings", "rollups", "alerts")}
        bucket = s3.Bucket.from_bucket_name(self, "Archive", take(self, settings, "archive-bucket"))
        waiting: dict[str, sqs.Queue] = {}
        dead: dict[str, sqs.Queue] = {}
        for route in routes.ROUTES:
            waiting[route.name], dead[route.name] = queues.queue(
                self, logical_id(route.name), timeout_s=TIMEOUT_S, window_s=WINDOW_S[route.name])
            archive = rules.archive_stream(self, route, bucket)
            give(self, settings, {f"{route.name}-archive": archive.ref})
            rules.rule(self, settings, route.name, sql=routes.sql(route, settings.things),
                       description=f"EdgeCloud {route.name}: to lambdas/{route.handler}.py and the archive",
                       queue=waiting[route.name], archive=archive, bucket=bucket)
        self._alerts = make_alerts(self, settings, incidents=take(self, settings, "incidents-table"))
        self._persist_and_alert(waiting)
        make_watch(self, settings, self._alerts, rollups=self._tables["rollups"])
        make_presence(self, settings, queue=waiting["status"], bucket=bucket)
        dead["stream"] = self._aggregate(take(self, settings, "readings-stream"))
        make_hours(self, settings, table=self._tables["rollups"], stream_arn=take(self, settings, "rollups-stream"),
                   dead=dead["stream"], environment=self._rollup_days())
        operations = queues.dead_letter_alarms(self, list(dead.items()))
        give(self, settings, {**{f"{route.name}-rule": routes.rule_name(settings.name, route.name)
                                 for route in routes.ROUTES},
                              "rebuild-environment": json.dumps(  # so that a rebuild writes what the functions wrote
                                  {"RETENTION_DAYS": str(settings.readings_days), **self._rollup_days(),
                                   **sites(settings)}),
                              "operations-topic": operations.topic_arn,
                              **{f"{name}-queue": each.queue_url for name, each in waiting.items()},
                              **{f"{name}-dead-letters": each.queue_url for name, each in dead.items()}})
        self._outputs(operations.topic_arn)

    def _persist_and_alert(self, waiting: dict[str, sqs.Queue]) -> None:
        targets = {
            "persist": self._consumer("persist", "readings", [waiting["readings"], waiting["events"]]),
            "alert": self._consumer("alert", "alerts", [waiting["alerts"]]),
            "status": self._status(waiting["status"])}
        for route in routes.ROUTES:
            queues.consume(self, logical_id(route.name), waiting[route.name], targets[route.handler],
                           window_s=WINDOW_S[route.name], max_concurrency=MAX_CONCURRENCY.get(route.name))

    def _consumer(self, name: str, table: str, sources: list[sqs.Queue]) -> lambda_.Function:
        """A function that puts what it takes from queues into one table and sends receipts."""
        access = [allow(CONSUME, [source.queue_arn for source in sources]),
                  allow(["dynamodb:BatchWriteItem"], [self._table_arn(table)])]
        if self._settings.receipts:
            access.append(self._may_send_receipts())
        environment = {}
        if name == "persist":  # it enters new devices in the list that the API gives
            access.append(allow(["dynamodb:BatchWriteItem"], [self._table_arn("rollups")]))
            environment = {"ROLLUPS_TABLE": self._tables["rollups"]}
        if name == "alert":
            access += self._alerts.access
            environment = self._alerts.environment
        return function(
            self, self._settings, name, timeout_s=TIMEOUT_S, memory_mib=512, access=access,
            logs_batches=name == "persist",
            description=f"EdgeCloud: from the queue to the {table} table, then the receipt",
            environment={f"{table.upper()}_TABLE": self._tables[table], **sites(self._settings), **environment,
                         "RETENTION_DAYS": str(self._settings.readings_days),
                         "RECEIPTS": "on" if self._settings.receipts else "off"})

    def _status(self, source: sqs.Queue) -> lambda_.Function:
        """The function that keeps each site's newest status; nobody waits for a receipt of it."""
        return function(
            self, self._settings, "status", timeout_s=TIMEOUT_S, memory_mib=256,
            description="EdgeCloud: from the queue to each site's newest status",
            environment={"ROLLUPS_TABLE": self._tables["rollups"], **self._rollup_days()},
            access=[allow(CONSUME, [source.queue_arn]), allow(["dynamodb:PutItem"], [self._table_arn("rollups")])])

    def _may_send_receipts(self) -> iam.PolicyStatement:
        return allow(["iot:Publish"], [
            self.format_arn(service="iot", resource="topic", resource_name=topics.receipts(thing))
            for thing in self._settings.things])

    def _aggregate(self, stream_arn: str) -> sqs.Queue:
        """The function that reads the readings table's stream; returns where it leaves what it cannot apply."""
        dead = queues.dead_letter_queue(self, "StreamDeadLetters")
        aggregate = function(
            self, self._settings, "aggregate",
            logs_batches=True, timeout_s=120,
            memory_mib=512,  # 6 MB of full batches are 400,000 readings to add up; memory brings CPU
            description="EdgeCloud: from the readings table's stream to roll-ups per minute",
            environment={"ROLLUPS_TABLE": self._tables["rollups"], **self._rollup_days()},
            access=[
                *streams.may_read(stream_arn),
                allow(["dynamodb:UpdateItem", "dynamodb:BatchWriteItem"], [self._table_arn("rollups")]),
                allow(["sqs:SendMessage"], [dead.queue_arn])])
        streams.consume(self, "Stream", stream_arn, aggregate, dead=dead, pattern=NOT_REMOVED, batch=STREAM_BATCH,
                        window_s=STREAM_WINDOW_S)
        return dead

    def _rollup_days(self) -> dict[str, str]:
        return {"MINUTE_RETENTION_DAYS": str(self._settings.minutes_days),
                "ROLLUP_RETENTION_DAYS": str(self._settings.rollups_days)}

    def _table_arn(self, what: str) -> str:
        return table_arn(self, self._tables[what])

    def _outputs(self, operations_arn: str) -> None:
        for route in routes.ROUTES:
            cdk.CfnOutput(self, f"{logical_id(route.name)}RuleName", description=f"IoT rule of {route.name}",
                          value=routes.rule_name(self._settings.name, route.name))
        cdk.CfnOutput(self, "OperationsTopic", value=operations_arn, description=(
            "Alarms go here; to get them by e-mail: aws sns subscribe --protocol email --notification-endpoint YOU "
            f"--region {self.region} --topic-arn THIS"))
