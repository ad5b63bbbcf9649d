"""What AWS's own services need of the roles that a template gives them: rules, delivery streams, functions and their
mappings. Asked when the resource is made, as AWS does for mappings, and for a rule's actions and shadows at each
message."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from local_cloud.actions import Action
from local_cloud.errors import DeployError, Unsupported
from local_cloud.gateway.shadows import GET, Asked, Shadows
from local_cloud.iam import FIREHOSE, IOT, LAMBDA, AccessDenied, Iam
from local_cloud.iam_requests import Names, Need
from local_cloud.rule_engine import ReadShadow
from local_cloud.rule_sql import Message, Statement

log = logging.getLogger(__name__)

Properties = Mapping[str, Any]
_QUEUE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_STREAM = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
_SEND = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": "lambda:InvokeFunction"}
_OBJECTS = ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload")  # what Firehose's guide asks for
_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads")
GuardRule = Callable[[str, Properties, Statement, Action], Action]


def _deployed(iam: Iam, role_arn: str, service: str, asked: list[Need]) -> None:
    """Check at deployment; DeployError where AWS would refuse it, or would deploy what never works."""
    try:
        iam.check(role_arn, service, asked)
    except AccessDenied as denied:
        raise DeployError(f"Role: {denied}") from None


def _destination(arn: str) -> Need:
    service = arn.split(":")[2:3]
    if not service or service[0] not in _SEND:
        raise Unsupported(f"destination {arn} is not emulated; queues, topics and functions are")
    return Need(_SEND[service[0]], arn)


def function_made(iam: Iam, name: str, properties: Properties) -> None:
    """A function writes its log, and traces and dead letters if it has any; from now on its calls are its role's.

    Without its log or traces it runs, as on AWS, where nobody says so; here a warning does.
    """
    role = str(properties.get("Role", ""))
    iam.bind(name, role)
    group = properties.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}")
    stream = iam.names.arn("logs", f"log-group:{group}:log-stream:local")
    asked = [Need("logs:CreateLogStream", stream), Need("logs:PutLogEvents", stream)]
    if properties.get("TracingConfig", {}).get("Mode") == "Active":
        asked += [Need("xray:PutTraceSegments", "*"), Need("xray:PutTelemetryRecords", "*")]
    try:
        iam.check(role, LAMBDA, asked)
    except AccessDenied as denied:
        log.warning("function %s runs without its log or traces: %s", name, denied)
    if dead := properties.get("DeadLetterConfig", {}).get("TargetArn"):
        _deployed(iam, role, LAMBDA, [_destination(dead)])


def mapping_made(iam: Iam, properties: Properties) -> None:
    """Lambda polls the queue or stream as the function's role, and sends what failed to the mapping's destination."""
    source = str(properties.get("EventSourceArn", ""))
    name = str(properties["FunctionName"]).rpartition(":")[2]
    asked = [Need(action, source) for action in (_QUEUE if source.split(":")[2:3] == ["sqs"] else _STREAM)]
    if source.split(":")[2:3] == ["dynamodb"]:
        asked.append(Need("dynamodb:ListStreams", "*"))
    if failed := properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"):
        asked.append(_destination(failed))
    _deployed(iam, iam.role_of(name), LAMBDA, asked)


def stream_made(iam: Iam, properties: Properties) -> None:
    """Firehose writes objects under the stream's prefixes; a stream without S3 is refused elsewhere."""
    target = properties.get("ExtendedS3DestinationConfiguration")
    if target is None:
        return
    bucket = target["BucketARN"]
    keys = [re.sub(r"!\{[^}]*\}", "x", target.get(name) or "") + "x" for name in ("Prefix", "ErrorOutputPrefix")]
    asked = [Need(action, f"{bucket}/{key}") for key in keys for action in _OBJECTS]
    _deployed(iam, target["RoleARN"], FIREHOSE, asked + [Need(action, bucket) for action in _BUCKET])


def rule_guard(iam: Iam) -> GuardRule:
    """Wraps a rule's action: before each run its role is asked, so that a refusal goes the way of any other failure."""
    def guarded(rule_name: str, specification: Properties, statement: Statement, action: Action) -> Action:
        ((kind, properties),) = specification.items()
        if "RoleArn" not in properties:  # Lambda: the function has a permission instead
            return action
        template = {"S3": "Key", "Republish": "Topic"}.get(kind)

        async def run(message: Message, output: Any) -> None:
            name = statement.render(properties[template], message) if template else ""
            iam.check(properties["RoleArn"], IOT, _rule_needs(iam.names, kind, properties, name),
                      source_arn=iam.names.arn("iot", f"rule/{rule_name}"))
            await action.run(message, output)

        return Action(action.name, action.resource, run)

    return guarded


def shadow_reader(iam: Iam, shadows: Shadows) -> ReadShadow:
    """What get_thing_shadow() reads as the role that the call names; the reader raises AccessDenied or ShadowFault."""
    def read(rule_name: str, thing: str, name: str | None, role_arn: str) -> bytes:
        iam.check(role_arn, IOT, [Need("iot:GetThingShadow", iam.names.shadow(thing, name))],
                  source_arn=iam.names.arn("iot", f"rule/{rule_name}"))
        return json.dumps(shadows.do(Asked(thing, name, GET), b"")).encode()

    return read


def _rule_needs(names: Names, kind: str, properties: Properties, name: str) -> list[Need]:
    """What an action needs; name: of the object or topic, where it has one."""
    if kind == "Sqs":
        return [Need("sqs:SendMessage", names.queue(properties["QueueUrl"]))]
    if kind == "Firehose":
        many = "Batch" if str(properties.get("BatchMode", False)).lower() == "true" else ""
        stream = names.arn("firehose", f"deliverystream/{properties['DeliveryStreamName']}")
        return [Need(f"firehose:PutRecord{many}", stream)]
    if kind == "S3":
        actions = ["s3:PutObject", *(["s3:PutObjectAcl"] if "CannedAcl" in properties else [])]
        return [Need(action, f"arn:aws:s3:::{properties['BucketName']}/{name}") for action in actions]
    if kind == "Republish":
        return [Need("iot:Publish", names.arn("iot", f"topic/{name.removeprefix('$') if name[:2] == '$$' else name}"))]
    if kind == "Sns":
        return [Need("sns:Publish", properties["TargetArn"])]
    table = properties["PutItem"]["TableName"] if kind == "DynamoDBv2" else properties["TableName"]
    return [Need("dynamodb:PutItem", names.table(table))]
