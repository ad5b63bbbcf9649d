"""The AWS endpoint's own part: who answers which request, Lambda invocations, and what SNS hands to subscribers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from local_cloud.aws_api import AwsApi
from local_cloud.functions import Function, FunctionService
from local_cloud.http_wire import Request, Response
from local_cloud.queues import QueueService
from local_cloud.subscriptions import Subscriptions

ACCOUNT, REGION = "123456789012", "eu-north-1"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:news"


class World:
    """The endpoint with real queues, functions and subscriptions; what stands behind it says who was asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.queues = QueueService(ACCOUNT, REGION, "http://127.0.0.1:9")
        self.functions = FunctionService(ACCOUNT, REGION, {}, directory / "logs", async_retry_delays_s=(0.01, 0.01))
        self.subscriptions = Subscriptions(self.queues, self.functions)
        self.published: list[tuple[str, bytes, int, bool]] = []
        self.writes = 0
        backends: Any = self  # it has send()
        self.api = AwsApi({"AmazonSQS": self._targeted}, lambda request: Response(200, b"iot"), self._publish,
                          self.functions, self.subscriptions, backends, self._written, self._cloudformation)

    def function(self, body: str) -> Function:
        (self.directory / "f.py").write_text(f"def handler(event, context):\n    {body}\n")
        return self.functions.create("f", {"Handler": "f.handler", "Runtime": "python3.13"}, self.directory)

    async def send(self, request: Request) -> Response:
        return Response(200, b"<MessageId>m-1</MessageId> moto")

    async def _cloudformation(self, request: Request) -> Response:
        return Response(200, b"cloudformation")

    def _targeted(self, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"target": target, **body}

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.published.append((topic, payload, qos, retain))

    def _written(self) -> None:
        self.writes += 1

    async def ask(self, service: str, method: str = "POST", target: str = "/", body: bytes = b"",
                  **headers: str) -> Response:
        signed = f"AWS4-HMAC-SHA256 Credential=test/20261122/{REGION}/{service}/aws4_request, SignedHeaders=host"
        given = [("Authorization", signed), *((name.replace("_", "-"), value) for name, value in headers.items())]
        return await self.api.handle(Request(method, target, given, body))

    async def invoke(self, body: bytes, **headers: str) -> Response:
        return await self.ask("lambda", target="/2015-03-31/functions/f/invocations", body=body, **headers)


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(directory)
        try:
            await asyncio.wait_for(story(world), 60)
        finally:
            await world.functions.close()

    asyncio.run(main())


@pytest.mark.parametrize(("service", "headers", "answered"), [
    ("iot", {}, b"iot"), ("iotdata", {}, b"iot"), ("cloudformation", {}, b"cloudformation"), ("s3", {}, b" moto"),
    ("sqs", {"x_amz_target": "AmazonSQS.SendMessage"}, b"AmazonSQS.SendMessage"),
    ("dynamodb", {"x_amz_target": "DynamoDB_20120810.PutItem"}, b" moto")])
def test_each_service_has_its_own(tmp_path: Path, service: str, headers: dict[str, str], answered: bytes) -> None:
    async def story(world: World) -> None:
        answer = await world.ask(service, body=b"{}", **headers)
        assert answer.status == 200 and answered in answer.body
        assert world.writes == (service == "dynamodb"), "streams are told of writes alone"
        assert list(world.api.counters.values()) == [1]

    run(tmp_path, story)


def test_a_message_is_published_as_asked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answer = await world.ask("iotdata", target="/topics/a%2Fb%20c?qos=1&retain=true", body=b"x")
        assert answer.status == 200 and world.published == [("a/b c", b"x", 1, True)]

    run(tmp_path, story)


def test_a_function_answers_and_its_error_is_marked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.function("return {'got': event} if event else event['none']")
        answer = await world.invoke(b'{"n": 1}', x_amz_log_type="Tail")
        headers = dict(answer.headers)
        assert (answer.status, json.loads(answer.body)) == (200, {"got": {"n": 1}})
        assert "X-Amz-Log-Result" in headers and "X-Amz-Function-Error" not in headers
        failed = await world.invoke(b"")
        assert dict(failed.headers)["X-Amz-Function-Error"] == "Unhandled" and b"KeyError" in failed.body
        assert (await world.invoke(b"{}", x_amz_invocation_type="DryRun")).status == 204
        nobody = await world.ask("lambda", target="/2015-03-31/functions/nobody/invocations")
        assert nobody.status == 404 and dict(nobody.headers)["x-amzn-ErrorType"] == "ResourceNotFoundException"

    run(tmp_path, story)


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_an_event_that_is_not_json_is_refused_as_lambda_does(tmp_path: Path, kind: str) -> None:
    async def story(world: World) -> None:
        function = world.function("return None")
        answer = await world.invoke(b"not json", x_amz_invocation_type=kind)
        assert (answer.status, dict(answer.headers)["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
        assert function.idle() and function.counters["invocations"] == 0
        assert (await world.invoke(b'"json"', x_amz_invocation_type=kind)).status in (200, 202)
        await function.drain()

    run(tmp_path, story)


def publish(**changed: str) -> bytes:
    return urlencode({"Action": "Publish", "TopicArn": TOPIC, "Message": "hello", "Subject": "s", **changed}).encode()


def test_a_topics_message_reaches_every_subscriber_and_one_that_refuses_costs_the_others_nothing(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        small = world.queues.create("small", {"MaximumMessageSize": 1024})
        taking, gone = world.queues.create("taking", {}), world.queues.create("gone", {})
        for queue in (small, gone, taking):
            world.subscriptions.add(TOPIC, "sqs", queue.arn, True)
        world.queues.delete("gone")
        answer = await world.ask("sns", body=publish(Message="x" * 2000))
        assert answer.status == 200, "a subscriber's fault is not the publisher's"
        [message] = await taking.receive()
        assert message.body == "x" * 2000 and small.depth() == (0, 0, 0)
        assert world.subscriptions.delivered == {"sqs": 1} and world.subscriptions.failed == {"sqs": 2}
        assert "small" in caplog.text and "does not exist: gone" in caplog.text

    run(tmp_path, story)


def test_subscribers_cannot_be_added_at_run_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answer = await world.ask("sns", body=publish(Action="Subscribe"))
        assert answer.status == 501 and b"use Publish, and AWS::SNS::Subscription in the template" in answer.body

    run(tmp_path, story)
