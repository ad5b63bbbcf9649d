"""AWS::DynamoDB tables: from template properties to tables with streams in moto."""

from typing import Any

from local_cloud.errors import Unsupported
from local_cloud.properties import flag, refuse_unknown
from local_cloud.resources.registry import MOTO, TAGS, Applied, Context, Properties, require, resource

STATED = {
    "PointInTimeRecoverySpecification": "moto keeps no backups",
    "SSESpecification": "nothing is encrypted at rest locally",
    "DeletionProtectionEnabled": "honoured on AWS; locally a table may be deleted",
    "ContributorInsightsSpecification": "no insights locally",
    "TableClass": "a matter of price only",
    "OnDemandThroughput": "no throttling locally",
    "WarmThroughput": "no throttling locally",
    "ResourcePolicy": "IAM is not enforced locally",
    **TAGS,
}
KEYS = "AttributeDefinitions KeySchema BillingMode GlobalSecondaryIndexes LocalSecondaryIndexes StreamSpecification"
_WITHOUT_EFFECT = {
    "ContributorInsightsSpecification",
    "OnDemandThroughput",
    "WarmThroughput",
    "WriteProvisionedThroughputSettings",
    "ReadProvisionedThroughputSettings",
}


def _indexes(given: list[dict[str, Any]] | None, billing: str) -> list[dict[str, Any]] | None:
    if not given:
        return None
    indexes = [{key: value for key, value in index.items() if key not in _WITHOUT_EFFECT} for index in given]
    for index in indexes:
        refuse_unknown("index", index, {"IndexName", "KeySchema", "Projection", "ProvisionedThroughput"})
        if billing == "PROVISIONED":
            index["ProvisionedThroughput"] = _throughput(index.get("ProvisionedThroughput"))
    return indexes


def _throughput(given: dict[str, Any] | None) -> dict[str, int]:
    given = given or {}
    return {name: int(given.get(name, 5)) for name in ("ReadCapacityUnits", "WriteCapacityUnits")}


async def _create(properties: Properties, context: Context) -> Applied:
    name = context.name(properties, "TableName", 255)
    billing = properties.get("BillingMode", "PROVISIONED")
    stream = properties.get("StreamSpecification")
    if stream:
        refuse_unknown("StreamSpecification", stream, {"StreamViewType"})
    await context.call(
        "dynamodb",
        "create_table",
        TableName=name,
        BillingMode=billing,
        KeySchema=require(properties, "KeySchema"),
        AttributeDefinitions=require(properties, "AttributeDefinitions"),
        GlobalSecondaryIndexes=_indexes(properties.get("GlobalSecondaryIndexes"), billing),
        LocalSecondaryIndexes=_indexes(properties.get("LocalSecondaryIndexes"), "PAY_PER_REQUEST"),
        ProvisionedThroughput=_throughput(properties.get("ProvisionedThroughput"))
        if billing == "PROVISIONED"
        else None,
        StreamSpecification={"StreamEnabled": True, **stream} if stream else None,
    )
    ttl = properties.get("TimeToLiveSpecification")
    if ttl and flag("TimeToLiveSpecification.Enabled", ttl.get("Enabled")):
        await context.call(
            "dynamodb",
            "update_time_to_live",
            TableName=name,
            TimeToLiveSpecification={"AttributeName": ttl["AttributeName"], "Enabled": True},
        )
    table = (await context.call("dynamodb", "describe_table", TableName=name))["Table"]
    attributes = {"Arn": table["TableArn"], "TableId": table.get("TableId", name)}
    if stream:
        attributes["StreamArn"] = table["LatestStreamArn"]

    async def delete() -> None:
        await context.call("dynamodb", "delete_table", TableName=name)

    return Applied(name, attributes, delete)


@resource(
    "AWS::DynamoDB::Table",
    MOTO,
    attributes="Arn StreamArn",
    honoured=f"TableName {KEYS} ProvisionedThroughput TimeToLiveSpecification",
    stated=STATED,
    refused={
        "ImportSourceSpecification": "imports from S3 are not emulated; load the items yourself",
        "KinesisStreamSpecification": "Kinesis is not emulated; use StreamSpecification",
    },
    note="TTL is stored; like on AWS, do not rely on prompt deletion: expired items stay",
)
async def table(properties: Properties, context: Context) -> Applied:
    """One table."""
    return await _create(properties, context)


@resource(
    "AWS::DynamoDB::GlobalTable",
    MOTO,
    attributes="Arn StreamArn TableId",
    honoured=f"TableName {KEYS} Replicas TimeToLiveSpecification",
    stated={
        **STATED,
        "WriteProvisionedThroughputSettings": "no throttling locally",
        "WriteOnDemandThroughputSettings": "no throttling locally",
        "ReadOnDemandThroughputSettings": "no throttling locally",
    },
    note="one replica, in the region that runs",
)
async def global_table(properties: Properties, context: Context) -> Applied:
    """A global table with one replica, which is a table."""
    replicas = require(properties, "Replicas")
    if [replica.get("Region") for replica in replicas] != [context.region]:
        raise Unsupported(f"Replicas: exactly one, in {context.region}, is emulated; got {replicas!r}")
    given = {name: value for name, value in properties.items() if name != "Replicas"}
    if given.get("BillingMode", "PAY_PER_REQUEST") == "PROVISIONED":
        given["ProvisionedThroughput"] = {}
    else:
        given["BillingMode"] = "PAY_PER_REQUEST"
    return await _create(given, context)
