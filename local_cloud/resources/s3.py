"""AWS::S3 buckets and their policies: from template properties to buckets in moto."""

import json
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.properties import refuse_unknown
from local_cloud.resources.registry import MOTO, TAGS, Applied, Context, Properties, require, resource

_RULE_KEYS = {"AbortIncompleteMultipartUpload", "ExpirationInDays", "Id", "NoncurrentVersionExpiration", "Prefix",
              "Status", "Transitions"}
_CORS_KEYS = {"AllowedHeaders", "AllowedMethods", "AllowedOrigins", "ExposedHeaders", "Id", "MaxAge"}


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """A CloudFormation lifecycle rule in the words of the S3 API."""
    refuse_unknown("LifecycleConfiguration.Rules", rule, _RULE_KEYS)
    made: dict[str, Any] = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        made["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if "Transitions" in rule:
        made["Transitions"] = [
            {"Days": int(one["TransitionInDays"]), "StorageClass": one["StorageClass"]} for one in rule["Transitions"]
        ]
    if "AbortIncompleteMultipartUpload" in rule:
        days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(days)}
    if "NoncurrentVersionExpiration" in rule:
        made["NoncurrentVersionExpiration"] = {
            "NoncurrentDays": int(rule["NoncurrentVersionExpiration"]["NoncurrentDays"])
        }
    return made


async def empty_bucket(context: Context, name: str) -> None:
    """Delete every object, version and delete marker of a bucket."""
    while True:
        page = await context.call("s3", "list_object_versions", Bucket=name, MaxKeys=1000)
        found = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for kind in ("Versions", "DeleteMarkers")
            for one in page.get(kind, [])
        ]
        if not found:
            return
        await context.call("s3", "delete_objects", Bucket=name, Delete={"Objects": found, "Quiet": True})


@resource(
    "AWS::S3::Bucket",
    MOTO,
    attributes="Arn DomainName RegionalDomainName DualStackDomainName WebsiteURL",
    honoured="BucketName VersioningConfiguration LifecycleConfiguration CorsConfiguration",
    stated={
        "BucketEncryption": "nothing is encrypted at rest locally",
        "PublicAccessBlockConfiguration": "IAM is not enforced locally; the port is bound to 127.0.0.1",
        "OwnershipControls": "IAM is not enforced locally",
        "AccessControl": "IAM is not enforced locally",
        "LoggingConfiguration": "no access logs locally",
        "MetricsConfigurations": "no request metrics locally",
        "IntelligentTieringConfigurations": "a matter of price only",
        **TAGS,
    },
    refused={
        "NotificationConfiguration": "S3 events are not emulated; send the event from what writes the object",
        "WebsiteConfiguration": "static websites are not emulated",
        "ReplicationConfiguration": "one region only",
    },
    note="lifecycle rules are stored, never run; a bucket with objects is not deleted, as on AWS",
)
async def bucket(properties: Properties, context: Context) -> Applied:
    """One bucket."""
    name = context.name(properties, "BucketName", 63, lower=True)
    location = None if context.region == "us-east-1" else {"LocationConstraint": context.region}
    await context.call("s3", "create_bucket", Bucket=name, CreateBucketConfiguration=location)
    await _configure(name, properties, context)

    async def delete() -> None:
        if name in context.services.swept_buckets:
            await empty_bucket(context, name)
        page = await context.call("s3", "list_object_versions", Bucket=name, MaxKeys=1)
        if page.get("Versions") or page.get("DeleteMarkers"):
            raise DeployError(
                f"bucket {name} is not empty: empty it first, or give it auto_delete_objects "
                "(CloudFormation fails here too)"
            )
        await context.call("s3", "delete_bucket", Bucket=name)

    host = f"{name}.s3.{context.region}.amazonaws.com"
    return Applied(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": host,
            "DualStackDomainName": f"{name}.s3.dualstack.{context.region}.amazonaws.com",
            "WebsiteURL": f"http://{name}.s3-website.{context.region}.amazonaws.com",
        },
        delete,
    )


async def _configure(name: str, properties: Properties, context: Context) -> None:
    """Versioning, lifecycle rules and CORS of a bucket that is made."""
    if "VersioningConfiguration" in properties:
        await context.call(
            "s3",
            "put_bucket_versioning",
            Bucket=name,
            VersioningConfiguration={"Status": properties["VersioningConfiguration"]["Status"]},
        )
    if "LifecycleConfiguration" in properties:
        rules = [_lifecycle_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
        await context.call(
            "s3", "put_bucket_lifecycle_configuration", Bucket=name, LifecycleConfiguration={"Rules": rules}
        )
    if "CorsConfiguration" in properties:
        await context.call(
            "s3",
            "put_bucket_cors",
            Bucket=name,
            CORSConfiguration={
                "CORSRules": [_cors_rule(rule) for rule in properties["CorsConfiguration"]["CorsRules"]]
            },
        )


def _cors_rule(rule: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown("CorsConfiguration.CorsRules", rule, _CORS_KEYS)
    names = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
    return {names.get(key, key): value for key, value in rule.items()}


@resource("AWS::S3::BucketPolicy", MOTO, honoured="Bucket PolicyDocument",
          note="statements without a Condition are stored; those with one are not, since moto denies every request "
               "for them; IAM is not enforced locally")
async def bucket_policy(properties: Properties, context: Context) -> Applied:
    """A bucket's policy, readable through the API as far as moto evaluates it rightly."""
    name = require(properties, "Bucket")
    document = require(properties, "PolicyDocument")
    statements = [one for one in document["Statement"] if not one.get("Condition")]
    if statements:
        kept = json.dumps({**document, "Statement": statements})
        await context.call("s3", "put_bucket_policy", Bucket=name, Policy=kept)

    async def delete() -> None:
        await context.call("s3", "delete_bucket_policy", Bucket=name)

    return Applied(name, {}, delete)
