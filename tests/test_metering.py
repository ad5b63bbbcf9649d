"""The local cloud's meter: what the gateway reports, the calls of functions on the wire, prices and the bill."""
import asyncio
import copy
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from local_cloud.cloud import LocalCloud
from local_cloud.cost import bill, prices
from local_cloud.cost.calls import FunctionCalls
from local_cloud.cost.meter import IOT_STEP_BYTES, MOST_ORIGINS, MOST_RESOURCES, OTHERS, IotMeter, Meter, steps
from local_cloud.gateway.broker import unmetered
from local_cloud.http_wire import Request, Response
from local_cloud.options import Options


@pytest.mark.parametrize("size_bytes, expected", ((0, 1), (1, 1), (5120, 1), (5121, 2), (20_480, 4)))
def test_messages_are_metered_in_steps(size_bytes: int, expected: int) -> None:
    assert steps(size_bytes, IOT_STEP_BYTES) == expected


def test_the_gateway_reports_messages_and_minutes() -> None:
    now = [0.0]
    meter = Meter()
    iot = IotMeter(meter, lambda: now[0])
    iot.note("connected", "bridge", 0)
    iot.note("message", "a/b", 6000)
    iot.note("shadow", "thing", 1500)
    now[0] = 90.0
    iot.read()
    now[0] = 120.0
    iot.note("disconnected", "bridge", 0)
    iot.note("disconnected", "stranger", 0)
    assert [(one.meter, one.resource, one.quantity) for one in meter.usage()] == [
        ("iot.connection_minute", "bridge", 2.0), ("iot.message", "a/b", 2), ("iot.shadow_operation", "thing", 2)]
    with pytest.raises(ValueError, match="expected message"):
        iot.note("massage", "a", 0)
    unmetered("message", "a/b", 1)


def test_the_meter_is_bounded() -> None:
    meter = Meter()
    for number in range(MOST_RESOURCES + 10):
        meter.add("iot.message", f"topic {number}")
    meter.add("iot.message", "topic 1")
    found = {one.resource: one.quantity for one in meter.usage()}
    assert (len(found), found["topic 1"], found[OTHERS]) == (MOST_RESOURCES + 1, 2, 10)
    for number in range(MOST_ORIGINS):
        meter.add("dynamodb.write_unit", "topic 2", origin=f"partition {number}")
    assert len(meter.usage()) == MOST_ORIGINS + 1
    assert sum(one.quantity for one in meter.usage()) == MOST_RESOURCES + 11 + MOST_ORIGINS


