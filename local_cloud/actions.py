"""The actions of IoT rules: rule_engine.py hands a rule's output in, queues, Firehose, functions, moto and the gateway
take it. Every action is compiled from its CloudFormation properties when the rule is created."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from local_cloud.errors import Unsupported
from local_cloud.firehose import FirehoseService, S3Put
from local_cloud.functions import FunctionService
from local_cloud.properties import flag, integer, refuse_unknown
from local_cloud.queues import QueueService
from local_cloud.rule_sql import UNDEFINED, Message, Statement, to_payload

Run = Callable[[Message, Any], Awaitable[None]]
_SEPARATORS = ("\n", "\t", "\r\n", ",")


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
            "Republish": self._republish, "DynamoDBv2": self._dynamodb_v2, "Sns": self._sns}

    def compile(self, specification: Mapping[str, Any], statement: Statement) -> Action:
        """The action of one entry of Actions, or of ErrorAction; Unsupported (or SqlError of a template) otherwise."""
        if len(specification) != 1:
            raise Unsupported(f"Actions: an entry has one kind of action, got {sorted(specification)}")
        ((kind, properties),) = specification.items()
        if kind not in self._kinds:
            raise Unsupported(f"Actions: {kind} is not emulated; {', '.join(self._kinds)} are")
        return self._kinds[kind](dict(properties), statement)

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

    def _dynamodb_v2(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("DynamoDBv2", properties, {"PutItem", "RoleArn"})
        refuse_unknown("DynamoDBv2.PutItem", properties["PutItem"], {"TableName"})
        table = properties["PutItem"]["TableName"]

        async def run(message: Message, output: Any) -> None:
            if not isinstance(output, dict):
                raise TypeError(f"the output must be a JSON object of columns, got {type(output).__name__}")
            await asyncio.to_thread(self._dynamodb.put_item, TableName=table, Item=_attribute(output)["M"])

        return Action("DynamoDBv2Action", table, run)

    def _sns(self, properties: dict[str, Any], statement: Statement) -> Action:
        refuse_unknown("Sns", properties, {"TargetArn", "RoleArn", "MessageFormat"})
        target, message_format = properties["TargetArn"], properties.get("MessageFormat", "RAW")

        async def run(message: Message, output: Any) -> None:
            text = to_payload(output).decode()
            await asyncio.to_thread(self._sns_publish, target, text, message_format)

        return Action("SnsAction", target, run)


def _attribute(value: Any) -> dict[str, Any]:
    """A JSON value as DynamoDB writes it; Undefined members are left out."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, dict):
        return {"M": {name: _attribute(each) for name, each in value.items() if each is not UNDEFINED}}
    if isinstance(value, list):
        return {"L": [_attribute(each) for each in value if each is not UNDEFINED]}
    if value is None:
        return {"NULL": True}
    raise TypeError(f"{type(value).__name__} has no place in a DynamoDB item")
