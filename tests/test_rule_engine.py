"""IoT rules: which run for a message, retries and error actions, what stops the deployment."""
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from local_cloud.errors import DeployError, Unsupported
from tests.rule_rig import VERSION, Published, World, run


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


def test_an_error_action_is_tried_again(tmp_path: Path):
    async def story(world: World) -> None:
        world.s3_faults = 1
        gone = {"Sqs": {"QueueUrl": "http://127.0.0.1:1/123456789012/gone", "RoleArn": "r"}}
        world.rule("r", "SELECT * FROM 'a'", gone, ErrorAction={"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}})
        await world.engine.handle(Published("a", b"{}"))
        await world.engine.drain()
        assert [json.loads(body)["failures"][0]["failedAction"] for _, _, body, _ in world.objects] == ["SqsAction"]
        counters = world.engine.rule("r").counters
        assert (counters["error_actions"], counters["failed_error_actions"]) == (1, 0)

    run(tmp_path, story)


def test_rules_and_actions_are_metered_in_steps_of_5_kb(tmp_path: Path):
    async def story(world: World) -> None:
        world.s3_faults = 1_000
        world.rule("r", "SELECT n FROM 'a' WHERE n > 1", world.sqs("q"),
                   {"S3": {"BucketName": "b", "Key": "k", "RoleArn": "r"}})
        for n in (1, 2):
            await world.engine.handle(Published("a", json.dumps({"n": n, "text": "x" * 6000}).encode()))
        await world.engine.drain()
        counters = world.engine.rule("r").counters
        assert (counters["rule_units"], world.engine.counters["rule_units"]) == (4, 4), "also of one that does not fire"
        assert counters["action_units"] == 1, "of the output, and only where it arrived"

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
    ({"Actions": []}, DeployError, "it has no Sql"), ({"Sql": "SELECT *"}, DeployError, "it has no Actions"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"Sqs": {"RoleArn": "r"}}], "AwsIotSqlVersion": VERSION}, DeployError,
     "Sqs: it has no QueueUrl"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"DynamoDBv2": {"PutItem": {}}}], "AwsIotSqlVersion": VERSION},
     DeployError, "DynamoDBv2: it has no TableName"),
    ({"Sql": "SELECT * FROM 'a'", "Actions": [{"S3": "b"}], "AwsIotSqlVersion": VERSION}, DeployError,
     "S3: got 'b', expected an object"),
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