class World:
    """moto in this process behind a FunctionCalls, with a client that signs as a function does, or as a person."""

    def __init__(self, access_key: str) -> None:
        self.meter = Meter()
        self.seen: list[Request] = []
        self.client = boto3.client("dynamodb", region_name="eu-north-1", aws_access_key_id=access_key,
                                   aws_secret_access_key="local")
        self._backend = boto3.client("dynamodb", region_name="eu-north-1")
        self._backend.create_table(
            TableName="t", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
        self.calls = FunctionCalls(self.meter, self._describe)

    async def _describe(self, name: str) -> dict[str, Any]:
        return dict(self._backend.describe_table(TableName=name)["Table"])

    def call(self, name: str, **parameters: Any) -> Any:
        """A call of the client's, its signed request taken through FunctionCalls to moto."""
        answers: list[Response] = []

        def on_the_wire(request: Any, **_: Any) -> Any:
            sent = Request("POST", "/", [(key, value.decode() if isinstance(value, bytes) else value)
                                         for key, value in request.headers.items()],
                           request.body if isinstance(request.body, bytes) else request.body.encode())
            answers.append(asyncio.run(self.calls.handle(sent, self._answer)))
            raw = type("Raw", (), {"stream": lambda *a, **k: iter((answers[0].body,))})()
            return AWSResponse(request.url, answers[0].status, dict(answers[0].headers), raw)

        events = self.client.meta.events
        events.register_first("before-send.dynamodb", on_the_wire)
        try:
            return getattr(self.client, name)(**parameters)
        finally:
            events.unregister("before-send.dynamodb", on_the_wire)

    async def _answer(self, request: Request) -> Response:
        """What moto says to the request as it was passed on."""
        self.seen.append(request)
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        method = {"PutItem": "put_item", "UpdateItem": "update_item", "Query": "query"}[operation]
        try:
            answer = copy.deepcopy(getattr(self._backend, method)(**json.loads(request.body)))
        except self._backend.exceptions.ConditionalCheckFailedException:
            return Response(400, json.dumps({"__type": "com.amazonaws#ConditionalCheckFailedException"}).encode())
        answer.pop("ResponseMetadata")
        return Response(200, json.dumps(answer).encode(), [("x-amz-crc32", "1")] if method == "update_item" else [])

    def counted(self) -> dict[tuple[str, str], float]:
        return {(one.meter, one.origin): one.quantity for one in self.meter.usage() if "unit" in one.meter}


@pytest.fixture
def moto() -> Iterator[None]:
    with mock_aws():
        yield


def test_calls_of_a_function_are_counted_by_partition(moto: None) -> None:
    world = World("FUNCTION-persist")
    world.call("put_item", TableName="t", Item={"pk": {"S": "site#pi"}, "x": {"S": "x" * 1500}})
    answer = world.call("update_item", TableName="t", Key={"pk": {"S": "site#pi"}}, UpdateExpression="SET y = :y",
                        ExpressionAttributeValues={":y": {"S": "y"}})
    assert world.counted() == {("dynamodb.write_unit", "persist site#pi"): 4}
    assert "Attributes" not in answer, "what the meter asked for stays its own"
    assert world.calls.counters["persist", "calls"] == 2
    assert all("FUNCTION" not in request.headers["authorization"] for request in world.seen)


def test_what_a_function_asked_for_it_gets(moto: None) -> None:
    world = World("FUNCTION-persist")
    answer = world.call("update_item", TableName="t", Key={"pk": {"S": "a"}}, UpdateExpression="SET y = :y",
                        ExpressionAttributeValues={":y": {"S": "y"}}, ReturnValues="ALL_NEW")
    assert answer["Attributes"] == {"pk": {"S": "a"}, "y": {"S": "y"}}


def test_a_refused_condition_is_counted(moto: None) -> None:
    world = World("FUNCTION-status")
    world.call("put_item", TableName="t", Item={"pk": {"S": "a"}})
    with pytest.raises(world.client.exceptions.ConditionalCheckFailedException):
        world.call("put_item", TableName="t", Item={"pk": {"S": "a"}}, ConditionExpression="attribute_not_exists(pk)")
    assert world.counted() == {("dynamodb.write_unit", "status a"): 2}


def test_a_persons_calls_are_not_billed(moto: None) -> None:
    world = World("local")
    world.call("put_item", TableName="t", Item={"pk": {"S": "a"}})
    assert world.counted() == {} and not world.calls.counters


def test_every_meter_has_a_sourced_price() -> None:
    found = prices.load()
    assert found.usd("iot.message", 1_000_000) == pytest.approx(1.0)
    for name, price in found.table.items():
        assert price.described["source"].startswith("https://"), name
        assert price.described["evidence"] in ("aws_doc", "price_api", "third_party", "memory"), name
    with pytest.raises(prices.PriceFault, match="no price for 'iot"):
        found.usd("iot.massage", 1)


@pytest.mark.parametrize("change, what", (
    ({"usd": -1}, "usd is -1"), ({"per": 0}, "per is 0"), ({"usd": "free"}, "usd is 'free'"),
    ({"typo": 1}, "unknown typo")))
def test_a_price_file_that_does_not_hold_together_is_refused(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    given = json.loads(prices.FILE.read_text())
    given["prices"]["iot.message"].update(change)
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(given))
    with pytest.raises(prices.PriceFault, match=f"iot.message: {what}"):
        prices.load(path)
    path.write_text("{}")
    with pytest.raises(prices.PriceFault, match="expected JSON with prices"):
        prices.load(path)


def test_lambda_is_billed_for_its_share_of_a_cpu() -> None:
    found = prices.load()
    assumed = found.assumptions
    one = found.lambda_ms(invocations=1, event_bytes=0, calls=2, publishes=1, memory_mb=128)
    assert one == assumed["invocation_ms"] + 2 * assumed["call_ms"] + assumed["publish_ms"]
    large, small = (found.lambda_ms(invocations=0, event_bytes=10_240, calls=0, publishes=0, memory_mb=memory_mb)
                    for memory_mb in (3538, 177))
    assert large == pytest.approx(10 * assumed["cpu_ms_per_kb"]) and small == pytest.approx(large * 1769 / 177)


def function_that_ran(tmp_path: Path, architecture: str, platform_logged: bool) -> Any:
    """As far as the bill looks at a function: two invocations, 256 MB, two log files."""
    path = tmp_path / "f.log"
    path.with_suffix(".log.1").write_bytes(b'{"type": "platform.start"}\nolder\n')
    path.write_bytes(b"a line\n")
    return SimpleNamespace(
        name="f", log_path=path, counters={"invocations": 2, "event_bytes": 0},
        settings=SimpleNamespace(memory_mb=256, architecture=architecture, platform_logged=platform_logged))


@pytest.mark.parametrize(("architecture", "platform_logged", "meter", "log_bytes"), (
    ("arm64", False, "lambda.gb_s", len("older" + "a line") + 2 * 26),
    ("x86_64", True, "lambda.gb_s_x86", len('{"type": "platform.start"}' + "older" + "a line") + 3 * 26)))
def test_a_function_is_billed_by_its_processor_and_its_log(
        tmp_path: Path, architecture: str, platform_logged: bool, meter: str, log_bytes: int) -> None:
    function, none = function_that_ran(tmp_path, architecture, platform_logged), SimpleNamespace(names=list)
    services: Any = SimpleNamespace(
        rules=none, queues=none, firehose=none, apis={}, pollers={},
        functions=SimpleNamespace(names=lambda: ["f"], by_name=lambda name: function))
    calls: Any = SimpleNamespace(counters=Counter({("f", "calls"): 4, ("f", "publishes"): 1}))
    found, assumed = prices.load(), prices.load().assumptions
    billed = {(one.meter, one.origin): one.quantity for one in bill.collected(services, calls, found)}
    assert billed == {
        ("lambda.request", ""): 2,
        (meter, ""): pytest.approx((2 * assumed["invocation_ms"] + 4 * assumed["call_ms"]) / 1000 / 4),
        (meter, "publishing"): pytest.approx(assumed["publish_ms"] / 1000 / 4), ("logs.gb", ""): log_bytes / 1e9}


def test_what_is_paid_each_month_comes_from_the_template() -> None:
    found = list(bill.fixed([
        ("AWS::CloudWatch::Alarm", "A", {"MetricName": "m"}),
        ("AWS::CloudWatch::Alarm", "B", {"Metrics": [{"MetricStat": {}}, {"MetricStat": {}}, {"Expression": "a+b"}]}),
        ("AWS::CloudWatch::Alarm", "Query", {"Metrics": [{"Expression": "SELECT SUM(x) FROM y"}]}),
        ("AWS::CloudWatch::Dashboard", "D", {}), ("AWS::SQS::Queue", "Q", {}),
        ("AWS::Lambda::EventSourceMapping", "FromQueue", {}),
        ("AWS::Lambda::EventSourceMapping", "FromStream", {"StartingPosition": "LATEST"}),
        ("AWS::Events::Rule", "Every", {"ScheduleExpression": "rate(5 minutes)", "Targets": [1]})], prices.load()))
    assert {(one.resource, one.meter): one.quantity for one in found} == {
        ("A", "cloudwatch.alarm"): 1, ("B", "cloudwatch.alarm"): 2, ("Query", "cloudwatch.alarm"): 0,
        ("D", "cloudwatch.dashboard"): 1, ("FromQueue", "sqs.request"): 657_000, ("Every", "lambda.request"): 8760}


@pytest.mark.parametrize("expression, period_s", (
    ("rate(1 minute)", 60), ("rate(5 minutes)", 300), ("rate(2 hours)", 7200), ("rate(1 day)", 86_400),
    ("cron(0 3 * * ? *)", 86_400)))
def test_a_schedule_has_a_period(expression: str, period_s: float) -> None:
    assert bill.period_s(expression) == period_s


def test_a_running_cloud_bills_what_ran_in_it(tmp_path: Path) -> None:
    """The foreign template: a message goes to its rule, queue, archive, function and table; a person's read is free."""
    found = asyncio.run(_billed(tmp_path))
    quantity = {(one["meter"], one["resource"], one["origin"].partition(" ")[0]): one["quantity"]
                for one in found["rows"]}
    assert quantity["iot.message", "greenhouse/7/soil", ""] == 2, "a message of 6,000 bytes is two"
    assert quantity["iot.rule", "SoilRule", ""] == 2
    assert quantity["sqs.request", "Harvest", "send"] == 1 and quantity["sqs.request", "Harvest", "receive"] == 2
    assert quantity["firehose.gb", "Straw", ""] == 5120 / 1e9 and quantity["s3.put", "Barn", "Straw"] == 1
    assert quantity["lambda.request", "Gardener", "Harvest"] == 1
    assert quantity["dynamodb.write_unit", "Probes", "Gardener"] >= 1
    assert ("dynamodb.read_unit", "Probes", "") not in quantity, "a person's scan is on nobody's bill here"
    assert {one["meter"] for one in found["monthly"]} == {"cloudwatch.alarm", "sqs.request"}
    assert all(one["usd"] == pytest.approx(prices.load().usd(one["meter"], one["quantity"])) for one in found["rows"])


async def _billed(state: Path) -> dict[str, Any]:
    foreign = Path(__file__).parent / "data" / "foreign_cdk_out"
    cloud = LocalCloud(Options(foreign, state=state, gateway_port=0, api_port=0))
    await cloud.start()
    try:
        message = {"bed": "7", "at": 1795332240, "moisture": 20, "text": "x" * 6000}
        await cloud.services.gateway.publish("greenhouse/7/soil", json.dumps(message).encode())
        await cloud.flush(60)
        person = boto3.client("dynamodb", region_name=cloud.region, endpoint_url=cloud.aws_url,
                              aws_access_key_id="local", aws_secret_access_key="local")
        [name] = [one.ref for one in cloud.deployer.stacks["GreenhouseBeds"].resources.values()
                  if one.logical_id == "Probes"]
        assert (await asyncio.to_thread(lambda: person.scan(TableName=name)))["Count"] == 1
        return await cloud.bill()
    finally:
        await cloud.close()
