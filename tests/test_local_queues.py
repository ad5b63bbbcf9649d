"""Queues and their API: standard-queue semantics at the class, and boto3's own client over a real port."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from local_cloud import sqs_api
from local_cloud.errors import DeployError, Unsupported
from local_cloud.http_wire import Request, Response, Server
from local_cloud.queue_messages import QueueError
from local_cloud.queues import QueueService


def service() -> QueueService:
    return QueueService("123456789012", "eu-north-1", "http://127.0.0.1:4566")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_message_is_received_hidden_and_deleted():
    async def story() -> None:
        queue = service().create("q", {"VisibilityTimeout": "30"})
        message_id = queue.send("hello")
        [message] = await queue.receive(10)
        assert (message.message_id, message.body, message.receive_count) == (message_id, "hello", 1)
        assert message.md5 == "5d41402abc4b2a76b9719d911017c592"
        assert queue.depth() == (0, 1, 0)
        assert await queue.receive(10) == []
        assert queue.delete(message.receipt_handle)
        assert queue.depth() == (0, 0, 0)
        assert not queue.delete(message.receipt_handle), "deleting twice is no error and does nothing"

    run(story())


def test_a_message_reappears_after_its_visibility_time_out_with_a_new_handle():
    async def story() -> None:
        queue = service().create("q", {})
        queue.send("again")
        [first] = await queue.receive(1, visibility_s=0.05)
        [second] = await queue.receive(1, wait_s=5)
        assert second.message_id == first.message_id
        assert (second.receive_count, second.first_received_at_ms) == (2, first.first_received_at_ms)
        assert not queue.delete(first.receipt_handle), "a stale handle must not delete what another receiver holds"
        assert queue.delete(second.receipt_handle)

    run(story())


def test_what_a_dead_receiver_held_can_be_made_visible_at_once():
    async def story() -> None:
        queue = service().create("q", {"VisibilityTimeout": "600"})
        queue.send("held")
        queue.send("later", delay_s=600)
        [held] = await queue.receive()
        assert queue.depth() == (0, 1, 1)
        assert queue.surface() == 1 and queue.depth() == (1, 0, 1)
        [again] = await queue.receive()
        assert again.message_id == held.message_id and again.receive_count == 2
        assert not queue.delete(held.receipt_handle) and queue.delete(again.receipt_handle)
        assert queue.surface() == 0

    run(story())


def test_a_waiting_receiver_wakes_when_a_message_arrives():
    async def story() -> None:
        queue = service().create("q", {})
        waiting = asyncio.create_task(queue.receive(1, wait_s=3600))  # run() gives up long before
        await asyncio.sleep(0)
        queue.send("now")
        assert [message.body for message in await waiting] == ["now"]

    run(story())


def test_an_empty_queue_answers_nothing_after_the_wait():
    async def story() -> None:
        queue = service().create("q", {})
        began_s = time.monotonic()
        assert await queue.receive(1, wait_s=0.05) == []
        assert time.monotonic() - began_s >= 0.05

    run(story())


def test_a_cancelled_receiver_takes_nothing():
    async def story() -> None:
        queue = service().create("q", {})
        waiting = asyncio.create_task(queue.receive(1, wait_s=10))
        await asyncio.sleep(0)
        queue.send("kept")
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert queue.depth() == (1, 0, 0)

    run(story())


def test_a_delayed_message_is_counted_and_comes_later():
    async def story() -> None:
        queue = service().create("q", {})
        queue.send("later", delay_s=0.05)
        assert queue.depth() == (0, 0, 1)
        assert await queue.receive(1) == []
        assert [message.body for message in await queue.receive(1, wait_s=5)] == ["later"]
        assert queue.depth() == (0, 1, 0)

    run(story())


def test_a_message_received_too_often_moves_to_the_dead_letter_queue():
    async def story() -> None:
        queues = service()
        dead = queues.create("dead", {})
        queue = queues.create("q", {"RedrivePolicy": {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2}})
        message_id = queue.send("poison")
        for _ in range(2):
            [message] = await queue.receive(1)
            queue.change_visibility(message.receipt_handle, 0)
        assert await queue.receive(1) == []
        assert queue.depth() == (0, 0, 0)
        [moved] = await dead.receive(1)
        assert (moved.message_id, moved.body, moved.receive_count) == (message_id, "poison", 1)
        assert moved.system_attributes()["DeadLetterQueueSourceArn"] == queue.arn
        assert queue.counters["dead_lettered"] == 1

    run(story())


def test_redrive_takes_dead_letters_back_to_where_they_came_from():
    async def story() -> None:
        queues = service()
        dead = queues.create("dead", {})
        queue = queues.create("q", {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead.arn,
                                                                "maxReceiveCount": 1})})
        for body in "abc":
            queue.send(body)
        await queue.receive(10, visibility_s=0)
        assert await queue.receive(10) == []
        assert dead.redrive(None) == 3
        assert sorted(message.body for message in await queue.receive(10)) == ["a", "b", "c"]

    run(story())


def test_a_redrive_that_cannot_place_every_message_moves_none():
    async def story() -> None:
        queues = service()
        dead = queues.create("dead", {})
        queue = queues.create("q", {"RedrivePolicy": {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}})
        queue.send("poison")
        await queue.receive(1, visibility_s=0)
        assert await queue.receive(1) == []
        dead.send("sent to it directly")
        with pytest.raises(QueueError, match="sent to dead itself: name a DestinationArn") as caught:
            dead.redrive(None)
        assert caught.value.code == "CouldNotDetermineMessageSource" and dead.depth() == (2, 0, 0)
        other = queues.create("other", {})
        assert dead.redrive(other) == 2 and other.depth() == (2, 0, 0)

    run(story())


def test_changing_the_visibility_needs_a_message_in_flight():
    async def story() -> None:
        queue = service().create("q", {})
        queue.send("x")
        [message] = await queue.receive(1)
        queue.change_visibility(message.receipt_handle, 100)
        queue.change_visibility(message.receipt_handle, 0)
        assert queue.depth() == (1, 0, 0)
        with pytest.raises(QueueError, match="in flight") as caught:
            queue.change_visibility(message.receipt_handle, 5)
        assert caught.value.code == "MessageNotInflight"

    run(story())


def test_what_a_message_costs_does_not_grow_with_the_queue():
    async def quickest_s(waiting: int) -> float:
        """The quickest way of one message through a queue in which so many others wait or are in flight."""
        queue = service().create("q", {})
        for number in range(waiting):
            queue.send(str(number))
        for _ in range(waiting // 20):
            await queue.receive(10)
        times = []
        for _ in range(200):
            began_s = time.perf_counter()
            queue.send("one more")
            [message] = await queue.receive(1)
            assert queue.delete(message.receipt_handle)
            times.append(time.perf_counter() - began_s)
        assert sum(queue.depth()) == waiting
        return min(times)

    async def story() -> None:
        few_s, many_s = await quickest_s(20), await quickest_s(40_000)
        assert many_s < 10 * few_s, "a scan of the queue would cost a hundred times as much"

    run(story())


@pytest.mark.parametrize(("body", "code"), [
    ("", "MissingParameter"), ("a" * 1025, "InvalidParameterValue"), ("a\x00b", "InvalidMessageContents"),
    ("\ufffe", "InvalidMessageContents")])
def test_what_sqs_refuses_is_refused(body: str, code: str):
    async def story() -> None:
        queue = service().create("q", {"MaximumMessageSize": 1024})
        with pytest.raises(QueueError) as caught:
            queue.send(body)
        assert caught.value.code == code

    run(story())


@pytest.mark.parametrize(("properties", "name"), [
    ({"FifoQueue": True}, "FifoQueue"),
    ({"VisibilityTimeout": 43_201}, "VisibilityTimeout"),
    ({"DelaySeconds": "soon"}, "DelaySeconds"),
    ({"RedrivePolicy": {"deadLetterTargetArn": "a:b", "maxReceiveCount": 0}}, "maxReceiveCount")])
def test_a_property_that_is_not_honoured_is_named(properties: dict[str, Any], name: str):
    with pytest.raises(Unsupported, match=name):
        service().create("q", properties)


def test_a_taken_name_and_a_refused_dead_letter_source_stop_the_deployment():
    queues = service()
    dead = queues.create("dead", {"RedriveAllowPolicy": {"redrivePermission": "denyAll"}})
    with pytest.raises(DeployError, match="queue dead exists already"):
        queues.create("dead", {})
    gone = {"deadLetterTargetArn": "arn:aws:sqs:eu-north-1:123456789012:gone", "maxReceiveCount": 3}
    with pytest.raises(DeployError, match=r"RedrivePolicy: .*:gone is no queue of this deployment; there are dead"):
        queues.create("q", {"RedrivePolicy": gone})
    with pytest.raises(DeployError, match="dead does not take dead letters of q"):
        queues.create("q", {"RedrivePolicy": {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 3}})


def with_boto3(story: Callable[[Any], None]) -> QueueService:
    """Run `story(client)` in a thread against the API on a real port."""
    queues = service()

    async def answer(request: Request) -> Response:
        status, content = await sqs_api.handle(queues, request.headers["x-amz-target"], json.loads(request.body))
        error = sqs_api.error_header(content)
        headers = [("Content-Type", "application/x-amz-json-1.0")] + ([("x-amzn-query-error", error)] if error else [])
        return Response(status, json.dumps(content).encode(), headers)

    async def serve() -> None:
        server = Server(answer)
        await server.start("127.0.0.1", 0)
        queues.endpoint_url = f"http://127.0.0.1:{server.port}"
        dead = queues.create("dead", {})
        queues.create("q", {"RedrivePolicy": {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}})
        client = boto3.client("sqs", endpoint_url=queues.endpoint_url, region_name="eu-north-1",
                              aws_access_key_id="local", aws_secret_access_key="local",
                              config=Config(retries={"total_max_attempts": 1}))
        try:
            await asyncio.to_thread(story, client)
        finally:
            client.close()
            await server.close()

    run(serve())
    return queues


def test_boto3_sends_receives_and_deletes():
    def story(client: Any) -> None:
        url = client.get_queue_url(QueueName="q")["QueueUrl"]
        attributes = {"kind": {"DataType": "String", "StringValue": "reading"},
                      "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"}}
        sent = client.send_message(QueueUrl=url, MessageBody="über", MessageAttributes=attributes)
        assert client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessages"] == "1"
        [message] = client.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=1,
                                           MessageSystemAttributeNames=["All"])["Messages"]
        assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "über")
        assert message["MessageAttributes"] == attributes
        assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        assert "Messages" not in client.receive_message(QueueUrl=url)

    assert with_boto3(story).counters["SendMessage"] == 1


def test_boto3_batches_report_each_entry():
    def story(client: Any) -> None:
        url = client.get_queue_url(QueueName="q")["QueueUrl"]
        answer = client.send_message_batch(QueueUrl=url, Entries=[
            {"Id": "good", "MessageBody": "x"}, {"Id": "bad", "MessageBody": "\ufffe"}])
        assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
        assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("bad", "InvalidMessageContents")]
        [message] = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        changed = client.change_message_visibility_batch(QueueUrl=url, Entries=[
            {"Id": "1", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 100}])
        assert [entry["Id"] for entry in changed["Successful"]] == ["1"]
        deleted = client.delete_message_batch(QueueUrl=url, Entries=[
            {"Id": "1", "ReceiptHandle": message["ReceiptHandle"]}])
        assert [entry["Id"] for entry in deleted["Successful"]] == ["1"]

    with_boto3(story)


def test_boto3_sees_sqs_own_errors():
    def story(client: Any) -> None:
        with pytest.raises(client.exceptions.QueueDoesNotExist):
            client.get_queue_url(QueueName="nothing")
        url = client.get_queue_url(QueueName="q")["QueueUrl"]
        with pytest.raises(client.exceptions.EmptyBatchRequest):
            client.send_message_batch(QueueUrl=url, Entries=[])
        with pytest.raises(ClientError) as caught:
            client.create_queue(QueueName="another")
        assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.UnsupportedOperation"

    with_boto3(story)


def test_boto3_moves_dead_letters_back_and_purges():
    def story(client: Any) -> None:
        url = client.get_queue_url(QueueName="q")["QueueUrl"]
        dead_url = client.get_queue_url(QueueName="dead")["QueueUrl"]
        assert client.list_dead_letter_source_queues(QueueUrl=dead_url)["queueUrls"] == [url]
        client.send_message(QueueUrl=url, MessageBody="x")
        client.receive_message(QueueUrl=url, VisibilityTimeout=0)
        assert "Messages" not in client.receive_message(QueueUrl=url)
        arn = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        assert client.start_message_move_task(SourceArn=arn)["TaskHandle"]
        assert client.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "x"
        client.purge_queue(QueueUrl=url)
        assert client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessagesNotVisible"] == "0"

    with_boto3(story)
