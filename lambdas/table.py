"""DynamoDB as all functions use it: names and clients from the environment, keys, items in and out of its form, reads
and writes; what the items hold is in the modules table_*.py beside this.

Every number goes in and comes out as a Decimal, exactly. Importing needs neither environment nor AWS: names and clients
are taken at the first use.
"""
import base64
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config
from botocore.exceptions import ClientError

Item = dict[str, Any]

DAY_S = 24 * 3600
PUT_CHUNK = 25  # DynamoDB takes no more in one BatchWriteItem
PUT_ATTEMPTS = 8
READINGS, MINUTES, ROLLUPS = "RETENTION_DAYS", "MINUTE_RETENTION_DAYS", "ROLLUP_RETENTION_DAYS"
KEPT_DAYS = {READINGS: 30, MINUTES: 90, ROLLUPS: 1830}  # where the environment says nothing else
EVENTS_BY_NUMBER, BY_DAY = "events_by_number", "by_day"  # the two indexes
CLIENTS: dict[str, Any] = {}  # boto3 clients by service, made once per container; a test may put its own here

_serializer, _deserializer = TypeSerializer(), TypeDeserializer()


class NotStored(Exception):
    """DynamoDB left items unprocessed after all attempts, or time was up before the first; the message comes again."""


class ConditionFailed(Exception):
    """A conditional write was not made; `item`: what stands there, {} for nothing, or where it was not asked for."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"the item {item.get('pk')}, {item.get('sk')} is not as the write's condition wants it")
        self.item = item


def client(service: str) -> Any:
    """The boto3 client of a service, made at the first use and kept for the life of the container."""
    if service not in CLIENTS:
        CLIENTS[service] = boto3.client(service, config=Config(
            connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}))
    return CLIENTS[service]


def name(setting: str) -> str:
    """The table's name from the environment, e.g. name("READINGS_TABLE")."""
    if not os.environ.get(setting):
        raise KeyError(f"{setting} is not set; expected the name of a table, which infra/ puts into the environment")
    return os.environ[setting]


# --- time

def now_ms() -> int:
    """The cloud's clock: UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def day_text(moment_ms: int) -> str:
    """UTC day, "2026-11-22"."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(moment_ms) // 1000))


def kept_days(setting: str) -> int:
    """For how many days items are kept: READINGS, MINUTES or ROLLUPS (hours and days)."""
    return int(os.environ.get(setting, KEPT_DAYS[setting]))


def expires_at(moment_ms: int, setting: str = READINGS, arrived_s: float | None = None) -> int:
    """Epoch seconds at which DynamoDB may delete an item of this moment.

    What arrives after its time, from a long outage or a bridge whose clock was wrong, is kept as long as today's: it
    must not vanish on arrival. Rounded up to whole days, so that a repeat writes the same. arrived_s: when it came to
    the cloud, by default now; a rebuild says when that was.
    """
    days, today = kept_days(setting), int(now_ms() / 1000 if arrived_s is None else arrived_s) // DAY_S
    expiry_s = int(moment_ms) // 1000 + days * DAY_S
    return expiry_s if expiry_s > (today + 1) * DAY_S else (today + 1 + days) * DAY_S


# --- keys

def site_of(thing: str) -> str:
    """The site whose readings a thing sends: its own name, unless SITES makes it a further bridge of another site."""
    return str(json.loads(os.environ.get("SITES", "{}")).get(thing, thing))


def device_key(site: str, device: str) -> str:
    """Partition key of all that a device has; a device id has no '#', so it can be taken apart again."""
    return f"{site}#{device}"


# --- DynamoDB's form

def to_attributes(item: Item) -> dict[str, Any]:
    """{"n": Decimal(1)} -> {"n": {"N": "1"}}; raises when DynamoDB cannot hold a number exactly."""
    return {key: _serializer.serialize(value) for key, value in item.items()}


