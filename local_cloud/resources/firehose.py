"""AWS::KinesisFirehose::DeliveryStream: from template properties to our own buffers that write objects to S3."""

from local_cloud import iam_services
from local_cloud.resources.registry import EMULATED, TAGS, Applied, Context, Properties, resource


@resource(
    "AWS::KinesisFirehose::DeliveryStream",
    EMULATED,
    attributes="Arn",
    honoured="DeliveryStreamName DeliveryStreamType ExtendedS3DestinationConfiguration",
    stated={"DeliveryStreamEncryptionConfigurationInput": "nothing is encrypted at rest locally", **TAGS},
    refused={
        "KinesisStreamSourceConfiguration": "Kinesis is not emulated; use DirectPut",
        "S3DestinationConfiguration": "write it as ExtendedS3DestinationConfiguration",
        "HttpEndpointDestinationConfiguration": "only S3 destinations are emulated",
        "AmazonopensearchserviceDestinationConfiguration": "only S3 destinations are emulated",
        "RedshiftDestinationConfiguration": "only S3 destinations are emulated",
    },
    note="DirectPut to S3: buffering, prefixes with timestamps, GZIP; transformation and format conversion are refused",
)
async def delivery_stream(properties: Properties, context: Context) -> Applied:
    """One delivery stream."""
    name = context.name(properties, "DeliveryStreamName", 64)
    services = context.services
    arn = context.arn("firehose", f"deliverystream/{name}")
    iam_services.stream_made(services.iam, properties)
    services.firehose.create(name, properties)

    async def delete() -> None:
        await services.firehose.flush(name)
        await services.firehose.delete(name)

    return Applied(name, {"Arn": arn}, delete)
