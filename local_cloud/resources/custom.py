"""Custom resources that the CDK itself makes, emulated by what they do; their provider functions are not run.

Any other custom resource is refused: its provider would have to be run with a ResponseURL, which the local cloud lacks.
"""

from local_cloud.resources.registry import EMULATED, Applied, Context, Properties, require, resource
from local_cloud.resources.s3 import empty_bucket

EMULATED_CUSTOM = ("Custom::S3AutoDeleteObjects",)


@resource(
    "Custom::S3AutoDeleteObjects",
    EMULATED,
    attributes=None,
    honoured="ServiceToken BucketName",
    note="deletion empties the bucket, as the CDK's own provider does; that provider is not run",
)
async def auto_delete_objects(properties: Properties, context: Context) -> Applied:
    """Empties its bucket when it is deleted."""
    name = require(properties, "BucketName")

    async def delete() -> None:
        # What still writes to the bucket is deleted after this; so the bucket's own deletion empties it once more.
        context.services.swept_buckets.add(name)
        await empty_bucket(context, name)

    return Applied(f"{context.stack}-{context.logical_id}", {}, delete)
