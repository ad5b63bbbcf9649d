"""Feeding a function from a queue: batches and windows, failures whole and partial, filters, and what is refused."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from local_cloud.errors import DeployError, Unsupported
from local_cloud.queue_poller import QueuePoller
from local_cloud.queues import Queue, QueueService
from tests.pollers_rig import ACCOUNT, PARTIAL, REGION, Handler, RecordingFunction, flat, run
from tests.waiting import until


def with_queue(handler: Handler, mapping: dict[str, Any], story: Callable[..., Awaitable[None]],
               queue_properties: dict[str, Any] | None = None, **options: Any) -> None:
    """Run story(queue, function, poller, dead_letter_queue) with a started poller."""

    async def main() -> None:
        queues = QueueService(ACCOUNT, REGION, "http://127.0.0.1:1")
        dead = queues.create("dead", {})
        queue = queues.create("q", {"RedrivePolicy": {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 3},
                                    **(queue_properties or {})})
        function = RecordingFunction(handler)
        poller = QueuePoller(queue, function, {  # type: ignore[arg-type]
            "EventSourceArn": queue.arn, "FunctionName": function.arn, **mapping}, **options)
        await poller.start()
        try:
            await story(queue, function, poller, dead)
        finally:
            await poller.close()

    run(main())


def test_a_message_becomes_a_full_event_and_is_deleted():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        message_id = queue.send("héllo", {"kind": {"DataType": "String", "StringValue": "x"}})
        await until(lambda: len(function.batches) == 1 and poller.idle())
        [[record]] = function.batches
        assert record["messageId"] == message_id
        assert record["body"] == "héllo"
        assert record["md5OfBody"] == "be50e8478cf24ff3595bc7307fb91b50"
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert all(isinstance(value, str) for value in record["attributes"].values())
        assert record["messageAttributes"]["kind"] == {"stringListValues": [], "binaryListValues": [],
                                                       "dataType": "String", "stringValue": "x"}
        assert (record["eventSource"], record["eventSourceARN"], record["awsRegion"]) == (
            "aws:sqs", queue.arn, "eu-north-1")
        assert queue.depth() == (0, 0, 0)

    with_queue(lambda records: None, {}, story)


def test_batches_are_no_larger_than_batch_size():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        function.released.clear()
        for number in range(12):
            queue.send(str(number))
        function.released.set()
        await until(poller.idle)
        assert sorted(flat(function.bodies()), key=int) == [str(number) for number in range(12)]
        assert max(map(len, function.batches)) <= 5

    with_queue(lambda records: None, {"BatchSize": 5}, story)


def test_a_window_gathers_until_it_is_over():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        for number in range(3):
            queue.send(str(number))
            await until(lambda count=number + 1: queue.depth()[1] == count, "the window's batch to take it")
        assert function.batches == []
        await until(lambda: bool(function.batches))
        assert function.bodies() == [["0", "1", "2"]]

    with_queue(lambda records: None, {"BatchSize": 100, "MaximumBatchingWindowInSeconds": 1}, story)


def test_a_full_batch_does_not_wait_for_the_window():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        for number in range(4):
            queue.send(str(number))
        await until(poller.idle)
        assert [len(batch) for batch in function.batches] == [2, 2]

    with_queue(lambda records: None, {"BatchSize": 2, "MaximumBatchingWindowInSeconds": 300}, story)


def test_flush_delivers_what_the_window_holds():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send("a")
        await until(lambda: queue.depth()[1] == 1)
        queue.send("b")
        assert not poller.idle()
        await poller.flush()
        assert function.bodies() == [["a", "b"]]
        assert poller.idle()
        await poller.flush()

    with_queue(lambda records: None, {"BatchSize": 100, "MaximumBatchingWindowInSeconds": 300}, story)


def test_an_exception_fails_the_whole_batch_and_it_reappears():
    fails = iter([True, False])

    def handler(records: list[dict[str, Any]]) -> None:
        if next(fails):
            raise RuntimeError("once")

    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send("a")
        await until(lambda: len(function.batches) == 2 and poller.idle())
        assert [batch[0]["attributes"]["ApproximateReceiveCount"] for batch in function.batches] == ["1", "2"]
        assert (poller.counters["failed_batches"], dead.depth()) == (1, (0, 0, 0))

    with_queue(handler, {}, story, {"VisibilityTimeout": 1})


def test_only_the_failed_items_of_a_batch_come_back():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        for body in ("good", "bad", "fine"):
            queue.send(body)
        await poller.flush()
        await until(lambda: dead.depth()[0] == 1)
        assert sorted(flat(function.bodies())) == ["bad", "bad", "bad", "fine", "good"]
        assert queue.depth() == (0, 0, 0)

    def handler(records: list[dict[str, Any]]) -> dict[str, Any]:
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records
                                      if record["body"] == "bad"]}

    with_queue(handler, {"BatchSize": 10, **PARTIAL}, story, failure_visibility_s=0.02)


@pytest.mark.parametrize("answer", [{"batchItemFailures": [{"itemIdentifier": "unknown"}]},
                                    {"batchItemFailures": [{"itemIdentifier": ""}]}, {"batchItemFailures": [{}]},
                                    {"batchItemFailures": "all"}])
def test_an_answer_that_does_not_fit_fails_the_whole_batch(answer: dict[str, Any]):
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send("x")
        await until(lambda: dead.depth()[0] == 1)
        assert len(function.batches) == 3, "maxReceiveCount 3"

    with_queue(lambda records: answer, PARTIAL, story, failure_visibility_s=0)


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, "ok"])
def test_an_answer_without_failures_takes_the_batch(answer: Any):
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send("x")
        await until(lambda: bool(function.batches) and poller.idle())
        assert queue.depth() == (0, 0, 0)

    with_queue(lambda records: answer, PARTIAL, story)


def test_filtered_messages_are_deleted_undelivered():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send('{"kind": "wanted"}')
        queue.send('{"kind": "other"}')
        queue.send("no json")
        await until(lambda: bool(function.batches) and poller.idle())
        assert flat(function.bodies()) == ['{"kind": "wanted"}']
        assert poller.counters["filtered"] == 2

    pattern = json.dumps({"body": {"kind": ["wanted"]}})
    with_queue(lambda records: None, {"FilterCriteria": {"Filters": [{"Pattern": pattern}]}}, story)


def test_a_batch_above_six_megabytes_is_delivered_in_parts():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        for _ in range(8):
            queue.send("x" * 1_000_000)
        await until(poller.idle)
        assert [len(batch) for batch in function.batches] == [6, 2]

    with_queue(lambda records: None, {"BatchSize": 10}, story)


def test_a_mapping_that_is_not_enabled_delivers_nothing():
    async def story(queue: Queue, function: RecordingFunction, poller: QueuePoller, dead: Queue) -> None:
        queue.send("x")
        await poller.flush()
        assert (function.batches, queue.depth()) == ([], (1, 0, 0))

    with_queue(lambda records: None, {"Enabled": False}, story)


def test_a_queue_that_hides_messages_too_briefly_is_refused():
    async def story(*_: Any) -> None:
        raise AssertionError("the poller must not have been made")

    with pytest.raises(DeployError, match="VisibilityTimeout: queue q hides messages for 0 s"):
        with_queue(lambda records: None, {}, story, {"VisibilityTimeout": 0})


@pytest.mark.parametrize(("mapping", "error", "text"), [
    ({"BatchSize": 11}, DeployError, "MaximumBatchingWindowInSeconds"), ({"BatchSize": 0}, Unsupported, "BatchSize"),
    ({"StartingPosition": "LATEST"}, DeployError, "StartingPosition: not for a queue"),
    ({"FunctionResponseTypes": ["Other"]}, Unsupported, "FunctionResponseTypes"),
    ({"FilterCriteria": {"Filters": [{"Pattern": '{"body": [{"cidr": "10/8"}]}'}]}}, Unsupported, "FilterCriteria")])
def test_a_mapping_property_that_is_not_honoured_is_named(mapping: dict[str, Any], error: type[Exception], text: str):
    async def story(*_: Any) -> None:
        raise AssertionError("the poller must not have been made")

    with pytest.raises(error, match=text):
        with_queue(lambda records: None, mapping, story)
