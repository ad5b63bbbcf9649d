"""IAM as the local cloud judges it: documents, what SDK requests need, the roles of functions, rules and streams."""
import asyncio
import json
from typing import Any
from xml.etree import ElementTree

import pytest

from local_cloud.actions import Action
from local_cloud.errors import DeployError, Unsupported
from local_cloud.functions import ACCESS_KEY
from local_cloud.http_wire import Request
from local_cloud.iam import FIREHOSE, IOT, LAMBDA, AccessDenied, Iam
from local_cloud.iam_policy import allowed, parse
from local_cloud.iam_requests import Names, Need, UnknownRequest, needs
from local_cloud.iam_services import function_made, mapping_made, rule_guard, stream_made
from local_cloud.rule_sql import Message, compile_statement

ACCOUNT, REGION = "123456789012", "eu-north-1"
NAMES = Names(ACCOUNT, REGION)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"


def statement(action: Any = "dynamodb:Query", resource: Any = TABLE, effect: str = "Allow",
              **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust(service: str, **condition: Any) -> dict[str, Any]:
    return document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}, **condition})


def iam(*statements: dict[str, Any], service: str = LAMBDA, enforced: bool = True) -> Iam:
    """One role, `worker`, with these statements, for a function `f`."""
    made = Iam(ACCOUNT, REGION, enforced)
    made.add_role("worker", trust(service))
    made.put_policy("worker", "Access", document(*statements))
    made.bind("f", ROLE)
    return made


@pytest.mark.parametrize("statements, action, resource, may", [
    ([statement()], "dynamodb:Query", TABLE, True), ([statement()], "dynamodb:query", TABLE, True),
    ([statement()], "dynamodb:Scan", TABLE, False), ([statement()], "dynamodb:Query", TABLE + "2", False),
    ([statement()], "dynamodb:Query", TABLE + "/index/i", False),
    ([statement(resource=TABLE + "/index/*")], "dynamodb:Query", TABLE + "/index/i", True),
    ([statement(["s3:Get*", "dynamodb:Q?ery"], "*")], "dynamodb:Query", TABLE, True),
    ([statement(), statement(effect="Deny")], "dynamodb:Query", TABLE, False),
    ([statement("*", "*"), statement("dynamodb:Delete*", "*", "Deny")], "dynamodb:DeleteItem", TABLE, False),
    ([], "dynamodb:Query", TABLE, False),
    ([statement(Condition={"StringEquals": {"a:b": "x"}})], "dynamodb:Query", TABLE, False),  # the key is not there
])
def test_what_documents_allow(statements: list[dict[str, Any]], action: str, resource: str, may: bool) -> None:
    assert allowed(parse(document(*statements), "p"), action, resource, {}) is may


@pytest.mark.parametrize("condition, may", [
    ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True), ({"StringEquals": {"aws:SourceAccount": "1"}}, False),
    ({"ArnLike": {"aws:SourceArn": "arn:*:rule/r"}}, True), ({"StringEquals": {"aws:SourceArn": "arn:*"}}, False),
    ({"Bool": {"aws:SecureTransport": [True]}}, False)])
def test_conditions_hold_of_the_request(condition: dict[str, Any], may: bool) -> None:
    context = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": "arn:aws:iot:x:1:rule/r"}
    assert allowed(parse(document(statement(Condition=condition)), "p"), "dynamodb:Query", TABLE, context) is may


@pytest.mark.parametrize("bad, fault, said", [
    ({}, DeployError, "expected an object with Version and Statement"),
    (document({**statement(), "Effect": "allow"}), DeployError, "expected Allow or Deny"),
    (document({"Effect": "Allow", "Action": "x:y"}), DeployError, "has no Resource"),
    (document(statement(action=[])), DeployError, "Action: got [], expected a string"),
    (document({**statement(), "NotAction": "x:y"}), Unsupported, "NotAction is not evaluated here"),
    (document("all of it"), DeployError, "statement 'all of it', expected an object"),
    (document(statement(Condition="x")), DeployError, "Condition: got 'x', expected an object"),
    (document(statement(Condition={"StringEquals": "x"})), DeployError, "StringEquals: got 'x', expected an object"),
    (document(statement(Condition={"NumericLessThan": {"a:b": "1"}})), Unsupported, "NumericLessThan is not evaluated"),
])
def test_what_is_not_evaluated_stops_the_start(bad: Any, fault: type[Exception], said: str) -> None:
    with pytest.raises(fault) as caught:
        parse(bad, "policy p")
    assert said in str(caught.value)


