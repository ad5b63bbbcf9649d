"""Rules: which run for a message, what their actions write, retries and error actions."""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer
from moto import mock_aws

from local_cloud.actions import REFUSED, Actions
from local_cloud.errors import DeployError, Unsupported
from local_cloud.firehose import FirehoseService
from local_cloud.functions import FunctionService
from local_cloud.queues import QueueService
from local_cloud.rule_engine import RuleEngine

VERSION = "2016-03-23"


@dataclass
class Published:
    """A PUBLISH as the gateway hands it on."""

    topic: str
    payload: bytes
    rule_name: str | None = None
    client_id: str | None = "EdgeCloudAWS"
    principal: str | None = "cert"
    source_ip: str | None = "127.0.0.1"
    mqtt5: dict[str, Any] = field(default_factory=dict)


class World:
    """The services that actions write to; what moto and the gateway would take is kept in lists."""

    def __init__(self, tmp_path: Path, dynamodb: Any = None) -> None:
        self.objects: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.items: list[dict[str, Any]] = []
        self.notified: list[tuple[str, str, str]] = []
        self.published: list[tuple[str, bytes, int, bool]] = []
        self.s3_faults = 0
        self.queues = QueueService("123456789012", "eu-north-1", "http://127.0.0.1:1")
        self.firehose = FirehoseService("123456789012", "eu-north-1", self.s3_put)
        self.functions = FunctionService("123456789012", "eu-north-1", {}, tmp_path / "logs")
        actions = Actions(self.queues, self.firehose, self.functions, self.s3_put, dynamodb or self, self.sns_publish,
                          self.publish)
        self.engine = RuleEngine("123456789012", "eu-north-1", actions, retry_delays_s=(0.01, 0.01))

    def s3_put(self, bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        if self.s3_faults:
            self.s3_faults -= 1
            raise ConnectionError("S3 is away")
        self.objects.append((bucket, key, body, dict(extra)))

    def put_item(self, **arguments: Any) -> None:
        self.items.append(arguments)

    def sns_publish(self, target_arn: str, message: str, message_format: str) -> None:
        self.notified.append((target_arn, message, message_format))

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.published.append((topic, payload, qos, retain))

    def rule(self, name: str, sql: str, *actions: dict[str, Any], **more: Any) -> None:
        self.engine.create(name, {"Sql": sql, "AwsIotSqlVersion": VERSION, "Actions": list(actions), **more})

    def sqs(self, name: str, **properties: Any) -> dict[str, Any]:
        """An action on a queue of this name, which is made when it is not there."""
        if name not in self.queues.names():
            self.queues.create(name, {})
        return {"Sqs": {"QueueUrl": self.queues.by_name(name).url, "RoleArn": "arn:role", **properties}}

    async def bodies(self, name: str) -> list[str]:
        return [message.body for message in await self.queues.by_name(name).receive(10)]


def run(tmp_path: Path, story: Callable[[World], Coroutine[Any, Any, None]], dynamodb: Any = None) -> None:
    async def main() -> None:
        world = World(tmp_path, dynamodb)
        try:
            await asyncio.wait_for(story(world), 30)
        finally:
            await world.engine.close()
            await world.firehose.close()
            await world.functions.close()

    asyncio.run(main())


def test_every_matching_rule_runs_and_no_other(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule("exact", "SELECT * FROM 'a/b'", world.sqs("exact"))
        world.rule("wild", "SELECT temp AS t FROM 'a/+' WHERE temp > 20", world.sqs("wild"))
        world.rule("other", "SELECT * FROM 'c/#'", world.sqs("other"))
        world.rule("ingest_only", "SELECT *", world.sqs("ingest_only"))
        await world.engine.handle(Published("a/b", b'{"temp": 21.5}'))
        await world.engine.handle(Published("a/b", b'{"temp": 19}'))
        assert [json.loads(body) for body in await world.bodies("exact")] == [{"temp": 21.5}, {"temp": 19}]
        assert await world.bodies("wild") == ['{"t":21.5}']
        assert await world.bodies("other") == await world.bodies("ingest_only") == []
        assert world.engine.rule("wild").counters["evaluated"] == 2
        assert world.engine.rule("wild").counters["fired"] == 1
        assert world.engine.counters["messages"] == 2

    run(tmp_path, story)


def test_basic_ingest_runs_the_named_rule_alone(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule("named", "SELECT *, clientid() AS site, topic() AS at", world.sqs("named"))
        world.rule("matching", "SELECT * FROM 'EdgeCloudAWS'", world.sqs("matching"))
        await world.engine.handle(Published("EdgeCloudAWS", b'{"v": 1}', rule_name="named"))
        assert [json.loads(body) for body in await world.bodies("named")] == [
            {"v": 1, "site": "EdgeCloudAWS", "at": "EdgeCloudAWS"}]
        assert await world.bodies("matching") == []

    run(tmp_path, story)


def test_an_unknown_or_disabled_rule_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def story(world: World) -> None:
        world.rule("off", "SELECT *", world.sqs("q"), RuleDisabled=True)
        await world.engine.handle(Published("x", b"{}", rule_name="off"))
        await world.engine.handle(Published("x", b"{}", rule_name="nobody"))
        assert world.engine.counters["rule_not_found"] == 2
        assert "RuleNotFound: EdgeCloudAWS published to rule nobody" in caplog.text
        world.engine.set_enabled("off", True)
        await world.engine.handle(Published("x", b"{}", rule_name="off"))
        assert await world.bodies("q") == ["{}"]
        world.engine.delete("off")
        await world.engine.handle(Published("x", b"{}", rule_name="off"))
        assert world.engine.counters["rule_not_found"] == 3

    run(tmp_path, story)


def test_what_each_action_writes(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule(
            "all", "SELECT * FROM 'a/+'", world.sqs("text"), world.sqs("coded", UseBase64=True),
            {"S3": {"BucketName": "b", "Key": "${topic(2)}/${clientid()}.json", "CannedAcl": "private"}},
            {"Republish": {"Topic": "out/${topic(2)}", "Qos": 1, "RoleArn": "r"}},
            {"Republish": {"Topic": "$$aws/things/t/shadow/update", "RoleArn": "r"}},
            {"DynamoDBv2": {"PutItem": {"TableName": "t"}, "RoleArn": "r"}},
            {"Sns": {"TargetArn": "arn:topic", "RoleArn": "r", "MessageFormat": "RAW"}})
        payload = b'{"n":1.1,"s":"x","l":[true,null],"m":{"k":2}}'
        await world.engine.handle(Published("a/pi", payload))
        output = '{"n":1.1,"s":"x","l":[true,null],"m":{"k":2}}'
        [text] = await world.bodies("text")
        assert text == output
        [coded] = await world.bodies("coded")
        assert base64.b64decode(coded).decode() == output
        assert world.objects == [("b", "pi/EdgeCloudAWS.json", output.encode(), {"ACL": "private"})]
        assert world.published == [("out/pi", output.encode(), 1, False),
                                   ("$aws/things/t/shadow/update", output.encode(), 0, False)]
        assert world.items == [{"TableName": "t", "Item": {
            "n": {"N": "1.1"}, "s": {"S": "x"}, "l": {"L": [{"BOOL": True}, {"NULL": True}]},
            "m": {"M": {"k": {"N": "2"}}}}}]
        assert world.notified == [("arn:topic", output, "RAW")]

    run(tmp_path, story)


def test_firehose_adds_the_separator_and_splits_arrays_in_batch_mode(tmp_path: Path):
    def stream(name: str, **more: Any) -> dict[str, Any]:
        return {"Firehose": {"DeliveryStreamName": name, "RoleArn": "r", "Separator": "\n", **more}}

    async def story(world: World) -> None:
        for name in ("plain", "batch"):
            world.firehose.create(name, {"ExtendedS3DestinationConfiguration": {
                "BucketARN": f"arn:aws:s3:::{name}", "Prefix": "!{timestamp:yyyy}/"}})
        world.rule("r", "SELECT VALUE readings FROM 'a'", stream("plain"), stream("batch", BatchMode=True))
        await world.engine.handle(Published("a", b'{"readings": [{"n": 1}, {"n": 2}]}'))
        await world.firehose.flush()
        assert {bucket: body for bucket, _, body, _ in world.objects} == {
            "plain": b'[{"n":1},{"n":2}]\n', "batch": b'{"n":1}\n{"n":2}\n'}

    run(tmp_path, story)


def test_the_lambda_action_is_asynchronous(tmp_path: Path):
    (tmp_path / "handler.py").write_text("def handler(event, context):\n    print('got', event)\n")

    async def story(world: World) -> None:
        function = world.functions.create("f", {"Handler": "handler.handler", "Runtime": "python3.13"}, tmp_path)
        world.rule("r", "SELECT n FROM 'a'", {"Lambda": {"FunctionArn": function.arn}})
        await world.engine.handle(Published("a", b'{"n": 5}'))
        await function.drain()
        assert "got {'n': 5}" in function.log_path.read_text()

    run(tmp_path, story)


def test_a_payload_that_is_no_json_passes_through_as_bytes(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule("r", "SELECT * FROM 'a'", world.sqs("q", UseBase64=True),
                   {"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}})
        await world.engine.handle(Published("a", b"\x00\xff"))
        assert [base64.b64decode(body) for body in await world.bodies("q")] == [b"\x00\xff"]
        assert world.objects[0][2] == b"\x00\xff"

    run(tmp_path, story)


def test_sql_that_fails_at_run_time_is_logged_and_reaches_no_error_action(tmp_path: Path,
                                                                         caplog: pytest.LogCaptureFixture):
    async def story(world: World) -> None:
        world.rule("r", "SET @big = * SELECT @big FROM 'a'", world.sqs("q"), ErrorAction=world.sqs("errors"))
        await world.engine.handle(Published("a", json.dumps({"x": "y" * 140_000}).encode()))
        await world.engine.handle(Published("a", b"{}"))
        assert world.engine.rule("r").counters["sql_failures"] == 1
        assert "rule r: its SQL failed on a message on a" in caplog.text
        assert len(await world.bodies("q")) == 1
        assert await world.bodies("errors") == []

    run(tmp_path, story)


def test_a_failing_action_is_tried_again_and_others_are_not_repeated(tmp_path: Path):
    async def story(world: World) -> None:
        world.s3_faults = 2
        world.rule("r", "SELECT * FROM 'a'", world.sqs("q"), {"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}},
                   ErrorAction=world.sqs("errors"))
        await world.engine.handle(Published("a", b"{}"))
        assert not world.engine.idle()
        await world.engine.drain()
        assert world.engine.idle()
        assert len(world.objects) == 1
        assert len(await world.bodies("q")) == 1
        assert await world.bodies("errors") == []
        assert world.engine.rule("r").counters["failed_tries"] == 2

    run(tmp_path, story)


def test_one_error_message_names_every_action_that_failed_for_good(tmp_path: Path):
    async def story(world: World) -> None:
        world.s3_faults = 1_000
        world.rule("r", "SELECT * FROM 'a/#'", {"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}}, world.sqs("q"),
                   {"Sqs": {"QueueUrl": "http://127.0.0.1:1/123456789012/gone", "RoleArn": "r"}},
                   ErrorAction=world.sqs("errors"))
        await world.engine.handle(Published("a/b", b'{"n": 1}'))
        await world.engine.drain()
        [body] = await world.bodies("errors")
        report = json.loads(body)
        assert (report["ruleName"], report["topic"], report["clientId"]) == ("r", "a/b", "EdgeCloudAWS")
        assert base64.b64decode(report["base64OriginalPayload"]) == b'{"n": 1}'
        assert report["cloudwatchTraceId"]
        assert [(failure["failedAction"], failure["failedResource"]) for failure in report["failures"]] == [
            ("S3Action", "b"), ("SqsAction", "http://127.0.0.1:1/123456789012/gone")]
        assert "S3 is away" in report["failures"][0]["errorMessage"]
        assert len(await world.bodies("q")) == 1
        counters = world.engine.rule("r").counters
        assert (counters["failed_actions"], counters["error_actions"], counters["failed_error_actions"]) == (2, 1, 0)

    run(tmp_path, story)


def test_an_error_action_that_fails_too_is_logged_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def story(world: World) -> None:
        world.s3_faults = 1_000
        gone = {"Sqs": {"QueueUrl": "http://127.0.0.1:1/123456789012/gone", "RoleArn": "r"}}
        world.rule("r", "SELECT * FROM 'a'", {"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}}, ErrorAction=gone)
        await world.engine.handle(Published("a", b'{"n": 1}'))
        await world.engine.drain()
        assert world.engine.rule("r").counters["failed_error_actions"] == 1
        assert "its error action SqsAction" in caplog.text and "the message is lost" in caplog.text

    run(tmp_path, story)


@pytest.mark.parametrize(("payload", "error", "text"), [
    ({"Sql": "SELECT * FROM 'a'", "Actions": []}, DeployError, "2016-03-23"),
    ({"Sql": "SELECT * FROM", "Actions": [], "AwsIotSqlVersion": VERSION}, DeployError, "rule r"),
    ({"Sql": "SELECT get_dynamodb('t','k','v','r') FROM 'a'", "Actions": [], "AwsIotSqlVersion": VERSION}, Unsupported,
     "get_dynamodb"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"Kinesis": {}}], "AwsIotSqlVersion": VERSION}, Unsupported, "Kinesis"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"Republish": {"Topic": "t", "RoleArn": "r", "Headers": {}}}],
      "AwsIotSqlVersion": VERSION}, Unsupported, "Headers"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"S3": {"BucketName": "b", "Key": "${nonsense(}", "RoleArn": "r"}}],
      "AwsIotSqlVersion": VERSION}, DeployError, "template"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"Firehose": {"DeliveryStreamName": "s", "Separator": ";"}}],
      "AwsIotSqlVersion": VERSION}, Unsupported, "Separator"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [], "Nonsense": 1, "AwsIotSqlVersion": VERSION}, Unsupported, "Nonsense"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"Lambda": {"FunctionArn": "f"}}] * 11, "AwsIotSqlVersion": VERSION},
     DeployError, "at most 10")])
