"""Budgets, keys and catalogues: kept as the template has them, so that a whole template deploys; none is run."""

import uuid

from local_cloud.resources.registry import STORED, TAGS, Applied, Context, Properties, require, resource


@resource(
    "AWS::Budgets::Budget",
    STORED,
    honoured="Budget NotificationsWithSubscribers",
    stated={"ResourceTags": "nothing local reads tags"},
    note="kept; the local bill (GET /bill at the control port) is not compared with it",
)
async def budget(properties: Properties, context: Context) -> Applied:
    """One budget."""
    given = require(properties, "Budget")
    return Applied(context.name(given, "BudgetName", 100))


@resource(
    "AWS::KMS::Key",
    STORED,
    attributes="Arn KeyId",
    honoured="KeyPolicy Description EnableKeyRotation Enabled KeySpec KeyUsage MultiRegion PendingWindowInDays "
    "RotationPeriodInDays",
    stated=TAGS,
    note="a name only: nothing is encrypted at rest locally",
)
async def key(properties: Properties, context: Context) -> Applied:
    """A key that encrypts nothing."""
    made = str(uuid.uuid4())
    return Applied(made, {"KeyId": made, "Arn": context.arn("kms", f"key/{made}")})


@resource("AWS::KMS::Alias", STORED, honoured="AliasName TargetKeyId", note="a name only")
async def alias(properties: Properties, context: Context) -> Applied:
    """A second name of a key."""
    require(properties, "TargetKeyId")
    return Applied(require(properties, "AliasName"))


@resource(
    "AWS::Glue::Database",
    STORED,
    honoured="CatalogId DatabaseInput DatabaseName",
    note="kept; no query engine locally",
)
async def database(properties: Properties, context: Context) -> Applied:
    """A catalogue's database."""
    given = require(properties, "DatabaseInput")
    return Applied(str(properties.get("DatabaseName") or context.name(given, "Name", 255, lower=True)))


@resource(
    "AWS::Glue::Table",
    STORED,
    honoured="CatalogId DatabaseName TableInput OpenTableFormatInput",
    note="kept; no query engine locally",
)
async def table(properties: Properties, context: Context) -> Applied:
    """A catalogue's table."""
    require(properties, "DatabaseName")
    return Applied(context.name(require(properties, "TableInput"), "Name", 255, lower=True))


@resource(
    "AWS::Athena::NamedQuery",
    STORED,
    honoured="Database Description Name QueryString WorkGroup",
    attributes="NamedQueryId",
    note="kept; no query engine locally",
)
async def named_query(properties: Properties, context: Context) -> Applied:
    """A saved query."""
    require(properties, "QueryString")
    made = str(uuid.uuid4())
    return Applied(made, {"NamedQueryId": made})


@resource(
    "AWS::Athena::WorkGroup",
    STORED,
    attributes="CreationTime",
    honoured="Name Description RecursiveDeleteOption State WorkGroupConfiguration",
    stated=TAGS,
    note="kept; no query engine locally",
)
async def work_group(properties: Properties, context: Context) -> Applied:
    """A work group of queries."""
    return Applied(require(properties, "Name"), {"CreationTime": "0"})


@resource("AWS::CDK::Metadata", STORED, honoured="Analytics", note="the CDK CLI's usage report; nothing to do")
async def cdk_metadata(properties: Properties, context: Context) -> Applied:
    """What the CLI adds for its own statistics."""
    return Applied(f"{context.stack}-{context.logical_id}")
