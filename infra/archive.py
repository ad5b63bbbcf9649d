"""The archive as one reads it in later years: what becomes of its objects, and a table over them for Athena with three
saved queries; the objects are written by rules.py."""
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3 as s3
from constructs import Construct

from contract import routes
from infra.archive_queries import QUERIES
from infra.settings import Settings

ARCHIVE, ERRORS, RESULTS = "archive/", "errors/", "athena/"  # prefixes in the bucket
RESULT_DAYS = 7
TABLE = "archive"
FIRST_DAY = "2026-01-01"
MAX_SCAN_BYTES = 20 * 10 ** 9  # a query ends there, at 10 cents
COLUMNS = {"line": "one message as it came from the rule: a JSON object, of any version"}
PARTITIONS = {"route": "readings, events, alerts or status", "day": "UTC day of arrival, 2026-11-22"}


def lifecycle(settings: Settings) -> list[s3.LifecycleRule]:
    """Archive to colder storage, then away; error objects and query results away.

    Glacier Instant Retrieval, since Athena and a rebuild read it as it is; S3 leaves objects below 128 KB where they
    are, as they would cost more there.
    """
    def days(number: int) -> cdk.Duration | None:
        return cdk.Duration.days(number) if number else None

    cold = days(settings.archive_cold_days)
    transitions = [s3.Transition(storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=cold)]
    rules = [
        s3.LifecycleRule(id="errors", prefix=ERRORS, expiration=days(settings.errors_days)),
        s3.LifecycleRule(id="query-results", prefix=RESULTS, expiration=days(RESULT_DAYS)),
        s3.LifecycleRule(id="unfinished-uploads", abort_incomplete_multipart_upload_after=days(7))]
    if cold or settings.archive_days:
        rules.insert(0, s3.LifecycleRule(id="archive", prefix=ARCHIVE, transitions=transitions if cold else None,
                                         expiration=days(settings.archive_days)))
    return rules


def catalog(scope: Construct, settings: Settings, bucket: s3.IBucket) -> None:
    """Database `<name>` with the table `archive`, work group `<name>` with the saved queries; they cost nothing idle.

    Projected partitions: nothing crawls, and a query over one route and a few days reads those objects alone.
    """
    database = glue.CfnDatabase(
        scope, "QueryDatabase", catalog_id=cdk.Aws.ACCOUNT_ID,
        database_input=glue.CfnDatabase.DatabaseInputProperty(
            name=settings.name, description="EdgeCloud: the archive in S3"))
    glue.CfnTable(
        scope, "QueryTable", catalog_id=cdk.Aws.ACCOUNT_ID, database_name=database.ref,
        table_input=glue.CfnTable.TableInputProperty(
            name=TABLE, description="Every message that came in, a line each", table_type="EXTERNAL_TABLE",
            partition_keys=_columns(PARTITIONS), parameters=_projection(bucket.bucket_name),
            storage_descriptor=_storage(bucket.bucket_name)))
    group = _work_group(scope, settings, bucket)
    for query in QUERIES:
        saved = athena.CfnNamedQuery(
            scope, f"{query.logical_id}Query", database=database.ref, name=f"{settings.name}: {query.title}",
            description=query.description, query_string=query.sql, work_group=settings.name)
        saved.add_resource_dependency(group)
    cdk.CfnOutput(scope, "ArchiveQueries", description="Saved queries over the archive", value=(
        f"https://{cdk.Aws.REGION}.console.aws.amazon.com/athena/home?region={cdk.Aws.REGION}#/saved-queries "
        f"(work group {settings.name})"))


def _columns(of: dict[str, str]) -> list[glue.CfnTable.ColumnProperty]:
    return [glue.CfnTable.ColumnProperty(name=name, type="string", comment=comment) for name, comment in of.items()]


def _storage(bucket_name: str) -> glue.CfnTable.StorageDescriptorProperty:
    """Lines as they are. A column per member would not do: a packed column is a number or a list, as it is shorter.

    The delimiter is a character that JSON text cannot hold.
    """
    return glue.CfnTable.StorageDescriptorProperty(
        location=f"s3://{bucket_name}/{ARCHIVE}", columns=_columns(COLUMNS), compressed=True,
        input_format="org.apache.hadoop.mapred.TextInputFormat",
        output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        serde_info=glue.CfnTable.SerdeInfoProperty(
            serialization_library="org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
            parameters={"field.delim": "\u0001", "serialization.format": "\u0001"}))


def _projection(bucket_name: str) -> dict[str, str]:
    return {
        "EXTERNAL": "TRUE", "classification": "csv", "compressionType": "gzip", "projection.enabled": "true",
        "projection.route.type": "enum", "projection.route.values": ",".join(route.name for route in routes.ROUTES),
        "projection.day.type": "date", "projection.day.format": "yyyy-MM-dd", "projection.day.range":
            f"{FIRST_DAY},NOW", "projection.day.interval": "1", "projection.day.interval.unit": "DAYS",
        "storage.location.template": f"s3://{bucket_name}/{ARCHIVE}${{route}}/date=${{day}}/"}


def _work_group(scope: Construct, settings: Settings, bucket: s3.IBucket) -> athena.CfnWorkGroup:
    """Results go into the archive's bucket, encrypted, for a week; nobody's own settings override that."""
    configuration: dict[str, Any] = {
        "enforce_work_group_configuration": True, "publish_cloud_watch_metrics_enabled": False,
        "bytes_scanned_cutoff_per_query": MAX_SCAN_BYTES,
        "engine_version": athena.CfnWorkGroup.EngineVersionProperty(selected_engine_version="Athena engine version 3"),
        "result_configuration": athena.CfnWorkGroup.ResultConfigurationProperty(
            output_location=f"s3://{bucket.bucket_name}/{RESULTS}",
            encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(encryption_option="SSE_S3"))}
    return athena.CfnWorkGroup(
        scope, "QueryWorkGroup", name=settings.name, description="EdgeCloud: questions to the archive",
        recursive_delete_option=True,
        work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(**configuration))
