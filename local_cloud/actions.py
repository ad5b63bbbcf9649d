"""The actions of IoT rules: rule_engine.py hands a rule's output in, queues, Firehose, functions, moto and the gateway
take it. Every action is compiled from its CloudFormation properties when the rule is created."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local_cloud.dynamodb_actions import Run, columns, one_column
from local_cloud.errors import DeployError, Unsupported
from local_cloud.firehose import FirehoseService, S3Put
from local_cloud.functions import FunctionService
from local_cloud.properties import flag, integer, refuse_unknown
from local_cloud.queues import QueueService
from local_cloud.rule_sql import Message, Statement, to_payload

_SEPARATORS = ("\n", "\t", "\r\n", ",")

# Every other kind of action that AWS documents, and why a rule with it does not start here.
REFUSED = {
    "CloudwatchAlarm": "alarms here take their state from metrics alone", "CloudwatchLogs": "no log group takes it",
    "CloudwatchMetric": "no metric is taken from rules", "Elasticsearch": "no search domain here",
    "Http": "nothing leaves this machine", "IotAnalytics": "no such service here; AWS closes it",
    "IotEvents": "no detector models here", "IotSiteWise": "no asset models here", "Kafka": "no VPC or cluster here",
    "Kinesis": "no data streams here; use Firehose or Sqs", "Location": "no trackers here",
    "OpenSearch": "no search domain here", "StepFunctions": "no state machines here; use Lambda",
    "Timestream": "closed to new customers; use Lambda",
}


class PublishTo(Protocol):
    """The gateway's publish, as republish uses it."""

    async def __call__(self, topic: str, payload: bytes, qos: int, retain: bool) -> object: ...


@dataclass(frozen=True, slots=True)
class Action:
    """One compiled action: AWS's name for it, the resource it writes to, and what to do with an output."""

    name: str
    resource: str
    run: Run


class Actions:
    """Makes actions for the services of this local cloud. s3_put(bucket, key, body, extra), sns_publish(target_arn,
    message, message_format) and the boto3 DynamoDB client are blocking: they are called in threads."""

    def __init__(self, queues: QueueService, firehose: FirehoseService, functions: FunctionService, s3_put: S3Put,
                 dynamodb: Any, sns_publish: Callable[[str, str, str], object], publish: PublishTo) -> None:
        self._queues = queues
        self._firehose = firehose
        self._functions = functions
        self._s3_put = s3_put
        self._dynamodb = dynamodb
        self._sns_publish = sns_publish
        self._publish = publish
        self._kinds: dict[str, Callable[[dict[str, Any], Statement], Action]] = {
            "Sqs": self._sqs, "Firehose": self._to_firehose, "Lambda": self._lambda, "S3": self._s3,
            "Republish": self._republish, "DynamoDB": self._dynamodb_v1, "DynamoDBv2": self._dynamodb_v2,
            "Sns": self._sns}

    def compile(self, specification: Mapping[str, Any], statement: Statement) -> Action:
        """The action of one entry of Actions, or of ErrorAction. Raises Unsupported, DeployError for a property that it
        lacks, SqlError of a template."""
        if len(specification) != 1:
            raise Unsupported(f"Actions: an entry has one kind of action, got {sorted(specification)}")
        ((kind, properties),) = specification.items()
        if kind not in self._kinds:
            why = REFUSED.get(kind, "it is none of AWS's documented kinds")
            raise Unsupported(f"Actions: {kind} is not emulated ({why}); {', '.join(self._kinds)} are")
        if not isinstance(properties, Mapping):
            raise DeployError(f"Actions: {kind}: got {properties!r}, expected an object of its properties")
        try:
            return self._kinds[kind](dict(properties), statement)
        except KeyError as missing:
            raise DeployError(f"Actions: {kind}: it has no {missing.args[0]}") from None

    def _sqs(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Sqs", properties, {"QueueUrl", "RoleArn", "UseBase64"})
        url = properties["QueueUrl"]
        use_base64 = flag("Sqs.UseBase64", properties.get("UseBase64", False))

        async def run(message: Message, output: Any) -> None:
            payload = to_payload(output)
            self._queues.by_url(url).send(base64.b64encode(payload).decode() if use_base64 else payload.decode())

        return Action("SqsAction", url, run)

    def _to_firehose(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Firehose", properties, {"DeliveryStreamName", "RoleArn", "Separator", "BatchMode"})
        name = properties["DeliveryStreamName"]
        separator = properties.get("Separator", "")
        if separator and separator not in _SEPARATORS:
            raise Unsupported(f"Firehose.Separator: {separator!r} is not one of {_SEPARATORS}")
        batch_mode = flag("Firehose.BatchMode", properties.get("BatchMode", False))

        async def run(message: Message, output: Any) -> None:
            outputs = output if batch_mode and isinstance(output, list) else [output]
            self._firehose.put(name, [to_payload(each) + separator.encode() for each in outputs])

        return Action("FirehoseAction", name, run)

    def _lambda(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Lambda", properties, {"FunctionArn"})
        arn = properties["FunctionArn"]

        async def run(message: Message, output: Any) -> None:
            function = self._functions.by_name(arn)
            if function is None:
                raise LookupError(f"there is no function {arn}")
            payload = to_payload(output)
            json.loads(payload)  # an event is JSON; anything else fails here as it does at Lambda's API
            await function.invoke_async(payload)

        return Action("LambdaAction", arn, run)

    def _s3(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("S3", properties, {"BucketName", "Key", "RoleArn", "CannedAcl"})
        bucket, key = properties["BucketName"], properties["Key"]
        statement.template(key)
        extra = {"ACL": properties["CannedAcl"]} if "CannedAcl" in properties else {}

        async def run(message: Message, output: Any) -> None:
            await asyncio.to_thread(self._s3_put, bucket, statement.render(key, message), to_payload(output), extra)

        return Action("S3Action", bucket, run)

    def _republish(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Republish", properties, {"Topic", "Qos", "RoleArn"})
        topic = properties["Topic"]
        statement.template(topic)
        qos = integer("Republish.Qos", properties.get("Qos", 0), 0, 1)

        async def run(message: Message, output: Any) -> None:
            target = statement.render(topic, message)
            if target.startswith("$$"):  # AWS's way to name a reserved topic
                target = target[1:]
            await self._publish(target, to_payload(output), qos, False)

        return Action("RepublishAction", topic, run)

    def _dynamodb_v1(self, properties: dict[str, Any], statement: Statement) -> Action:
        return Action("DynamoDBAction", *one_column(self._dynamodb, properties, statement))

    def _dynamodb_v2(self, properties: dict[str, Any], statement: Statement) -> Action:
        return Action("DynamoDBv2Action", *columns(self._dynamodb, properties))

    def _sns(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Sns", properties, {"TargetArn", "RoleArn", "MessageFormat"})
        target, message_format = properties["TargetArn"], properties.get("MessageFormat", "RAW")

        async def run(message: Message, output: Any) -> None:
            text = to_payload(output).decode()
            await asyncio.to_thread(self._sns_publish, target, text, message_format)

        return Action("SnsAction", target, run)
