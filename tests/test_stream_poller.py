"""Feeding a function from moto's DynamoDB stream: order, positions, failures, bisection, and a real function."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import Config
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import StreamShard
from moto.dynamodbstreams.models import DynamoDBStreamsBackend, dynamodbstreams_backends
from moto.server import ThreadedMotoServer

from local_cloud.functions import FunctionService
from local_cloud.moto_streams import bound_memory
from local_cloud.queue_poller import QueuePoller
from local_cloud.queues import QueueService
from local_cloud.stream_poller import StreamPoller
from tests.pollers_rig import ACCOUNT, PARTIAL, REGION, Handler, RecordingFunction, flat, run
from tests.waiting import until


@pytest.fixture(scope="module")
def moto() -> Iterator[Callable[[str], Any]]:
    """Clients of a moto server of this module's own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()

    def client(name: str) -> Any:
        return boto3.client(name, endpoint_url=f"http://{host}:{port}", region_name=REGION,
                            aws_access_key_id="local", aws_secret_access_key="local",
                            config=Config(account_id_endpoint_mode="disabled", retries={"total_max_attempts": 1}))

    yield client
    server.stop()


class Table:
    """A table with a stream, and puts to it."""

    def __init__(self, client: Any, name: str, view: str = "NEW_AND_OLD_IMAGES") -> None:
        self._client = client
        self.name = name
        self.stream_arn = client.create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view})["TableDescription"]["LatestStreamArn"]

    def put(self, key: str, value: Any = 1) -> None:
        self._client.put_item(TableName=self.name, Item={"pk": {"S": key}, "value": {"N": str(value)},
                                                         "raw": {"B": b"\x00\xff"}})

    def delete(self, key: str) -> None:
        self._client.delete_item(TableName=self.name, Key={"pk": {"S": key}})


def with_stream(moto: Callable[[str], Any], name: str, handler: Handler, mapping: dict[str, Any],
                story: Callable[..., Awaitable[None]], before: Callable[[Table], None] = lambda table: None,
                **options: Any) -> None:
    """Run story(table, function, poller) with a started poller on a new table's stream."""
    table = Table(moto("dynamodb"), name)
    before(table)

    async def main() -> None:
        function = RecordingFunction(handler)
        poller = StreamPoller(moto("dynamodbstreams"), function, {  # type: ignore[arg-type]
            "EventSourceArn": table.stream_arn, "FunctionName": function.arn, "StartingPosition": "TRIM_HORIZON",
            **mapping}, **options)
        await poller.start()
        try:
            await story(table, function, poller)
        finally:
            await poller.close()

    run(main())


def keys(function: RecordingFunction) -> list[list[str]]:
    return [[record["dynamodb"]["Keys"]["pk"]["S"] for record in batch] for batch in function.batches]


def test_a_change_becomes_a_full_stream_event(moto: Callable[[str], Any]):
    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        table.put("a", 1)
        table.put("a", 2)
        table.delete("a")
        await poller.flush()
        records = flat(function.batches)
        assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
        change = records[1]["dynamodb"]
        assert change["Keys"] == {"pk": {"S": "a"}}
        assert change["OldImage"]["value"] == {"N": "1"} and change["NewImage"]["value"] == {"N": "2"}
        assert change["NewImage"]["raw"] == {"B": "AP8="}, "binary travels as base64"
        assert abs(change["ApproximateCreationDateTime"] - time.time()) < 30
        assert isinstance(change["SequenceNumber"], str)
        assert (records[0]["eventSource"], records[0]["awsRegion"]) == ("aws:dynamodb", "eu-north-1")
        assert records[0]["eventSourceARN"] == table.stream_arn
        assert poller.idle() and len(function.iterator_ages_ms) == len(function.batches)
        assert all(-2000 < age_ms < 30_000 for age_ms in function.iterator_ages_ms), "for the metric IteratorAge"

    with_stream(moto, "shape", lambda records: None, {}, story)


