"""What is kept: keys, indexes, stream, expiry, protection; and what becomes of it when the stack goes."""
import pytest
from aws_cdk.assertions import Match, Template

from infra import storage_stack
from lambdas import table
from tests.synthesized import properties, resources, template, text

STATEFUL = {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}


@pytest.fixture(scope="module")
def storage() -> Template:
    return Template.from_json(template("Storage"))


def test_readings_have_a_stream_of_both_images_and_an_index_of_events(storage: Template) -> None:
    storage.has_resource_properties("AWS::DynamoDB::Table", {
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
        "GlobalSecondaryIndexes": [{
            "IndexName": "events_by_number", "Projection": {"ProjectionType": "ALL"},
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"},
                          {"AttributeName": "event_number", "KeyType": "RANGE"}]}],
        "AttributeDefinitions": Match.array_with([{"AttributeName": "event_number", "AttributeType": "N"}])})


def test_alerts_have_an_index_by_day(storage: Template) -> None:
    storage.has_resource_properties("AWS::DynamoDB::Table", {"GlobalSecondaryIndexes": [{
        "IndexName": "by_day", "Projection": {"ProjectionType": "ALL"},
        "KeySchema": [{"AttributeName": "day", "KeyType": "HASH"}, {"AttributeName": "recent", "KeyType": "RANGE"}]}]})


def test_the_functions_name_the_same_indexes() -> None:
    assert (storage_stack.EVENTS_BY_NUMBER, storage_stack.BY_DAY) == (table.EVENTS_BY_NUMBER, table.BY_DAY)


def test_every_table_is_on_demand_expires_and_can_be_restored(storage: Template) -> None:
    storage.resource_count_is("AWS::DynamoDB::Table", 4)
    storage.all_resources_properties("AWS::DynamoDB::Table", {
        "BillingMode": "PAY_PER_REQUEST", "DeletionProtectionEnabled": True,
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}})


def test_the_bucket_is_encrypted_closed_and_takes_tls_alone(storage: Template) -> None:
    storage.resource_count_is("AWS::S3::Bucket", 1)
    storage.has_resource_properties("AWS::S3::Bucket", {
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True, "BlockPublicPolicy": True,
            "IgnorePublicAcls": True, "RestrictPublicBuckets": True}})
    storage.has_resource_properties("AWS::S3::BucketPolicy", {"PolicyDocument": {"Statement": [Match.object_like(
        {"Effect": "Deny", "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}})]}})


@pytest.mark.parametrize("context, policy", [((), "Retain"), ((("ephemeral", "true"),), "Delete")])
def test_what_is_kept_stays_unless_ephemeral(context: tuple[tuple[str, str], ...], policy: str) -> None:
    found = template("Storage", *context)
    kept = [resource for resource in found["Resources"].values() if resource["Type"] in STATEFUL]
    assert len(kept) == 5
    assert {(one["DeletionPolicy"], one["UpdateReplacePolicy"]) for one in kept} == {(policy, policy)}
    protected = {one["Properties"]["DeletionProtectionEnabled"] for one in kept if "KeySchema" in one["Properties"]}
    assert protected == {policy == "Retain"}


def test_an_ephemeral_bucket_says_that_it_must_be_emptied() -> None:
    outputs = template("Storage", ("ephemeral", "true"))["Outputs"]
    assert "aws s3 rm --recursive" in outputs["ArchiveBucketName"]["Description"]


def test_names_go_out_as_parameters() -> None:
    given = {one["Properties"]["Name"]: text(one["Properties"]["Value"])
             for one in resources(template("Storage"), "AWS::SSM::Parameter").values()}
    assert given == {
        "/edgecloud/readings-table": "<Readings>", "/edgecloud/rollups-table": "<Rollups>",
        "/edgecloud/alerts-table": "<Alerts>", "/edgecloud/archive-bucket": "<Archive>",
        "/edgecloud/readings-stream": "<Readings.StreamArn>", "/edgecloud/rollups-stream": "<Rollups.StreamArn>",
        "/edgecloud/incidents-table": "<Incidents>"}
    assert properties(template("Storage"), "ReadingsTableParameter")["Type"] == "String"
