"""AWS::SQS queues and their policies: from template properties to our own in-memory queues."""

from local_cloud.errors import DeployError
from local_cloud.resources.registry import (
    EMULATED,
    IAM_NOTE,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    require,
    resource,
)


@resource(
    "AWS::SQS::Queue",
    EMULATED,
    attributes="Arn QueueName QueueUrl",
    honoured="QueueName VisibilityTimeout MessageRetentionPeriod DelaySeconds MaximumMessageSize "
    "ReceiveMessageWaitTimeSeconds RedrivePolicy RedriveAllowPolicy FifoQueue",
    stated={
        "SqsManagedSseEnabled": "nothing is encrypted at rest locally",
        "KmsMasterKeyId": "nothing is encrypted at rest locally",
        "KmsDataKeyReusePeriodSeconds": "nothing is encrypted at rest locally",
        **TAGS,
    },
    refused={
        "ContentBasedDeduplication": "FIFO queues are not emulated; use a standard queue",
        "DeduplicationScope": "FIFO queues are not emulated; use a standard queue",
        "FifoThroughputLimit": "FIFO queues are not emulated; use a standard queue",
    },
    note="standard queues, in memory; FifoQueue true is refused",
)
async def queue(properties: Properties, context: Context) -> Applied:
    """One standard queue."""
    name = context.name(properties, "QueueName", 80)
    made = context.services.queues.create(name, properties)

    async def delete() -> None:
        context.services.queues.delete(name)

    return Applied(made.url, {"Arn": made.arn, "QueueName": name, "QueueUrl": made.url}, delete)


@resource("AWS::SQS::QueuePolicy", STORED, honoured="Queues PolicyDocument", attributes="Id", note=IAM_NOTE)
async def queue_policy(properties: Properties, context: Context) -> Applied:
    """A policy of queues that must exist."""
    for url in require(properties, "Queues"):
        if str(url).rpartition("/")[2] not in context.services.queues.names():
            raise DeployError(f"Queues: {url} is no queue of this deployment")
    require(properties, "PolicyDocument")
    return Applied(f"{context.stack}-{context.logical_id}", {"Id": context.logical_id})
