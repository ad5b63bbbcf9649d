"""The four tables in moto, and the functions persist, alert and aggregate working on them.

The tables are in moto, or in the engine that EDGECLOUD_TEST_DYNAMODB names by its address (tests.dynamodb_local).
"""
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.iotdata.models import iotdata_backends
from moto.sns.models import sns_backends

from lambdas import aggregate, alert, persist, table, table_devices
from tests.messages import sqs

REGION = "eu-north-1"
NAMES = {"READINGS_TABLE": "readings", "ROLLUPS_TABLE": "rollups", "ALERTS_TABLE": "alerts",
         "INCIDENTS_TABLE": "incidents"}
INDEXES = {"readings": [("events_by_number", "pk", "event_number", "N")], "rollups": [],
           "alerts": [("by_day", "day", "recent", "S")], "incidents": [("by_day", "day", "recent", "S")]}

ENGINE = os.environ.get("EDGECLOUD_TEST_DYNAMODB")  # None: moto
_clients: dict[str, Any] = {}


@contextmanager
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty tables and a fresh container."""
    for key, value in {
        **NAMES, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",  # moto does not know the stream endpoint with the account in it
        **({"AWS_ENDPOINT_URL_DYNAMODB": ENGINE, "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": ENGINE} if ENGINE else {}),
        "RETENTION_DAYS": "36500", "MINUTE_RETENTION_DAYS": "36500", "ROLLUP_RETENTION_DAYS": "36500",
        "RECEIPTS": "on", "EDGECLOUD_VERSION": "9.9.9",
    }.items():
        monkeypatch.setenv(key, value)
    with mock_aws():
        fresh_container()
        _remove_tables()
        for name, indexes in INDEXES.items():
            create(name, indexes)
        monkeypatch.setenv("ALERTS_TOPIC", table.client("sns").create_topic(Name="alerts")["TopicArn"])
        try:
            yield
        finally:
            fresh_container()
            table.CLIENTS.clear()


def fresh_container() -> None:
    """Forget the devices known from before and any client that a test put in place of boto3's.

    Making a client takes longer than most tests: boto3's are kept, and moto empties what is behind them.
    """
    table_devices.KNOWN.clear()
    table.CLIENTS.clear()
    for service in ("dynamodb", "iot-data", "sns"):
        if service not in _clients:
            _clients[service] = table.client(service)
        table.CLIENTS[service] = _clients[service]


def _remove_tables() -> None:
    """What an engine that outlives a test still holds; moto begins empty."""
    client = table.client("dynamodb")
    for name in client.list_tables()["TableNames"] if ENGINE else ():
        client.delete_table(TableName=name)


def create(name: str, indexes: list[tuple[str, str, str, str]]) -> None:
    """One table with pk, sk, a stream, and its indexes (name, partition key, sort key, sort key's type)."""
    types = {"pk": "S", "sk": "S"} | {k: t for _, a, b, kind in indexes for k, t in ((a, "S"), (b, kind))}
    further: dict[str, Any] = {"GlobalSecondaryIndexes": [
        {"IndexName": index, "Projection": {"ProjectionType": "ALL"},
         "KeySchema": [{"AttributeName": a, "KeyType": "HASH"}, {"AttributeName": b, "KeyType": "RANGE"}]}
        for index, a, b, _ in indexes]} if indexes else {}
    table.client("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": k, "AttributeType": t} for k, t in types.items()],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}, **further)


def dump(name: str) -> list[dict[str, Any]]:
    """All items of a table, as DynamoDB holds them, in a fixed order."""
    items = table.client("dynamodb").scan(TableName=name)["Items"]
    return sorted(items, key=lambda item: (item["pk"]["S"], item["sk"]["S"]))


def items(name: str) -> list[dict[str, Any]]:
    """All items of a table in plain Python."""
    return [table.from_attributes(item) for item in dump(name)]


def published() -> list[tuple[str, Any]]:
    """What went to IoT Core since the last call: (topic, decoded payload)."""
    sent = iotdata_backends[DEFAULT_ACCOUNT_ID][REGION].published_payloads
    taken = [(topic, json.loads(payload)) for topic, payload in sent]
    sent.clear()
    return taken


def notices() -> list[tuple[str, str]]:
    """What went to the topic of the alerts since the last call: (subject, body)."""
    sent = sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics[os.environ["ALERTS_TOPIC"]].sent_notifications
    taken = [(subject, body) for _, body, subject, _, _ in sent]
    sent.clear()
    return taken


def failures(answer: dict[str, Any]) -> list[str]:
    """The identifiers that a function's answer names as failed."""
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def streamed(name: str = "readings", since: int = 0) -> list[dict[str, Any]]:
    """The records of a table's stream from index `since`, as Lambda gets them."""
    arn = table.client("dynamodb").describe_table(TableName=name)["Table"]["LatestStreamArn"]
    streams = _clients["dynamodbstreams"] = _clients.get("dynamodbstreams") or boto3.client("dynamodbstreams")
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    start = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    return streams.get_records(ShardIterator=start)["Records"][since:]


def persisted(*bodies: str) -> dict[str, Any]:
    """Hand bodies to persist."""
    return persist.handler(sqs(*bodies), None)


def alerted(*bodies: str) -> dict[str, Any]:
    """Hand bodies to alert."""
    return alert.handler(sqs(*bodies), None)


def aggregated(records: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Hand stream records (by default all there are) to aggregate."""
    return aggregate.handler({"Records": streamed() if records is None else records}, None)