def from_attributes(attributes: dict[str, Any]) -> Item:
    """{"n": {"N": "1"}} -> {"n": Decimal(1)}: an item from a client's answer or from a stream record."""
    return {key: _deserializer.deserialize(_bytes(value)) for key, value in attributes.items()}


def _bytes(value: dict[str, Any]) -> dict[str, Any]:
    """A stream record in a function's event holds bytes as base64 text; a client's answer holds them as they are."""
    return {"B": base64.b64decode(value["B"])} if isinstance(value.get("B"), str) else value


# --- reading

def query(setting: str, pk: str, low: str, high: str, newest_first: bool = False, page: int = 100,
          consistent: bool = False) -> Iterator[Item]:
    """Items of a partition with low <= sk <= high, read page by page as they are asked for; expired ones left out.

    consistent: with all that was written before, at twice the price.
    """
    return _query(newest_first, TableName=name(setting), Limit=page, ConsistentRead=consistent,
                  KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
                  ExpressionAttributeValues=to_attributes({":pk": pk, ":low": low, ":high": high}))


def query_index(setting: str, index: str, keys: tuple[str, str], values: tuple[str, str | int],
                page: int = 100) -> Iterator[Item]:
    """Items of an index with keys[0] = values[0] and keys[1] < values[1], largest first; expired ones left out."""
    return _query(True, TableName=name(setting), IndexName=index, KeyConditionExpression="#a = :a AND #b < :b",
                  ExpressionAttributeNames={"#a": keys[0], "#b": keys[1]},
                  ExpressionAttributeValues=to_attributes({":a": values[0], ":b": values[1]}), Limit=page)


def _query(newest_first: bool, **request: Any) -> Iterator[Item]:
    now_s = now_ms() // 1000
    while True:
        answer = client("dynamodb").query(ScanIndexForward=not newest_first, **request)
        for attributes in answer["Items"]:
            item = from_attributes(attributes)
            if item.get("expires_at", now_s + 1) > now_s:  # DynamoDB deletes days late
                yield item
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


# --- writing

def put_all(setting: str, items: Iterable[Item], time_is_left: Callable[[], bool] = lambda: True) -> None:
    """Put items unconditionally, in chunks; one key twice (refused by DynamoDB) is put once, as it came last.

    Raises NotStored when DynamoDB keeps leaving some unprocessed, or when no time is left for a chunk (a full batch of
    events takes hundreds); and whatever the client raises.
    """
    distinct = list({(item["pk"], item["sk"]): item for item in items}.values())
    for start in range(0, len(distinct), PUT_CHUNK):
        check_time(time_is_left)
        waiting = [{"PutRequest": {"Item": to_attributes(item)}} for item in distinct[start:start + PUT_CHUNK]]
        _write({name(setting): waiting})


def check_time(time_is_left: Callable[[], bool]) -> None:
    """Raise NotStored when the function's time is as good as over."""
    if not time_is_left():
        raise NotStored("no time left; the queue brings the message again")


def _write(waiting: dict[str, Any]) -> None:
    for attempt in range(PUT_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0, min(1.0, 0.05 * 2 ** attempt)))  # full jitter
        waiting = client("dynamodb").batch_write_item(RequestItems=waiting).get("UnprocessedItems") or {}
        if not waiting:
            return
    raise NotStored(f"{sum(map(len, waiting.values()))} items unprocessed after {PUT_ATTEMPTS} attempts: the table is "
                    "throttled; the queue brings the message again")


def write_if(condition: str, operation: str, setting: str, **request: Any) -> Any:
    """One put_item, update_item or delete_item that is made only if the condition holds; the client's answer.

    Raises ConditionFailed, and whatever else the client raises.
    """
    try:
        return getattr(client("dynamodb"), operation)(
            TableName=name(setting), ConditionExpression=condition, **request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise ConditionFailed(from_attributes(error.response.get("Item", {}))) from None