def test_a_rule_that_would_not_run_stops_the_deployment(tmp_path: Path, payload: dict[str, Any], error: type[Exception],
                                                        text: str):
    world = World(tmp_path)
    with pytest.raises(error, match=text):
        world.engine.create("r", payload)
    assert world.engine.names() == []


def test_names_of_rules(tmp_path: Path):
    world = World(tmp_path)
    world.rule("edgecloud_readings", "SELECT *")
    with pytest.raises(DeployError, match="exists"):
        world.rule("edgecloud_readings", "SELECT *")
    with pytest.raises(DeployError, match="must match"):
        world.rule("with-hyphen", "SELECT *")


def _plain(value: dict[str, Any]) -> Any:
    plain = TypeDeserializer().deserialize(value)
    return bytes(plain) if isinstance(plain, Binary) else plain


@pytest.mark.parametrize(("properties", "payloads", "expected"), [
    ({"HashKeyField": "pk", "HashKeyValue": "${topic(2)}"}, [b'{"n":1.5}', b'{"n":2}'],
     [{"pk": "pi", "payload": {"n": 2}}]),
    ({"HashKeyField": "pk", "HashKeyValue": "${topic(2)}", "RangeKeyField": "sk", "RangeKeyValue": "${n}",
      "RangeKeyType": "NUMBER", "PayloadField": "told"}, [b'{"n":1}', b'{"n":2}'],
     [{"pk": "pi", "sk": 1, "told": {"n": 1}}, {"pk": "pi", "sk": 2, "told": {"n": 2}}]),
    ({"HashKeyField": "pk", "HashKeyValue": "${topic(2)}", "Operation": "${do}"},
     [b'{"do":"insert"}', b'{"do":"update"}'], [{"pk": "pi", "payload": {"do": "update"}}]),
    ({"HashKeyField": "pk", "HashKeyValue": "${topic(2)}", "Operation": "${do}"},
     [b'{"do":"INSERT"}', b'{"do":"DELETE"}'], []),
    ({"HashKeyField": "pk", "HashKeyValue": "${topic(2)}"}, [b"\x00no json"],
     [{"pk": "pi", "payload": b"\x00no json"}]),
])
def test_the_dynamodb_action_writes_one_column_beside_its_key(tmp_path: Path, properties: dict[str, Any],
                                                              payloads: list[bytes], expected: list[dict[str, Any]]):
    keys = {"pk": "S"} | ({"sk": "N"} if "RangeKeyField" in properties else {})

    async def story(world: World) -> None:
        world.rule("one", "SELECT * FROM 'a/+'",
                   {"DynamoDB": {"TableName": "told", "RoleArn": "r", **properties}})
        for payload in payloads:
            await world.engine.handle(Published("a/pi", payload))
        assert world.engine.rule("one").counters["failed_tries"] == 0

    with mock_aws():
        client = boto3.client("dynamodb", "eu-north-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_table(
            TableName="told", BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in keys.items()],
            KeySchema=[{"AttributeName": name, "KeyType": kind}
                       for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)])
        run(tmp_path, story, client)
        told = [{name: _plain(value) for name, value in item.items()}
                for item in client.scan(TableName="told")["Items"]]
    assert sorted(told, key=str) == expected


def test_a_dynamodb_action_with_an_operation_that_is_none_fails(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule("one", "SELECT * FROM 'a'", {"DynamoDB": {
            "TableName": "t", "RoleArn": "r", "HashKeyField": "pk", "HashKeyValue": "x", "Operation": "${do}"}})
        await world.engine.handle(Published("a", b'{"do":"UPSERT"}'))
        await world.engine.drain()
        assert world.engine.rule("one").counters["failed_actions"] == 1
        assert world.items == []

    run(tmp_path, story)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_every_other_documented_action_says_why_it_does_not_start(tmp_path: Path, kind: str):
    with pytest.raises(Unsupported, match=re.escape(REFUSED[kind])):
        World(tmp_path).rule("r", "SELECT * FROM 'a'", {kind: {}})
