"""IoT rules, one per route of contract/routes.py and one for presence (alerts.py): what arrives goes to a queue and, by
Firehose, to the archive.

What neither takes goes to S3 under errors/<rule>/, another service than both, with AWS's reason and the payload.
"""
import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_iot as iot
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs

from contract import routes
from infra.archive import ARCHIVE, ERRORS
from infra.functions import allow
from infra.settings import Settings, logical_id

SQL_VERSION = "2016-03-23"  # AWS takes 2015-10-08 when a template names none
BUFFER_S, BUFFER_MIB = 300, 64  # one archive object a route in five minutes, or sooner above this size
DATE = "date=!{timestamp:yyyy-MM-dd}/"


def _role(stack: cdk.Stack, construct_id: str, principal: iam.IPrincipal,
          statements: list[iam.PolicyStatement]) -> iam.Role:
    return iam.Role(stack, construct_id, assumed_by=principal,
                    inline_policies={"Access": iam.PolicyDocument(statements=statements)})


def archive_stream(stack: cdk.Stack, route: routes.Route, bucket: s3.IBucket) -> firehose.CfnDeliveryStream:
    """Firehose from a route to gzip objects `archive/<route>/date=.../`, one JSON message a line."""
    title = logical_id(route.name)
    prefix, failed = f"{ARCHIVE}{route.name}/", f"{ERRORS}archive/{route.name}/"
    role = _role(stack, f"{title}ArchiveRole", iam.ServicePrincipal("firehose.amazonaws.com"), [
        allow(["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"],  # what Firehose's guide asks for
              [bucket.arn_for_objects(f"{prefix}*"), bucket.arn_for_objects(f"{failed}*")]),
        allow(["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"], [bucket.bucket_arn])])
    return firehose.CfnDeliveryStream(
        stack, f"{title}Archive", delivery_stream_type="DirectPut",
        delivery_stream_encryption_configuration_input={"keyType": "AWS_OWNED_CMK"},
        extended_s3_destination_configuration=firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty(
            bucket_arn=bucket.bucket_arn, role_arn=role.role_arn, compression_format="GZIP",
            prefix=prefix + DATE, error_output_prefix=f"{failed}!{{firehose:error-output-type}}/{DATE}",
            file_extension=".jsonl.gz", buffering_hints={"intervalInSeconds": BUFFER_S, "sizeInMBs": BUFFER_MIB}))


def rule(stack: cdk.Stack, settings: Settings, name: str, *, sql: str, description: str, queue: sqs.IQueue,
         bucket: s3.IBucket, archive: firehose.CfnDeliveryStream | None = None) -> None:
    """The rule `<deployment>_<name>`, with a role that can do exactly its actions: to the queue, to the archive if one
    is given, and what neither takes to the bucket."""
    full_name, title = routes.rule_name(settings.name, name), logical_id(name)
    errors = f"{ERRORS}{full_name}/"
    role = _role(stack, f"{title}RuleRole", _iot_principal(stack, full_name), [
        allow(["sqs:SendMessage"], [queue.queue_arn]),
        *([allow(["firehose:PutRecord"], [archive.attr_arn])] if archive else []),
        allow(["s3:PutObject"], [bucket.arn_for_objects(f"{errors}*")])])
    action, of = iot.CfnTopicRule.ActionProperty, iot.CfnTopicRule
    actions = [action(sqs=of.SqsActionProperty(queue_url=queue.queue_url, role_arn=role.role_arn, use_base64=False))]
    if archive:
        actions.append(action(firehose=of.FirehoseActionProperty(
            delivery_stream_name=archive.ref, role_arn=role.role_arn, separator="\n")))
    iot.CfnTopicRule(stack, f"{title}Rule", rule_name=full_name, topic_rule_payload=of.TopicRulePayloadProperty(
        sql=sql, aws_iot_sql_version=SQL_VERSION, rule_disabled=False, description=description, actions=actions,
        error_action=action(s3=of.S3ActionProperty(
            bucket_name=bucket.bucket_name, role_arn=role.role_arn, key=errors + "${timestamp()}-${newuuid()}.json"))))


def _iot_principal(stack: cdk.Stack, rule_name: str) -> iam.ServicePrincipal:
    """IoT, for this rule of this account alone."""
    arn = stack.format_arn(service="iot", resource="rule", resource_name=rule_name)
    return iam.ServicePrincipal("iot.amazonaws.com", conditions={
        "StringEquals": {"aws:SourceAccount": stack.account}, "ArnLike": {"aws:SourceArn": arn}})
