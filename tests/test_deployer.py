"""The deployer: order, strictness, names, roll-back destroy, with the real emulated services and a recorded moto."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_cloud.assembly import Assembly
from local_cloud.deployer import check, creation_order
from local_cloud.errors import DeployError, Unsupported
from local_cloud.resources import REGISTRY
from local_cloud.resources.registry import physical_name
from local_cloud.subscriptions import Notification
from tests.deployer_rig import QUEUE, RecordedServices, deploy, stack

ROLE_ARN = "arn:aws:iam::123456789012:role/any"
AWS_PARTS = {"Fn::Sub": "${AWS::Partition} ${AWS::AccountId} ${AWS::StackName}"}
NOBODY: dict[str, Any] = {"Statement": []}




@pytest.fixture()
def services(tmp_path: Path) -> RecordedServices:
    return RecordedServices(tmp_path)




def faults(resources: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(Unsupported) as refusal:
        check(Assembly(Path(), (stack(resources, **sections),)), {})
    return str(refusal.value)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_type_refuses_every_property_that_it_does_not_name(name: str) -> None:
    kind = REGISTRY[name]
    assert kind.faults(dict.fromkeys(kind.known(), "x")) == []
    for refused in ("Nonsense", *kind.refused):
        (fault,) = kind.faults({refused: "x"})
        assert fault.startswith(f"property {refused}: "), "with the reason, or with what is known"


def rule(sql: str = "SELECT * FROM 'a'", **payload: Any) -> dict[str, Any]:
    return {"Type": "AWS::IoT::TopicRule", "Properties": {"RuleName": "r", "TopicRulePayload": {
        "Sql": sql, "AwsIotSqlVersion": "2016-03-23", "Actions": [], **payload}}}


def test_resources_are_made_after_what_they_refer_to_or_depend_on() -> None:
    resources = {
        "A": {"Type": "T", "Properties": {"X": {"Fn::Sub": "${B} ${C.Arn}"}}},
        "B": {"Type": "T", "DependsOn": "D"},
        "C": {"Type": "T", "DependsOn": ["B", "Absent"]},
        "D": {"Type": "T", "Properties": {"X": {"Fn::GetAtt": "E.Arn"}, "Y": {"Ref": "AWS::Region"}}},
        "E": {"Type": "T"}}
    assert creation_order(stack(resources), list(resources)) == ["E", "D", "B", "C", "A"]
    resources["E"]["DependsOn"] = "A"
    with pytest.raises(DeployError, match="in a circle: A, B, C, D, E"):
        creation_order(stack(resources), list(resources))


def test_every_fault_of_every_resource_is_named_at_once() -> None:
    text = faults({
        "Bus": {"Type": "AWS::Events::EventBus"},
        "Own": {"Type": "Custom::Mine", "Properties": {"ServiceToken": "x"}},
        "Fifo": {"Type": "AWS::SQS::Queue", "Properties": {"Colour": "red", "DeduplicationScope": "queue"}},
        "Q": {**QUEUE, "Properties": {"QueueName": {"Fn::ImportValue": "x"}}},
        "P": {"Type": "AWS::SSM::Parameter", "Properties": {
            "Name": {"Fn::GetAtt": ["Q", "Colour"]}, "Type": "String", "Value": {"Ref": "Nobody"}}},
        "D": {**QUEUE, "DeletionPolicy": "Snapshot"},
        "U": {**QUEUE, "CreationPolicy": {}}}, Transform="AWS::Serverless-2016-10-31", Rules={"Mine": {}},
        Outputs={"O": {"Value": {"Fn::GetAZs": ""}, "Export": {"Name": "x"}}},
        Conditions={"C": {"Fn::Contains": [["a"], "a"]}})
    for expected in (
            "stack S, resource Bus (AWS::Events::EventBus): unknown resource type; take it out",
            "resource Own (Custom::Mine): custom resources are not run; only Custom::S3AutoDeleteObjects is emulated",
            "resource Fifo (AWS::SQS::Queue): property Colour: not known to the local cloud for AWS::SQS::Queue;",
            "resource Fifo (AWS::SQS::Queue): property DeduplicationScope: FIFO queues are not emulated",
            "resource Q (AWS::SQS::Queue): Fn::ImportValue: exports are not emulated",
            "resource P (AWS::SSM::Parameter): Fn::GetAtt Q.Colour: unknown attribute of AWS::SQS::Queue; known: Arn",
            "resource P (AWS::SSM::Parameter): refers to 'Nobody', which is neither a parameter nor a resource",
            "resource D (AWS::SQS::Queue): DeletionPolicy 'Snapshot' is not emulated",
            "resource U (AWS::SQS::Queue): CreationPolicy is not emulated",
            "stack S: section Transform is not emulated", "stack S: rule Mine is not emulated",
            "output O: Export is not emulated", "output O: Fn::GetAZs: unknown intrinsic",
            "condition C: Fn::Contains: unknown intrinsic"):
        assert expected in text


@pytest.mark.parametrize(("made", "kind", "text"), [
    (rule("SELECT invented(a) FROM 'a'"), DeployError, "unknown function invented"),
    (rule("SELECT get_thing_shadow('t', 'r') AS s FROM 'a'"), Unsupported, "get_thing_shadow"),
    (rule("SELECT FROM WHERE"), DeployError, "Sql"),
    (rule(Actions=[{"Kinesis": {"StreamName": "x"}}]), Unsupported, "Kinesis is not emulated"),
    (rule(Actions=[{"Sqs": {"QueueUrl": "x", "RoleArn": ROLE_ARN, "Colour": "red"}}]), Unsupported, "Colour"),
    (rule(Colour="red"), Unsupported, "Colour"),
    ({"Type": "AWS::SQS::Queue", "Properties": {"FifoQueue": True}}, Unsupported, "FifoQueue"),
    ({"Type": "AWS::SQS::Queue", "Properties": {"RedrivePolicy": {"maxReceiveCount": 3, "x": 1}}}, Unsupported, "x"),
    ({"Type": "AWS::Lambda::Function", "Properties": {"Handler": "a.b", "Runtime": "nodejs24.x",
                                                      "Code": {"S3Key": "code.zip"}}}, Unsupported, "nodejs24.x"),
    ({"Type": "AWS::Lambda::Function", "Properties": {"Handler": "a.b", "Runtime": "python3.13",
                                                      "Code": {"S3Key": "no.zip"}}}, DeployError, "no.zip is not"),
    ({"Type": "AWS::Lambda::Function", "Properties": {"Code": {"ZipFile": "x"}}}, Unsupported, "only assets"),
    ({"Type": "AWS::KinesisFirehose::DeliveryStream", "Properties": {"DeliveryStreamType": "KinesisStreamAsSource"}},
     Unsupported, "KinesisStreamAsSource"),
    ({"Type": "AWS::IoT::Certificate", "Properties": {"Status": "ACTIVE", "CertificateSigningRequest": "x"}},
     DeployError, "CSR is no PEM"),
    ({"Type": "AWS::IoT::PolicyPrincipalAttachment", "Properties": {
        "PolicyName": "p", "Principal": "arn:aws:iot:eu-north-1:123456789012:cert/unknown"}}, DeployError,
     "is no certificate of this local cloud; give the stack a CertificateSigningRequest"),
    ({"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
        {"Effect": "Perhaps", "Action": "iot:Connect", "Resource": "*"}]}}}, DeployError, "Perhaps"),
    ({"Type": "AWS::DynamoDB::GlobalTable", "Properties": {"Replicas": [{"Region": "us-east-1"}]}},
     Unsupported, "Replicas"),
    ({"Type": "AWS::S3::Bucket", "Properties": {"LifecycleConfiguration": {"Rules": [{"Status": "On", "Rot": 1}]}}},
     Unsupported, "LifecycleConfiguration.Rules.Rot"),
    ({"Type": "AWS::S3::Bucket", "Properties": {"LifecycleConfiguration": {"Rules": [
        {"Status": "Enabled", "ExpirationInDays": 1, "TagFilters": []}]}}}, Unsupported, "Rules.TagFilters"),
    ({"Type": "AWS::DynamoDB::Table", "Properties": {"KeySchema": [], "AttributeDefinitions": [],
                                                     "TimeToLiveSpecification": {"Enabled": "perhaps"}}},
     Unsupported, "TimeToLiveSpecification.Enabled: true or false is expected, got 'perhaps'"),
    ({"Type": "AWS::Lambda::Permission", "Properties": {"FunctionName": "arn:aws:lambda:eu-north-1:1:function:gone"}},
     DeployError, "function:gone is no function of this deployment; there are none"),
    ({"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String"}}, DeployError, "property Value is missing"),
    ({"Type": "AWS::S3::Bucket", "Properties": {"VersioningConfiguration": {}}}, DeployError, "KeyError: 'Status'"),
    ({"Type": "AWS::SNS::Subscription", "Properties": {"TopicArn": "t", "Protocol": "https", "Endpoint": "e"}},
     Unsupported, "'https' is not emulated"),
    ({"Type": "AWS::Lambda::Permission", "Properties": {"FunctionName": "nobody"}}, DeployError, "no function"),
    ({"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": "{"}}, DeployError, "not JSON"),
])
def test_what_is_found_while_creating_carries_stack_and_logical_id(
        services: RecordedServices, made: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as fault:
        deploy(services, stack({"Thing": made}))
    assert str(fault.value).startswith(f"stack S, resource Thing ({made['Type']}): ")
    assert text in str(fault.value)


def test_properties_conditions_and_outputs_are_resolved(services: RecordedServices) -> None:
    made = deploy(services, stack(
        {"Dead": QUEUE, "Live": {**QUEUE, "Properties": {"QueueName": {"Ref": "Name"}, "RedrivePolicy": {
            "deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 3}}},
         "Spare": {**QUEUE, "Condition": "Wanted"}},
        Parameters={"Name": {"Type": "String", "Default": "other"}},
        Conditions={"Wanted": {"Fn::Equals": [{"Ref": "Name"}, "other"]}},
        Outputs={"Url": {"Value": {"Ref": "Live"}}, "Where": {"Value": AWS_PARTS},
                 "Spare": {"Value": {"Ref": "Spare"}, "Condition": "Wanted"}}), S={"Name": "live"})
    assert made.outputs() == {"S": {"Url": "http://127.0.0.1:1/123456789012/live", "Where": "aws 123456789012 S"}}
    dead = made.stacks["S"].resources["Dead"]
    assert services.queues.by_name("live").settings.dead_letter_arn == dead.attributes["Arn"]
    assert made.applied_count() == 2 and set(made.physical_names()["S"]) == {"Dead", "Live"}


def test_a_reference_to_what_its_condition_left_out_is_refused(services: RecordedServices) -> None:
    with pytest.raises(DeployError, match="'Spare', which is no parameter and no deployed resource"):
        deploy(services, stack({"Spare": {**QUEUE, "Condition": "Never"}}, Outputs={"O": {"Value": {"Ref": "Spare"}}},
                               Conditions={"Never": {"Fn::Equals": ["a", "b"]}}))


def test_stacks_hand_each_other_names_through_ssm(services: RecordedServices) -> None:
    first = stack({"Q": QUEUE, "P": {"Type": "AWS::SSM::Parameter", "Properties": {
        "Name": "/q", "Type": "String", "Value": {"Fn::GetAtt": ["Q", "QueueName"]}}}}, "First")
    second = stack({"P": {"Type": "AWS::SSM::Parameter", "Properties": {
        "Name": "/both", "Type": "String", "Value": {"Fn::Join": ["+", [{"Ref": "Given"}, "{{resolve:ssm:/q}}"]]}}}},
        "Second", Parameters={"Given": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/q"}})
    deploy(services, first, second)
    name = services.parameters["/q"]
    assert name.startswith("First-Q-") and services.parameters["/both"] == f"{name}+{name}"


def test_a_parameter_of_a_stack_or_name_that_is_not_there_is_refused(services: RecordedServices) -> None:
    with pytest.raises(DeployError, match="--parameter for stack 'T': no such stack; there are S"):
        deploy(services, stack({"Q": QUEUE}), T={"X": "1"})
    with pytest.raises(DeployError, match="stack S: parameter X is not declared"):
        deploy(services, stack({"Q": QUEUE}), S={"X": "1"})


def test_a_named_resource_that_exists_is_refused_and_the_stack_rolled_back(services: RecordedServices) -> None:
    services.queues.create("taken", {})
    with pytest.raises(DeployError, match=r"resource Q \(AWS::SQS::Queue\): queue taken exists already"):
        deploy(services, stack({"Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": NOBODY}},
                                "First": QUEUE, "Kept": {**QUEUE, "DeletionPolicy": "Retain"},
                                "Q": {**QUEUE, "DependsOn": ["Role", "First", "Kept"],
                                      "Properties": {"QueueName": "taken"}}}))
    assert [name.partition("-Kept-")[0] for name in services.queues.names()] == ["S", "taken"]
    assert services.called()[-1] == "iam.delete_role"


def test_an_aws_error_carries_the_logical_id(services: RecordedServices) -> None:
    def exists(given: dict[str, Any]) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "BucketAlreadyExists", "Message": "taken"}}, "CreateBucket")

    services.answers["create_bucket"] = exists
    with pytest.raises(DeployError, match=r"resource B \(AWS::S3::Bucket\): .*BucketAlreadyExists"):
        deploy(services, stack({"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "b"}}}))


def test_destroy_goes_in_reverse_keeps_what_is_retained_and_deploys_again(services: RecordedServices) -> None:
    made = deploy(services, stack({
        "Thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "t"}},
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": NOBODY}},
        "Policy": {"Type": "AWS::IAM::Policy", "Properties": {
            "PolicyName": "p", "Roles": [{"Ref": "Role"}], "PolicyDocument": NOBODY}},
        "Kept": {**QUEUE, "DeletionPolicy": "RetainExceptOnCreate"}, "Gone": QUEUE}))
    first = made.physical_names()["S"]
    kept = asyncio.run(made.destroy())
    assert [(one.logical_id, one.ref) for one in kept] == [("Kept", first["Kept"])]
    assert services.queues.names() == [first["Kept"].rpartition("/")[2]] and services.registry.things == {}
    assert services.called()[-3:] == ["iam.delete_role_policy", "iam.list_role_policies", "iam.delete_role"]
    asyncio.run(made.deploy())
    assert made.physical_names()["S"]["Kept"] != first["Kept"]
    assert made.applied_count() == 5


def test_a_bucket_with_objects_stops_destroy_unless_it_is_swept(services: RecordedServices) -> None:
    objects = [{"Key": "k", "VersionId": "1"}]
    services.answers["list_object_versions"] = lambda given: {"Versions": list(objects)}
    services.answers["delete_objects"] = lambda given: objects.clear() or {}
    bucket = {"Type": "AWS::S3::Bucket"}
    made = deploy(services, stack({"B": bucket}))
    with pytest.raises(DeployError, match=r"resource B \(AWS::S3::Bucket\): bucket s-b-.* is not empty"):
        asyncio.run(made.destroy())
    objects.clear()
    assert asyncio.run(made.destroy()) == [] and made.stacks == {}
    swept = deploy(services, stack({
        "B": bucket, "Provider": {"Type": "AWS::Lambda::Function", "Properties": {
            "Handler": "i.h", "Runtime": "nodejs24.x", "Code": {"S3Key": "absent.zip"}}},
        "Sweeper": {"Type": "Custom::S3AutoDeleteObjects", "Properties": {
            "ServiceToken": {"Fn::GetAtt": ["Provider", "Arn"]}, "BucketName": {"Ref": "B"}}}}, "T"))
    objects.append({"Key": "k", "VersionId": "2"})
    assert asyncio.run(swept.destroy()) == [] and services.functions.names() == []


def test_a_table_keeps_its_stream_indexes_and_ttl(services: RecordedServices) -> None:
    services.answers["describe_table"] = lambda given: {"Table": {
        "TableArn": "arn:t", "TableId": "i", "LatestStreamArn": "arn:t/stream"}}
    made = deploy(services, stack({"T": {"Type": "AWS::DynamoDB::Table", "Properties": {
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "GlobalSecondaryIndexes": [{"IndexName": "g", "KeySchema": [], "Projection": {"ProjectionType": "ALL"}}],
        "ProvisionedThroughput": {"ReadCapacityUnits": "2", "WriteCapacityUnits": 3},
        "StreamSpecification": {"StreamViewType": "KEYS_ONLY"},
        "TimeToLiveSpecification": {"AttributeName": "ends", "Enabled": "true"}}}}))
    created = services.calls[0][1]
    assert created["ProvisionedThroughput"] == {"ReadCapacityUnits": 2, "WriteCapacityUnits": 3}
    assert created["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    index = created["GlobalSecondaryIndexes"][0]
    assert index["ProvisionedThroughput"] == {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    assert services.calls[1] == ("dynamodb.update_time_to_live", {
        "TableName": created["TableName"], "TimeToLiveSpecification": {"AttributeName": "ends", "Enabled": True}})
    assert made.stacks["S"].resources["T"].attributes["StreamArn"] == "arn:t/stream"


def test_a_subscription_delivers_to_its_queue(services: RecordedServices) -> None:
    services.answers["list_topics"] = lambda given: {"Topics": []}
    made = deploy(services, stack({
        "T": {"Type": "AWS::SNS::Topic"}, "Q": QUEUE,
        "Sub": {"Type": "AWS::SNS::Subscription", "Properties": {
            "TopicArn": {"Ref": "T"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Q", "Arn"]}}},
        "Mail": {"Type": "AWS::SNS::Subscription", "Properties": {
            "TopicArn": {"Ref": "T"}, "Protocol": "email", "Endpoint": "a@example.com"}}}))
    names = made.physical_names()["S"]

    async def publish() -> dict[str, Any]:
        await services.subscriptions.deliver(Notification(names["T"], "m-1", "hot", "subject", {}))
        return json.loads((await services.queues.by_url(names["Q"]).receive(1, 0))[0].body)

    body = asyncio.run(publish())
    assert (body["Type"], body["TopicArn"]) == ("Notification", names["T"])
    assert (body["Subject"], body["Message"]) == ("subject", "hot")
    assert services.subscriptions.delivered == {"sqs": 1, "email": 1}


@pytest.mark.parametrize(("stack_name", "logical_id", "limit"), [
    ("Stack", "Id", 64), ("Stack", "L" * 200, 64), ("S" * 100, "L" * 200, 64), ("S" * 100, "Id", 64), ("S", "I", 20)])
def test_physical_names_fit_and_end_at_random(stack_name: str, logical_id: str, limit: int) -> None:
    first, second = (physical_name(stack_name, logical_id, limit) for _ in range(2))
    assert first != second and len(first) <= limit and len(first.rpartition("-")[2]) == 12
    assert stack_name.startswith(first.split("-")[0]) and logical_id.startswith(first.split("-")[1])
    if len(stack_name) + len(logical_id) + 14 <= limit:
        assert first.startswith(f"{stack_name}-{logical_id}-")
    assert physical_name("Stack", "Id", 63, lower=True).startswith("stack-id-")