def request(target: str = "", body: Any = None, path: str = "/", method: str = "POST", service: str = "dynamodb",
            key: str = f"{ACCESS_KEY}f") -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    credential = f"AWS4-HMAC-SHA256 Credential={key}/20261122/{REGION}/{service}/aws4_request, Signature=0"
    return Request(method, path, [("X-Amz-Target", target), ("Authorization", credential)], data)


PUT = {"Put": {"TableName": "t"}}


@pytest.mark.parametrize("asked, service, expected", [
    (request("DynamoDB_20120810.Query", {"TableName": "t", "IndexName": "i"}), "dynamodb",
     [("dynamodb:Query", TABLE + "/index/i")]),
    (request("DynamoDB_20120810.BatchWriteItem", {"RequestItems": {"t": [], "u": []}}), "dynamodb",
     [("dynamodb:BatchWriteItem", TABLE), ("dynamodb:BatchWriteItem", TABLE[:-1] + "u")]),
    (request("DynamoDB_20120810.TransactWriteItems", {"TransactItems": [PUT, {"ConditionCheck": {"TableName": "t"}}]}),
     "dynamodb", [("dynamodb:PutItem", TABLE), ("dynamodb:ConditionCheckItem", TABLE)]),
    (request("AmazonSQS.SendMessageBatch", {"QueueUrl": "http://x/1/q"}), "sqs", [("sqs:SendMessage", QUEUE)]),
    (request("Firehose_20150804.PutRecord", {"DeliveryStreamName": "d"}), "firehose",
     [("firehose:PutRecord", f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/d")]),
    (request("AmazonSSM.GetParameter", {"Name": "/a/b"}), "ssm",
     [("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/a/b")]),
    (request(body=b"Action=Publish&TopicArn=arn%3Aaws%3Asns%3Ax"), "sns", [("sns:Publish", "arn:aws:sns:x")]),
    (request(path="/topics/a%2Fb?qos=1"), "iotdata", [("iot:Publish", f"arn:aws:iot:{REGION}:{ACCOUNT}:topic/a/b")]),
    (request(path="/things/T/shadow?name=bridge", method="GET"), "iotdata",
     [("iot:GetThingShadow", f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/T/bridge")]),
    (request(path="/things/T/shadow", method="GET"), "iotdata",
     [("iot:GetThingShadow", f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/T")]),
    (request(path="/bucket/a/b.json", method="PUT"), "s3", [("s3:PutObject", "arn:aws:s3:::bucket/a/b.json")]),
    (request(path="/bucket?list-type=2", method="GET"), "s3", [("s3:ListBucket", "arn:aws:s3:::bucket")]),
    (request(path="/2015-03-31/functions/g/invocations"), "lambda",
     [("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:g")]),
])
def test_what_a_request_needs(asked: Request, service: str, expected: list[tuple[str, str]]) -> None:
    assert [tuple(one) for one in needs(asked, service, NAMES)] == expected


@pytest.mark.parametrize("asked, service", [
    (request("Nothing.Known", {}), "nothing"), (request(path="/bucket", method="DELETE"), "s3"),
    (request("DynamoDB_20120810.Query", b"no json"), "dynamodb"), (request(path="/policies"), "iot")])
def test_a_request_of_unknown_needs_is_none_to_pass(asked: Request, service: str) -> None:
    with pytest.raises(UnknownRequest):
        needs(asked, service, NAMES)
    refusal = iam(statement("*", "*")).refusal(request("Nothing.Known", {}, service="nothing"))
    assert refusal is not None and b"local_cloud/iam_requests.py" in refusal.body


@pytest.mark.parametrize("asked, status, said", [
    (request("DynamoDB_20120810.Scan", {"TableName": "t"}), 400, b'"__type": "AccessDeniedException"'),
    (request(path="/topics/a", service="iotdata"), 403, b'"__type": "ForbiddenException"'),
    (request(body=b"Action=Publish&TopicArn=x", service="sns"), 403, b"<Code>AuthorizationError</Code>"),
    (request(path="/b/k", method="GET", service="s3"), 403, b"<Error><Code>AccessDenied</Code>")])
def test_a_function_hears_a_refusal_in_the_services_own_form(asked: Request, status: int, said: bytes) -> None:
    refusal = iam(statement()).refusal(asked)
    assert refusal is not None and refusal.status == status and said in refusal.body
    assert b"is not authorized to perform: " in refusal.body
    assert b"because no identity-based policy allows the" in refusal.body


def test_a_refusal_in_xml_is_xml_whatever_the_name() -> None:
    asked = request(path="/b/a%26b%3Cc", method="GET", service="s3")
    refusal = iam(statement()).refusal(asked)
    assert refusal is not None
    assert "arn:aws:s3:::b/a&b<c" in str(ElementTree.fromstring(refusal.body).findtext("Message"))


def test_a_permitted_call_passes_and_so_does_a_persons() -> None:
    made, query = iam(statement()), {"TableName": "t"}
    assert made.refusal(request("DynamoDB_20120810.Query", query)) is None
    assert made.refusal(request("DynamoDB_20120810.Scan", query, key="local")) is None
    assert {(use.role, use.action, use.resource) for use in made.used} == {("worker", "dynamodb:Query", TABLE)}


def test_lifted_it_notes_and_refuses_nothing() -> None:
    made = iam(enforced=False)
    assert made.refusal(request("DynamoDB_20120810.Query", {"TableName": "t"})) is None
    assert made.refusal(request("Nothing.Known", {}, service="nothing")) is None
    assert [use.action for use in made.used] == ["dynamodb:Query"]


def test_a_role_is_taken_on_by_whom_it_trusts_alone() -> None:
    made = iam(statement())
    with pytest.raises(AccessDenied, match=r"iot\.amazonaws\.com is not authorized to assume role"):
        made.check(ROLE, IOT, [Need("dynamodb:Query", TABLE)])
    made.add_role("rule", trust(IOT, Condition={"ArnLike": {"aws:SourceArn": "arn:aws:iot:*:rule/mine"}}))
    made.check("arn:aws:iam::1:role/rule", IOT, [], source_arn="arn:aws:iot:x:1:rule/mine")
    with pytest.raises(AccessDenied):
        made.check("arn:aws:iam::1:role/rule", IOT, [], source_arn="arn:aws:iot:x:1:rule/other")


def test_a_role_made_elsewhere_is_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    iam().check("arn:aws:iam::1:role/imported", LAMBDA, [Need("s3:GetObject", "x")])
    assert "what it allows is not judged" in caplog.text


def test_aws_own_policies_are_known_or_refused() -> None:
    made = Iam(ACCOUNT, REGION, enforced=True)
    prefix = "arn:aws:iam::aws:policy/service-role/"
    made.add_role("worker", trust(LAMBDA), [prefix + "AWSLambdaBasicExecutionRole"])
    made.check(ROLE, LAMBDA, [Need("logs:PutLogEvents", "arn:aws:logs:x")])
    with pytest.raises(Unsupported, match="what AdministratorAccess allows is not known here"):
        made.add_role("other", trust(LAMBDA), ["arn:aws:iam::aws:policy/AdministratorAccess"])
    lifted = Iam(ACCOUNT, REGION, enforced=False)
    lifted.add_role("other", trust(LAMBDA), ["arn:aws:iam::aws:policy/AdministratorAccess"])


CONSUME = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]


@pytest.mark.parametrize("lost", CONSUME)
def test_a_mapping_without_permission_is_refused_as_on_aws(lost: str) -> None:
    mapping = {"EventSourceArn": QUEUE, "FunctionName": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"}
    mapping_made(iam(statement(CONSUME, QUEUE)), mapping)
    with pytest.raises(DeployError, match=f"Role: .*{lost}"):
        mapping_made(iam(statement([one for one in CONSUME if one != lost], QUEUE)), mapping)


def test_a_stream_mapping_needs_its_destination_too() -> None:
    stream = TABLE + "/stream/s"
    mapping = {"EventSourceArn": stream, "FunctionName": "f",
               "DestinationConfig": {"OnFailure": {"Destination": QUEUE}}}
    read = [statement(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"], stream),
            statement("dynamodb:ListStreams", "*")]
    mapping_made(iam(*read, statement("sqs:SendMessage", QUEUE)), mapping)
    with pytest.raises(DeployError, match="sqs:SendMessage"):
        mapping_made(iam(*read), mapping)


def test_a_delivery_stream_needs_its_prefixes_and_its_bucket() -> None:
    bucket = "arn:aws:s3:::b"
    properties = {"ExtendedS3DestinationConfiguration": {
        "BucketARN": bucket, "RoleARN": ROLE, "Prefix": "a/!{timestamp:yyyy}/", "ErrorOutputPrefix": "e/"}}
    objects = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
    listing = statement(["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"], bucket)
    whole = statement(objects, [f"{bucket}/a/*", f"{bucket}/e/*"])
    stream_made(iam(whole, listing, service=FIREHOSE), properties)
    for lacking in ([whole], [statement(objects, f"{bucket}/a/*"), listing]):
        with pytest.raises(DeployError, match=r"s3:\w+ on resource"):
            stream_made(iam(*lacking, service=FIREHOSE), properties)


def guarded(made: Iam, specification: dict[str, Any]) -> list[Any]:
    """Run a rule's action under its role; what the action was given."""
    given: list[Any] = []

    async def take(message: Message, output: Any) -> None:
        given.append(output)

    rule = compile_statement("SELECT * FROM 'a/+'")
    action = rule_guard(made)("mine", specification, rule, Action("SomeAction", "resource", take))
    asyncio.run(action.run(Message("a/pi", b"{}"), {"n": 1}))
    return given


FIREHOSE_ARN = f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/d"


@pytest.mark.parametrize("kind, properties, expected", [
    ("Sqs", {"QueueUrl": "http://x/1/q"}, [("sqs:SendMessage", QUEUE)]),
    ("Firehose", {"DeliveryStreamName": "d"}, [("firehose:PutRecord", FIREHOSE_ARN)]),
    ("Firehose", {"DeliveryStreamName": "d", "BatchMode": "true"}, [("firehose:PutRecordBatch", FIREHOSE_ARN)]),
    ("S3", {"BucketName": "b", "Key": "${topic(2)}/k"}, [("s3:PutObject", "arn:aws:s3:::b/pi/k")]),
    ("S3", {"BucketName": "b", "Key": "k", "CannedAcl": "private"},
     [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:PutObjectAcl", "arn:aws:s3:::b/k")]),
    ("Republish", {"Topic": "$$aws/things/${topic(2)}/shadow/update"},
     [("iot:Publish", f"arn:aws:iot:{REGION}:{ACCOUNT}:topic/$aws/things/pi/shadow/update")]),
    ("Sns", {"TargetArn": "arn:aws:sns:x"}, [("sns:Publish", "arn:aws:sns:x")]),
    ("DynamoDB", {"TableName": "t"}, [("dynamodb:PutItem", TABLE)]),
    ("DynamoDBv2", {"PutItem": {"TableName": "t"}}, [("dynamodb:PutItem", TABLE)])])
def test_a_rules_action_needs_its_roles_permission_at_each_message(
        kind: str, properties: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    specification = {kind: {**properties, "RoleArn": ROLE}}
    allowed_one = iam(*[statement(action, resource) for action, resource in expected], service=IOT)
    assert guarded(allowed_one, specification) == [{"n": 1}]
    assert {(use.action, use.resource) for use in allowed_one.used} == set(expected)
    for lost in expected:
        with pytest.raises(AccessDenied, match=lost[0]):
            guarded(iam(*[statement(*one) for one in expected if one != lost], service=IOT), specification)


def test_a_rules_role_may_trust_that_rule_alone() -> None:
    for rule, may in (("mine", True), ("other", False)):
        made = iam(statement("sqs:SendMessage", QUEUE), service=IOT)
        made.add_role("worker", trust(IOT, Condition={"ArnEquals": {
            "aws:SourceArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:rule/{rule}"}}))
        made.put_policy("worker", "Access", document(statement("sqs:SendMessage", QUEUE)))
        specification = {"Sqs": {"QueueUrl": "http://x/1/q", "RoleArn": ROLE}}
        if may:
            assert guarded(made, specification) == [{"n": 1}]
        else:
            with pytest.raises(AccessDenied, match="not authorized to assume role"):
                guarded(made, specification)


def test_a_lambda_action_has_no_role_to_ask() -> None:
    assert guarded(iam(service=IOT), {"Lambda": {"FunctionArn": "f"}}) == [{"n": 1}]


def test_a_function_without_its_log_runs_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made = iam()
    function_made(made, "f", {"Role": ROLE})
    assert "runs without its log or traces" in caplog.text
    with pytest.raises(DeployError, match="sqs:SendMessage"):
        function_made(made, "f", {"Role": ROLE, "DeadLetterConfig": {"TargetArn": QUEUE}})
    for odd in ("arn:aws:s3:::b", "q"):
        with pytest.raises(Unsupported, match=f"destination {odd} is not emulated"):
            function_made(made, "f", {"Role": ROLE, "DeadLetterConfig": {"TargetArn": odd}})