def test_a_poller_starts_at_the_horizon_or_at_the_latest_record(moto: Callable[[str], Any]):
    async def horizon(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await poller.flush()
        assert keys(function) == [["before"]]

    async def latest(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await poller.flush()
        table.put("after")
        await poller.flush()
        assert keys(function) == [["after"]]

    with_stream(moto, "horizon", lambda records: None, {}, horizon, lambda table: table.put("before"))
    with_stream(moto, "latest", lambda records: None, {"StartingPosition": "LATEST"}, latest,
                lambda table: table.put("before"))


def test_a_put_that_changes_nothing_makes_no_record(moto: Callable[[str], Any]):
    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        for value in (1, 1, 2):
            table.put("a", value)
        await poller.flush()
        assert [record["dynamodb"]["NewImage"]["value"]["N"] for record in flat(function.batches)] == ["1", "2"]
        assert poller.counters["unchanged"] == 1

    with_stream(moto, "unchanged", lambda records: None, {}, story)


def test_an_idle_stream_is_polled_and_a_nudge_is_quicker(moto: Callable[[str], Any]):
    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        table.put("a")
        await until(lambda: keys(function) == [["a"]])

    async def nudged(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await poller.flush()
        table.put("a")
        poller.nudge()
        assert not poller.idle()
        await until(lambda: keys(function) == [["a"]] and poller.idle())

    with_stream(moto, "polled", lambda records: None, {}, story)
    with_stream(moto, "nudged", lambda records: None, {}, nudged, idle_poll_s=(60.0, 60.0))


def test_order_is_kept_in_batches_of_batch_size(moto: Callable[[str], Any]):
    names = [f"k{number:02d}" for number in range(25)]

    def before(table: Table) -> None:
        for name in names:
            table.put(name)

    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await poller.flush()
        assert flat(keys(function)) == names
        assert [len(batch) for batch in function.batches] == [10, 10, 5]

    with_stream(moto, "order", lambda records: None, {"BatchSize": 10}, story, before)


def test_a_window_gathers_and_a_flush_ends_it(moto: Callable[[str], Any]):
    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        table.put("a")
        await until(lambda: poller.counters["records"] == 1)
        table.put("b")
        assert function.batches == []
        await poller.flush()
        assert keys(function) == [["a", "b"]]

    with_stream(moto, "window", lambda records: None, {"MaximumBatchingWindowInSeconds": 300}, story)


def test_a_failing_batch_holds_its_shard_up_until_it_succeeds(moto: Callable[[str], Any]):
    fails = iter([True, True, False])

    def handler(records: list[dict[str, Any]]) -> None:
        if next(fails, False):
            raise RuntimeError("twice")

    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        table.put("a")
        table.put("b")
        await until(lambda: len(function.batches) == 4)
        assert keys(function) == [["a"], ["a"], ["a"], ["b"]]
        assert poller.counters["failed_batches"] == 2

    with_stream(moto, "holds", handler, {"BatchSize": 1}, story)


def test_partial_failures_go_on_from_the_first_failed_record(moto: Callable[[str], Any]):
    fails = iter([True, False])

    def handler(records: list[dict[str, Any]]) -> Any:
        if next(fails, False):
            numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
            return {"batchItemFailures": [{"itemIdentifier": numbers[2]}, {"itemIdentifier": numbers[1]}]}
        return None

    def before(table: Table) -> None:
        for key in "abcd":
            table.put(key)

    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await until(lambda: len(function.batches) == 2)
        assert keys(function) == [["a", "b", "c", "d"], ["b", "c", "d"]]

    with_stream(moto, "partial", handler, PARTIAL, story, before)


def test_a_poisoned_record_is_found_by_bisection_given_up_and_reported(moto: Callable[[str], Any]):
    sent: list[tuple[str, dict[str, Any]]] = []

    def handler(records: list[dict[str, Any]]) -> None:
        if any(record["dynamodb"]["Keys"]["pk"]["S"] == "poison" for record in records):
            raise RuntimeError("poison")

    async def send_to(arn: str, body: str) -> None:
        sent.append((arn, json.loads(body)))

    def before(table: Table) -> None:
        for key in ("a", "poison", "c", "d"):
            table.put(key)

    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        await until(lambda: keys(function)[-1:] == [["c", "d"]])
        assert keys(function) == [["a", "poison", "c", "d"], ["a", "poison"], ["a"], ["poison"], ["poison"], ["c", "d"]]
        [(arn, record)] = sent
        assert arn == "arn:failures"
        assert record["DDBStreamBatchInfo"]["batchSize"] == 1
        assert record["DDBStreamBatchInfo"]["streamArn"] == table.stream_arn
        assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert poller.counters["given_up"] == 1

    with_stream(moto, "bisect", handler, {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1,
                                          "DestinationConfig": {"OnFailure": {"Destination": "arn:failures"}}},
                story, before, send_to=send_to)


def test_filtered_records_are_passed_over(moto: Callable[[str], Any]):
    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        table.put("a")
        table.delete("a")
        await poller.flush()
        assert [record["eventName"] for record in flat(function.batches)] == ["REMOVE"]

    pattern = json.dumps({"eventName": ["REMOVE"]})
    with_stream(moto, "filtered", lambda records: None, {"FilterCriteria": {"Filters": [{"Pattern": pattern}]}}, story)


def test_a_stream_that_cannot_be_read_is_read_later(moto: Callable[[str], Any]):
    class Faulty:
        """moto's client, with get_records failing at first."""

        def __init__(self, client: Any) -> None:
            self._client = client
            self.faults = 1

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def get_records(self, **arguments: Any) -> Any:
            if self.faults:
                self.faults -= 1
                raise ConnectionError("the link is down")
            return self._client.get_records(**arguments)

    table = Table(moto("dynamodb"), "faulty")
    table.put("a")

    async def main() -> None:
        function = RecordingFunction()
        poller = StreamPoller(Faulty(moto("dynamodbstreams")), function, {  # type: ignore[arg-type]
            "EventSourceArn": table.stream_arn, "FunctionName": "f", "StartingPosition": "TRIM_HORIZON"})
        await poller.start()
        try:
            await poller.flush()
        finally:
            await poller.close()
        assert keys(function) == [["a"]]

    run(main())


def test_moto_forgets_what_was_read_and_every_record_still_arrives(moto: Callable[[str], Any],
                                                                   monkeypatch: pytest.MonkeyPatch):
    # monkeypatch puts moto's own methods back afterwards
    monkeypatch.setattr(StreamShard, "get", StreamShard.get)
    monkeypatch.setattr(DynamoDBStreamsBackend, "get_records", DynamoDBStreamsBackend.get_records)
    bound_memory(kept_records=5, kept_iterators=3)
    names = [f"k{number:02d}" for number in range(40)]

    async def story(table: Table, function: RecordingFunction, poller: StreamPoller) -> None:
        for name in names:
            table.put(name)
            await poller.flush()
        await poller.flush()
        assert flat(keys(function)) == names
        shard = dynamodb_backends[ACCOUNT][REGION].tables["bounded"].stream_shard
        assert len(shard.items) <= 6
        assert len(dynamodbstreams_backends[ACCOUNT][REGION].shard_iterators) <= 3

    with_stream(moto, "bounded", lambda records: None, {}, story)


def test_a_real_function_takes_messages_and_records(moto: Callable[[str], Any], tmp_path: Path):
    (tmp_path / "handler.py").write_text(
        "def handler(event, context):\n"
        "    print('took', len(event['Records']), event['Records'][0]['eventSource'])\n"
        "    return {'batchItemFailures': []}\n")
    table = Table(moto("dynamodb"), "real")
    table.put("a")

    async def main() -> None:
        service = FunctionService(ACCOUNT, REGION, {}, tmp_path / "logs")
        function = service.create("f", {"Handler": "handler.handler", "Runtime": "python3.13"}, tmp_path)
        queue = QueueService(ACCOUNT, REGION, "http://127.0.0.1:1").create("q", {})
        for number in range(3):
            queue.send(str(number))
        pollers = [QueuePoller(queue, function, {"EventSourceArn": queue.arn, "FunctionName": "f", **PARTIAL}),
                   StreamPoller(moto("dynamodbstreams"), function, {
                       "EventSourceArn": table.stream_arn, "FunctionName": "f", "StartingPosition": "TRIM_HORIZON"})]
        try:
            for poller in pollers:
                await poller.start()
                await poller.flush()
            assert queue.depth() == (0, 0, 0)
        finally:
            await asyncio.gather(*(poller.close() for poller in pollers))
            await service.close()
        log = function.log_path.read_text()
        assert "took 3 aws:sqs" in log and "took 1 aws:dynamodb" in log

    run(main())
