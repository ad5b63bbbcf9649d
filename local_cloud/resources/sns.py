"""AWS::SNS: topics live in moto; the AWS endpoint delivers to the queues and functions that subscribe."""

from local_cloud.errors import DeployError, Unsupported
from local_cloud.resources.registry import (
    EMULATED,
    IAM_NOTE,
    MOTO,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    require,
    resource,
)

NOT_SENT = ("email", "email-json", "sms")


@resource(
    "AWS::SNS::Topic",
    MOTO,
    attributes="TopicArn TopicName",
    honoured="TopicName DisplayName",
    stated={
        "KmsMasterKeyId": "nothing is encrypted at rest locally",
        "TracingConfig": "no X-Ray locally",
        "SignatureVersion": "messages are not signed locally",
        **TAGS,
    },
    refused={
        "FifoTopic": "FIFO topics are not emulated",
        "ContentBasedDeduplication": "FIFO topics are not emulated",
        "Subscription": "write it as AWS::SNS::Subscription",
        "DataProtectionPolicy": "not emulated",
    },
)
async def topic(properties: Properties, context: Context) -> Applied:
    """One standard topic."""
    name = context.name(properties, "TopicName", 256)
    arn = context.arn("sns", name)
    pages = await context.call("sns", "list_topics")
    if arn in [one["TopicArn"] for one in pages["Topics"]]:
        raise DeployError(f"topic {name} exists already; delete it, or take TopicName out")
    shown = properties.get("DisplayName")
    await context.call("sns", "create_topic", Name=name, Attributes={"DisplayName": shown} if shown else None)

    async def delete() -> None:
        await context.call("sns", "delete_topic", TopicArn=arn)

    return Applied(arn, {"TopicArn": arn, "TopicName": name}, delete)


@resource("AWS::SNS::TopicPolicy", STORED, honoured="Topics PolicyDocument", attributes="Id", note=IAM_NOTE)
async def topic_policy(properties: Properties, context: Context) -> Applied:
    """A policy of topics."""
    require(properties, "PolicyDocument")
    return Applied(f"{context.stack}-{context.logical_id}", {"Id": context.logical_id})


@resource(
    "AWS::SNS::Subscription",
    EMULATED,
    attributes="Arn",
    honoured="TopicArn Protocol Endpoint RawMessageDelivery",
    stated={"Region": "one region only", "DeliveryPolicy": "no HTTP retries locally"},
    refused={
        "FilterPolicy": "filter policies are not emulated; filter in the subscriber",
        "FilterPolicyScope": "filter policies are not emulated; filter in the subscriber",
        "RedrivePolicy": "delivery to queues and functions cannot fail locally; take it out",
        "SubscriptionRoleArn": "Firehose subscriptions are not emulated",
    },
    note="sqs and lambda are delivered; e-mail and SMS are not sent (the log says what would have been)",
)
async def subscription(properties: Properties, context: Context) -> Applied:
    """One subscription."""
    topic_arn, protocol = require(properties, "TopicArn"), require(properties, "Protocol")
    if protocol not in ("sqs", "lambda", *NOT_SENT):
        raise Unsupported(f"Protocol: {protocol!r} is not emulated; sqs and lambda are, e-mail and SMS are logged")
    book = context.services.subscriptions
    arn = book.add(topic_arn, protocol, require(properties, "Endpoint"), properties.get("RawMessageDelivery", False))

    async def delete() -> None:
        book.remove(arn)

    return Applied(arn, {"Arn": arn}, delete)
