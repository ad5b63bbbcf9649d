"""What is kept: four DynamoDB tables and the archive bucket; their names go to the other stacks through SSM.

Retained when the stack goes, unless -c ephemeral=true; without physical names, so that a later stack meets no leftover.
"""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.archive import catalog, lifecycle
from infra.names import give, keep_logical_id
from infra.settings import Settings, logical_id

STRING, NUMBER = dynamodb.AttributeType.STRING, dynamodb.AttributeType.NUMBER
EVENTS_BY_NUMBER = "events_by_number"
BY_DAY = "by_day"


class StorageStack(cdk.Stack):
    """Tables `readings`, `rollups` (each with a stream), `alerts`, `incidents`; a bucket for archive and errors."""

    def __init__(self, scope: Construct, construct_id: str, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        self._removal = cdk.RemovalPolicy.DESTROY if settings.ephemeral else cdk.RemovalPolicy.RETAIN
        readings = self._table("Readings", stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
        readings.add_global_secondary_index(
            index_name=EVENTS_BY_NUMBER, partition_key=_key("pk"), sort_key=_key("event_number", NUMBER))
        rollups = self._table("Rollups", stream=dynamodb.StreamViewType.KEYS_ONLY)
        alerts = self._table("Alerts")
        alerts.add_global_secondary_index(index_name=BY_DAY, partition_key=_key("day"), sort_key=_key("recent"))
        incidents = self._table("Incidents")
        incidents.add_global_secondary_index(index_name=BY_DAY, partition_key=_key("day"), sort_key=_key("recent"))
        archive = s3.Bucket(
            self, "Archive", encryption=s3.BucketEncryption.S3_MANAGED, enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL, removal_policy=self._removal,
            lifecycle_rules=lifecycle(settings))
        keep_logical_id(archive)
        catalog(self, settings, archive)
        names = {"readings-table": readings.table_name, "rollups-table": rollups.table_name,
                 "alerts-table": alerts.table_name, "incidents-table": incidents.table_name,
                 "archive-bucket": archive.bucket_name}
        give(self, settings, {**names, "readings-stream": str(readings.table_stream_arn),
                              "rollups-stream": str(rollups.table_stream_arn)})
        for what, description in (("readings-table", "Readings and events"), ("rollups-table", "Roll-ups per minute"),
                                  ("alerts-table", "Anomalies"), ("incidents-table", "Incidents"),
                                  ("archive-bucket", self._bucket_note())):
            cdk.CfnOutput(self, f"{logical_id(what)}Name", value=names[what], description=description)

    def _table(self, title: str, stream: dynamodb.StreamViewType | None = None) -> dynamodb.Table:
        table = dynamodb.Table(
            self, title, partition_key=_key("pk"), sort_key=_key("sk"), stream=stream,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST, time_to_live_attribute="expires_at",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True),
            deletion_protection=not self._settings.ephemeral, removal_policy=self._removal)
        keep_logical_id(table)
        return table

    def _bucket_note(self) -> str:
        if self._settings.ephemeral:
            return "Archive and error objects; empty it before destroy: aws s3 rm --recursive s3://<this bucket>"
        return "Archive and error objects; kept when the stack goes"


def _key(name: str, kind: dynamodb.AttributeType = STRING) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=kind)
