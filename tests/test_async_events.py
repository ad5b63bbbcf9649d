"""Asynchronous invocations: tried again after an error, and what fails for good goes to where the template says."""

import json
from collections.abc import Callable
from pathlib import Path

from local_cloud.functions import Function, FunctionService
from tests.functions_rig import run


def test_an_asynchronous_event_is_tried_three_times(tmp_path: Path):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("flaky")
        tries = tmp_path / "tries"
        await function.invoke_async(json.dumps(str(tries)).encode())
        assert not function.idle()
        await function.drain()
        assert function.idle()
        assert tries.read_text() == "xxx"
        assert (function.counters["errors"], function.counters["async_failed"]) == (2, 0)

    run(tmp_path, story, async_retry_delays_s=(0.01, 0.01))


def test_an_event_that_keeps_failing_goes_to_its_destination_and_dead_letter_queue(tmp_path: Path):
    sent: list[tuple[str, str]] = []

    async def send_to(arn: str, body: str) -> None:
        sent.append((arn, body))

    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("fail", DeadLetterConfig={"TargetArn": "arn:dead"})
        function.configure_async({"FunctionName": "fail", "Qualifier": "$LATEST", "MaximumRetryAttempts": 1,
                                  "DestinationConfig": {"OnFailure": {"Destination": "arn:failures"}}})
        await function.invoke_async({"n": 1})
        await function.drain()
        (dead_arn, dead_body), (failure_arn, failure) = sent
        assert (dead_arn, json.loads(dead_body)) == ("arn:dead", {"n": 1})
        record = json.loads(failure)
        assert failure_arn == "arn:failures"
        assert record["requestPayload"] == {"n": 1}
        assert record["requestContext"]["condition"] == "RetriesExhausted"
        assert record["requestContext"]["approximateInvokeCount"] == 2
        assert record["responsePayload"]["errorType"] == "KeyError"
        assert function.counters["async_failed"] == 1

    run(tmp_path, story, send_to=send_to, async_retry_delays_s=(0.01, 0.01))


def test_what_succeeds_goes_to_its_destination_too(tmp_path: Path):
    sent: list[tuple[str, str]] = []

    async def send_to(arn: str, body: str) -> None:
        sent.append((arn, body))

    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        function.configure_async({"DestinationConfig": {"OnSuccess": {"Destination": "arn:done"}}})
        await function.invoke_async({"n": 1})
        await function.drain()
        [(arn, body)] = sent
        record = json.loads(body)
        assert arn == "arn:done" and record["requestContext"]["condition"] == "Success"
        assert record["responsePayload"]["event"] == record["requestPayload"] == {"n": 1}
        assert record["timestamp"].endswith("Z") and "functionError" not in record["responseContext"]

    run(tmp_path, story, send_to=send_to)
