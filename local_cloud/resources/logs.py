"""AWS::Logs resources: log groups and streams in moto; filters and saved queries are kept, not run."""

from local_cloud.resources.registry import (
    MOTO,
    STORED,
    TAGS,
    Applied,
    Context,
    Properties,
    physical_name,
    require,
    resource,
)


@resource(
    "AWS::Logs::LogGroup",
    MOTO,
    attributes="Arn",
    honoured="LogGroupName RetentionInDays",
    stated={
        "KmsKeyId": "nothing is encrypted at rest locally",
        "LogGroupClass": "a matter of price only",
        "DataProtectionPolicy": "logs are not masked locally",
        "FieldIndexPolicies": "no log queries locally",
        "DeletionProtectionEnabled": "a log group may be deleted locally",
        **TAGS,
    },
    note="functions log to files under --state, not into the group",
)
async def log_group(properties: Properties, context: Context) -> Applied:
    """One log group."""
    name = context.name(properties, "LogGroupName", 512)
    await context.call("logs", "create_log_group", logGroupName=name)
    if "RetentionInDays" in properties:
        await context.call(
            "logs", "put_retention_policy", logGroupName=name, retentionInDays=int(properties["RetentionInDays"])
        )

    async def delete() -> None:
        await context.call("logs", "delete_log_group", logGroupName=name)

    return Applied(name, {"Arn": context.arn("logs", f"log-group:{name}:*")}, delete)


@resource("AWS::Logs::LogStream", MOTO, honoured="LogGroupName LogStreamName")
async def log_stream(properties: Properties, context: Context) -> Applied:
    """One log stream; it goes with its group."""
    name = context.name(properties, "LogStreamName", 512)
    await context.call(
        "logs", "create_log_stream", logGroupName=require(properties, "LogGroupName"), logStreamName=name
    )
    return Applied(name)


@resource(
    "AWS::Logs::MetricFilter",
    STORED,
    honoured="FilterName FilterPattern LogGroupName MetricTransformations",
    stated={"ApplyOnTransformedLogs": "no metrics are made from logs locally"},
    note="kept, not run: no metrics are made from logs locally",
)
async def metric_filter(properties: Properties, context: Context) -> Applied:
    """A metric filter of a log group."""
    for name in ("FilterPattern", "LogGroupName", "MetricTransformations"):
        require(properties, name)
    return Applied(context.name(properties, "FilterName", 512))


@resource(
    "AWS::Logs::QueryDefinition",
    STORED,
    attributes="QueryDefinitionId",
    honoured="Name QueryString LogGroupNames QueryLanguage",
    note="kept, not run; `GET /logs?holding=TEXT` on the control port looks through all functions' logs",
)
async def query_definition(properties: Properties, context: Context) -> Applied:
    """A saved query."""
    require(properties, "QueryString")
    name = physical_name(context.stack, context.logical_id, 64)
    return Applied(name, {"QueryDefinitionId": name})


@resource(
    "AWS::Logs::ResourcePolicy",
    STORED,
    honoured="PolicyName PolicyDocument",
    note="kept; IAM is not enforced locally",
)
async def resource_policy(properties: Properties, context: Context) -> Applied:
    """A policy of the log service."""
    return Applied(str(require(properties, "PolicyName")))
