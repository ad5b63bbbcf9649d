"""The actions of IoT rules: what each writes for a rule's output, and those that are refused."""
import base64
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer
from moto import mock_aws

from local_cloud.actions import REFUSED
from local_cloud.errors import Unsupported
from tests.rule_rig import Published, World, run


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


def test_a_binary_payload_may_be_a_column_of_its_own(tmp_path: Path):
    async def story(world: World) -> None:
        world.rule("r", "SELECT topic() AS at, * AS raw FROM 'a'",
                   {"DynamoDBv2": {"PutItem": {"TableName": "t"}, "RoleArn": "r"}})
        await world.engine.handle(Published("a", b"\x00\xff" * 3000))
        assert world.items == [{"TableName": "t", "Item": {"at": {"S": "a"}, "raw": {"B": b"\x00\xff" * 3000}}}]
        assert world.engine.rule("r").counters["action_units"] == 2

    run(tmp_path, story)


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
