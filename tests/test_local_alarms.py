"""Alarms of a local cloud: what its services measure, whom a change is told, and a cloud that notices by itself."""

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from local_cloud.actions import Actions
from local_cloud.alarm_rules import ALARM, INSUFFICIENT_DATA, OK, watch
from local_cloud.alarms import Alarms
from local_cloud.cloud import LocalCloud
from local_cloud.errors import Unsupported
from local_cloud.firehose import FirehoseService
from local_cloud.functions import FunctionService
from local_cloud.metric_sources import Tail, embedded
from local_cloud.options import Options
from local_cloud.queues import QueueService
from local_cloud.rule_engine import RuleEngine
from tests.alarms_rig import DEPTH, NOW_S, TOPIC
from tests.local_cloud_rig import write_assembly


@dataclass
class World:
    """Real queues, functions, streams and rules, and a stand-in with the counters of an API."""

    directory: Path
    region: str = "eu-north-1"
    account_id: str = "123456789012"
    told: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)  # topics that take nothing
    calls: list[tuple[str, str, str]] = field(default_factory=list)  # at moto

    def __post_init__(self) -> None:
        self.queues = QueueService(self.account_id, self.region, "http://127.0.0.1:1")
        self.functions = FunctionService(self.account_id, self.region, {}, self.directory / "logs")
        self.firehose = FirehoseService(self.account_id, self.region, self._s3_put)
        nothing: Any = None
        actions = Actions(self.queues, self.firehose, self.functions, self._s3_put, nothing, nothing, nothing)
        self.rules = RuleEngine(self.account_id, self.region, actions, retry_delays_s=(0.01,))
        self.apis = {"api": SimpleNamespace(counters={"requests": 9, "status_4xx": 2, "status_5xx": 1})}
        self.alarms = Alarms(self, self._notify)  # type: ignore[arg-type]

    def _s3_put(self, bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        if bucket == "gone":
            raise ConnectionError("no such bucket")

    async def publish(self, rule_name: str | None, topic: str = "orders") -> None:
        """A message as the gateway hands it on; returns when all its actions succeeded or were given up."""
        await self.rules.handle(SimpleNamespace(topic=topic, payload=b"{}", rule_name=rule_name, client_id="thing",
                                                principal=None, source_ip=None, mqtt5={}))
        await self.rules.drain()

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.calls.append((service, operation, parameters.get("StateValue", "")))
        return {}

    def _notify(self, topic: str, subject: str, message: str) -> None:
        if topic in self.deaf:
            raise ConnectionError("no answer")
        self.told.append((topic, subject, json.loads(message)))

    def value(self, metric: str, dimensions: dict[str, str], statistic: str = "Sum") -> float | None:
        namespace, name = metric.split()
        return self.alarms.metrics.statistic(namespace, name, frozenset(dimensions.items()), statistic, 0, NOW_S + 100)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_counters_of_the_services_become_metrics_once(world: World) -> None:
    waiting = world.queues.create("waiting", {})
    waiting.send("one")
    asyncio.run(world.alarms.evaluate(NOW_S))
    asyncio.run(world.alarms.evaluate(NOW_S + 1))
    queue = {"QueueName": "waiting"}
    assert world.value("AWS/SQS NumberOfMessagesSent", queue) == 1
    assert world.value("AWS/SQS ApproximateNumberOfMessagesVisible", queue, "Maximum") == 1
    assert (world.value("AWS/SQS ApproximateAgeOfOldestMessage", queue, "Maximum") or 0) > 0
    assert world.value("AWS/ApiGateway 5xx", {"ApiId": "api"}) == 1
    for count in (3, 2):  # two more; then begun anew, and two more again
        world.apis["api"].counters["status_5xx"] = count
        asyncio.run(world.alarms.evaluate(NOW_S + 2))
    assert world.value("AWS/ApiGateway 5xx", {"ApiId": "api"}) == 5


def test_what_rules_and_their_actions_did(world: World) -> None:
    queue = world.queues.create("orders", {})

    def rule(name: str, queue_url: str, bucket: str) -> None:
        world.rules.create(name, {
            "Sql": "SELECT * FROM 'orders'", "AwsIotSqlVersion": "2016-03-23",
            "Actions": [{"Sqs": {"QueueUrl": queue_url, "RoleArn": "r"}}],
            "ErrorAction": {"S3": {"BucketName": bucket, "Key": "errors/x", "RoleArn": "r"}}})

    rule("fine", queue.url, "bucket")
    rule("failing", "http://127.0.0.1:1/123456789012/none", "bucket")
    rule("lost", "http://127.0.0.1:1/123456789012/none", "gone")

    async def story() -> None:
        await world.publish(None)
        await world.publish(None)
        await world.publish("missing")
        await world.alarms.evaluate(NOW_S)

    asyncio.run(story())
    found = {(name, of["RuleName"], of.get("ActionType")): world.value(f"{namespace} {name}", of)
             for namespace, name, of in world.alarms.metrics.names() if namespace == "AWS/IoT"}
    assert found == {
        ("RuleNotFound", "missing", None): 1, **{("TopicMatch", name, None): 2 for name in ("fine", "failing", "lost")},
        ("Success", "fine", "SqsAction"): 2, ("Failure", "failing", "SqsAction"): 2,
        ("Failure", "lost", "SqsAction"): 2, ("ErrorActionSuccess", "failing", "S3Action"): 2,
        ("ErrorActionFailure", "lost", "S3Action"): 2}


def test_functions_are_measured_and_what_they_print_in_embedded_format(world: World, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "me.py").write_text(
        "import json\n"
        "def handler(event, context):\n"
        "    metrics = [{'Name': 'silent'}, {'Name': 'seen'}]\n"
        "    directive = {'Namespace': 'Shop', 'Dimensions': [['deployment']], 'Metrics': metrics}\n"
        "    print(json.dumps({'_aws': {'Timestamp': 1, 'CloudWatchMetrics': [directive]}, 'deployment': 'one',\n"
        "                      'silent': event, 'seen': [1, 2]}), flush=True)\n"
        "    print(json.dumps({'_aws': {'CloudWatchMetrics': [{'Namespace': 'Shop', 'Metrics': [{'Name': 'x'}]}]}}))\n"
        "    if event == 3: raise ValueError('three')\n")

    async def story() -> None:
        me = world.functions.create("me", {"Runtime": "python3.13", "Timeout": 10, "Code": {}, "Handler": "me.handler",
                                           "LoggingConfig": {"LogFormat": "JSON"}}, code)
        try:
            assert (await me.invoke(b"2")).error is None and (await me.invoke(b"3")).error is not None
            await world.alarms.evaluate(NOW_S)
        finally:
            await world.functions.close()

    asyncio.run(story())
    name = {"FunctionName": "me"}
    assert world.value("AWS/Lambda Invocations", name) == 2 and world.value("AWS/Lambda Errors", name) == 1
    assert world.value("AWS/Lambda Duration", name, "SampleCount") == 2
    assert world.value("Shop silent", {"deployment": "one"}) == 5
    assert world.value("Shop seen", {"deployment": "one"}, "SampleCount") == 4


def test_broken_embedded_metrics_are_named_and_others_still_count() -> None:
    for broken in (b'{"_aws": {"CloudWatchMetrics": [{"Namespace": "S", "Metrics": [{"Name": "x"}]}]}}',
                   b'{"_aws": {}}', b'{"_aws": '):
        with pytest.raises(ValueError):
            list(embedded(broken))
    assert list(embedded(b'{"message": "about \\"_aws\\""}')) == [] and list(embedded(b'["_aws"]')) == []


def test_a_tail_gives_whole_lines_once_and_begins_anew_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "f.log"
    tail = Tail(log)
    assert tail.lines() == []
    log.write_bytes(b"one\ntw")
    assert tail.lines() == [b"one"] and tail.lines() == []
    log.write_bytes(b"one\ntwo\n")
    assert tail.lines() == [b"two"]
    log.write_bytes(b"new\n")
    assert tail.lines() == [b"new"]


# --- alarms

def test_a_dead_letter_is_told_once_and_so_is_its_end_with_an_ok_action(
        world: World, caplog: pytest.LogCaptureFixture) -> None:
    dead = world.queues.create("dead", {})
    given = {**DEPTH, "AlarmDescription": "why", "AlarmActions": ["arn:aws:sns:::deaf", TOPIC], "OKActions": [TOPIC]}
    world.deaf = {"arn:aws:sns:::deaf"}
    asyncio.run(world.alarms.add("name", "DeadAlarm", "arn", watch(given, world.alarms.metrics)))

    def states(at_s: float) -> list[str]:
        return [one["state"] for one in asyncio.run(world.alarms.evaluate(at_s))]

    assert states(NOW_S) == [OK] and len(world.told) == 1
    dead.send("failed ten times")
    assert states(NOW_S + 5) == states(NOW_S + 10) == [ALARM]
    ((topic, subject, message),) = world.told[1:]
    assert topic == TOPIC and subject == 'ALARM: "name" in eu-north-1'
    assert {key: message[key] for key in ("AlarmName", "AlarmDescription", "NewStateValue", "OldStateValue")} == {
        "AlarmName": "name", "AlarmDescription": "why", "NewStateValue": "ALARM", "OldStateValue": "OK"}
    assert message["Trigger"]["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert "DeadAlarm: topic arn:aws:sns:::deaf did not take the notification" in caplog.text
    dead.purge()
    assert states(NOW_S + 100) == [ALARM], "the period still holds it"
    assert world.alarms.described()[0]["values"] == [None, None, 1]
    assert states(NOW_S + 400) == [OK] and len(world.told) == 3 and world.alarms.notifications == 3
    assert world.calls == [("cloudwatch", "set_alarm_state", state) for state in (INSUFFICIENT_DATA, OK, ALARM, OK)]
    world.alarms.remove("name")
    assert states(NOW_S + 500) == []


def test_silence_of_what_must_speak_is_told_when_it_has_spoken_before(world: World) -> None:
    own = {"Namespace": "Shop", "MetricName": "silent", "Dimensions": [], "TreatMissingData": "missing",
           "InsufficientDataActions": [TOPIC]}
    asyncio.run(world.alarms.add("name", "SilentAlarm", "arn", watch({**DEPTH, **own}, world.alarms.metrics)))
    asyncio.run(world.alarms.evaluate(NOW_S))
    assert world.told == [], "a new alarm has no data yet, and says nothing of it"
    world.alarms.metrics.put("Shop", "silent", {}, 0, NOW_S + 60)
    assert asyncio.run(world.alarms.evaluate(NOW_S + 60))[0]["state"] == OK
    assert asyncio.run(world.alarms.evaluate(NOW_S + 60 + 4 * 300))[0]["state"] == INSUFFICIENT_DATA
    assert [subject.partition(":")[0] for _, subject, _ in world.told] == ["INSUFFICIENT_DATA"]


# --- a whole cloud

def assembly(directory: Path, **changes: Any) -> Path:
    """A queue that is watched, a topic, and a queue that hears of the alarm."""
    alarm = {**DEPTH, "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["Watched", "QueueName"]}}],
             "AlarmActions": [{"Ref": "Operations"}], **changes}
    resources = {
        "Watched": {"Type": "AWS::SQS::Queue"}, "Hears": {"Type": "AWS::SQS::Queue"},
        "Operations": {"Type": "AWS::SNS::Topic"},
        "Subscription": {"Type": "AWS::SNS::Subscription", "Properties": {
            "TopicArn": {"Ref": "Operations"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Hears", "Arn"]}}},
        "DepthAlarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm}}
    outputs = {name: {"Value": {"Ref": name}} for name in ("Watched", "Hears")}
    return write_assembly(directory, "Shop", {"Resources": resources, "Outputs": outputs})


def test_a_running_cloud_notices_by_itself_and_tells_the_topics_subscribers(tmp_path: Path) -> None:
    async def story() -> None:
        cloud = LocalCloud(Options(assembly(tmp_path), gateway_port=0, api_port=0, alarm_speed=60))
        await cloud.start()
        try:
            await asyncio.wait_for(asyncio.to_thread(use, cloud.endpoints()), 60)
        finally:
            await cloud.close()

    def use(ready: dict[str, Any]) -> None:
        sqs, cloudwatch = (boto3.client(service, endpoint_url=ready["endpoints"]["aws"], region_name=ready["region"],
                                        aws_access_key_id="x", aws_secret_access_key="x")
                           for service in ("sqs", "cloudwatch"))
        sqs.send_message(QueueUrl=ready["outputs"]["Shop"]["Watched"], MessageBody="one")
        (heard,) = sqs.receive_message(QueueUrl=ready["outputs"]["Shop"]["Hears"], WaitTimeSeconds=20)["Messages"]
        told = json.loads(json.loads(heard["Body"])["Message"])
        assert (told["NewStateValue"], told["OldStateValue"]) in (("ALARM", "OK"), ("ALARM", "INSUFFICIENT_DATA"))
        with urllib.request.urlopen(ready["endpoints"]["control"] + "/alarms", timeout=10) as answer:
            (shown,) = json.load(answer)
        assert (shown["logical_id"], shown["state"]) == ("DepthAlarm", "ALARM") and "oldest first" in shown["reason"]
        (described,) = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
        assert (described["AlarmName"], described["Period"]) == (shown["name"], 300)

    asyncio.run(story())


def test_an_alarm_on_what_nothing_measures_stops_the_start_with_its_logical_id(tmp_path: Path) -> None:
    async def story() -> None:
        cloud = LocalCloud(Options(assembly(tmp_path, MetricName="Depth"), gateway_port=0, api_port=0))
        with pytest.raises(Unsupported, match=r"resource DepthAlarm .*AWS/SQS Depth is not measured here"):
            await cloud.start()

    asyncio.run(story())
