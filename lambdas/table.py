"""Keys, items and writes: what comes from SQS, the stream or HTTP becomes items in DynamoDB's three tables.

Every number goes in and comes out as a Decimal, exactly; every item is the same each time it is made, so that a repeat
changes nothing. Importing needs neither environment nor AWS: names and clients are taken at the first use.
"""
import base64
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

from contract import batch, numbers, routes, topics
from contract.errors import BadPayload

Item = dict[str, Any]

DAY_S = 24 * 3600
PUT_CHUNK = 25  # DynamoDB takes no more in one BatchWriteItem
PUT_ATTEMPTS = 8
SPARE_MS = 10_000  # of a function's time: for all attempts of one chunk and the receipts
RECEIPT_IDS = 4000  # 27 bytes each: below the 128 KiB of a message
READINGS, MINUTES, ROLLUPS = "RETENTION_DAYS", "MINUTE_RETENTION_DAYS", "ROLLUP_RETENTION_DAYS"
KEPT_DAYS = {READINGS: 30, MINUTES: 90, ROLLUPS: 1830}  # where the environment says nothing else
EVENTS_BY_NUMBER, BY_DAY = "events_by_number", "by_day"  # the two indexes
CLIENTS: dict[str, Any] = {}  # boto3 clients by service, made once per container; a test may put its own here

_BATCH_ID = re.compile(r"[0-9a-f]{24}\Z")
_known_devices: set[tuple[str, str, str]] = set()
_serializer, _deserializer = TypeSerializer(), TypeDeserializer()
log = logging.getLogger(__name__)


class NotStored(Exception):
    """DynamoDB left items unprocessed after all attempts, or time was up before the first; the message comes again."""


class Message(NamedTuple):
    """What one SQS record carries: `items` for the table of the setting `table`, then a receipt for `id` to `thing`;
    news: what alert.py stores besides."""

    thing: str
    id: str
    table: str
    items: list[Item]
    news: Sequence[Any] = ()


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


def kept_days(setting: str) -> int:
    """For how many days items are kept: READINGS, MINUTES or ROLLUPS (hours and days)."""
    return int(os.environ.get(setting, KEPT_DAYS[setting]))


def expires_at(moment_ms: int, setting: str = READINGS, arrived_s: float | None = None) -> int:
    """Epoch seconds at which DynamoDB may delete an item of this moment.

    What arrives after its time, from a long outage or a bridge whose clock was wrong, is kept as long as today's: it
    must not vanish on arrival. Rounded up to whole days, so that a repeat writes the same. arrived_s: when it came to
    the cloud, by default now; a rebuild says when that was.
    """
    days, today = kept_days(setting), int(time.time() if arrived_s is None else arrived_s) // DAY_S
    expiry_s = int(moment_ms) // 1000 + days * DAY_S
    return expiry_s if expiry_s > (today + 1) * DAY_S else (today + 1 + days) * DAY_S


def to_attributes(item: Item) -> dict[str, Any]:
    """{"n": Decimal(1)} -> {"n": {"N": "1"}}; raises when DynamoDB cannot hold a number exactly."""
    return {key: _serializer.serialize(value) for key, value in item.items()}


def from_attributes(attributes: dict[str, Any]) -> Item:
    """{"n": {"N": "1"}} -> {"n": Decimal(1)}: an item from a client's answer or from a stream record."""
    return {key: _deserializer.deserialize(_bytes(value)) for key, value in attributes.items()}


def _bytes(value: dict[str, Any]) -> dict[str, Any]:
    """A stream record in a function's event holds bytes as base64 text; a client's answer holds them as they are."""
    return {"B": base64.b64decode(value["B"])} if isinstance(value.get("B"), str) else value


# --- keys

def site_of(thing: str) -> str:
    """The site whose readings a thing sends: its own name, unless SITES makes it a further bridge of another site."""
    return str(json.loads(os.environ.get("SITES", "{}")).get(thing, thing))


def device_key(site: str, device: str) -> str:
    """Partition key of all that a device has; a device id has no '#', so it can be taken apart again."""
    return f"{site}#{device}"


def day_text(moment_ms: int) -> str:
    """UTC day, "2026-11-22"."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(moment_ms) // 1000))


# --- items

def _exact(value: Any, what: str) -> Decimal:
    return numbers.canonical(numbers.check(value, what))


def _as_it_came(timestamp: Any) -> Any:
    return timestamp if isinstance(timestamp, str) else _exact(timestamp, "timestamp")


def readings_item(site: str, batch_id: str, series: Item) -> Item:
    """One device's series of one batch. Raises BadPayload, KeyError, ... when the series cannot be unpacked."""
    rows = batch.unpack(series)
    first = rows[0]
    return {
        "pk": device_key(site, topics.check_device(series["device"])), "sk": f"r#{int(first.number):017d}#{batch_id}",
        "kind": "readings", "site": site, "device": series["device"], "batch": batch_id, "number": first.number,
        "n": len(rows), "received": first.received_ms, "series": batch.stored(series),
        "expires_at": expires_at(first.received_ms),
    }


def event_item(site: str, device: str, row: batch.Row) -> Item:
    """One event; row.kafka is its identity (topic, partition, offset, record timestamp in ms). It names no batch."""
    topic, partition, offset, recorded_ms = row.kafka
    item = {
        "pk": device_key(site, topics.check_device(device)),
        "sk": f"e#{topic}#{partition}#{offset:020d}#{recorded_ms}", "kind": "event", "site": site, "device": device,
        "event": batch.event_id(*row.kafka), "event_number": row.number, "received": row.received_ms,
        "timestamp": _as_it_came(row.timestamp), "at": row.at_ms,
        "values": {field: _exact(value, field) for field, value in row.values.items()},
        "expires_at": expires_at(row.received_ms),
    }
    if row.extra:
        item["extra"] = numbers.dumps(row.extra)
    return item


def rows_of(item: Item) -> list[batch.Row]:
    """The rows (batch.Row) of a readings or an event item, in receive order."""
    if item["kind"] == "readings":
        return batch.unpack(item["series"])
    return [batch.Row(item["event_number"], item["received"], item["timestamp"], item["at"], None, None, item["values"],
                      numbers.loads(item.get("extra", "{}")), None, None)]


def alert_item(site: str, device: str, message_id: str, anomaly: Any) -> Item:
    """One anomaly (alerts.Classified); its identity is (site, device, receive number)."""
    received_ms, number = int(anomaly.received_ms), int(anomaly.number)
    pk = device_key(site, topics.check_device(device))
    item = {
        "pk": pk, "sk": f"a#{number:017d}", "site": site, "device": device, "number": number,
        "timestamp": _as_it_came(anomaly.timestamp), "at": anomaly.at_ms, "received": received_ms,
        "field": anomaly.field, "message": message_id, "expires_at": expires_at(received_ms),
        "day": day_text(received_ms), "recent": f"{received_ms:013d}#{pk}#{number:017d}",
    }
    measured = {"value": anomaly.value, "sensor2": anomaly.sensor2, "score": anomaly.score}
    return item | {key: _exact(value, key) for key, value in measured.items() if value is not None}


# --- reading and writing

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
    now_s = int(time.time())
    while True:
        answer = client("dynamodb").query(ScanIndexForward=not newest_first, **request)
        for attributes in answer["Items"]:
            item = from_attributes(attributes)
            if item.get("expires_at", now_s + 1) > now_s:  # DynamoDB deletes days late
                yield item
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def put_all(setting: str, items: Iterable[Item], time_is_left: Callable[[], bool] = lambda: True) -> None:
    """Put items unconditionally, in chunks; one key twice (refused by DynamoDB) is put once, as it came last.

    Raises NotStored when DynamoDB keeps leaving some unprocessed, or when no time is left for a chunk (a full batch of
    events takes hundreds); and whatever the client raises.
    """
    distinct = list({(item["pk"], item["sk"]): item for item in items}.values())
    for start in range(0, len(distinct), PUT_CHUNK):
        _check_time(time_is_left)
        waiting = [{"PutRequest": {"Item": to_attributes(item)}} for item in distinct[start:start + PUT_CHUNK]]
        _write({name(setting): waiting})


def _check_time(time_is_left: Callable[[], bool]) -> None:
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


def note_device(kind: str, site: str, device: str) -> None:
    """Enter a device among the devices (kind: "readings" or "events"), once per container."""
    if (kind, site, device) not in _known_devices:
        put_all("ROLLUPS_TABLE", [{"pk": "devices", "sk": f"{kind}#{device_key(site, device)}", "kind": kind,
                                   "site": site, "device": device}])
        _known_devices.add((kind, site, device))


# --- from a queue to a table

def deliver(event: Item, context: Any, opened: Callable[[str], Message],
            then: Callable[[Message, str], None] = lambda message, record_id: None) -> Item:
    """Store what each SQS record carries, then send the receipts; the answer names the records that must come again.

    opened: makes a Message of a record's body, or raises; then: stores the rest of it, before the receipt. One bad
    record does not stop the others; those for which a slow table leaves no time come again, so that the others'
    receipts go out before Lambda ends the function.
    """
    def time_is_left() -> bool:
        return context is None or context.get_remaining_time_in_millis() >= SPARE_MS

    stored: dict[str, list[tuple[str, str]]] = {}
    failed = []
    for record in event["Records"]:
        try:
            _check_time(time_is_left)
            message = opened(record["body"])
            put_all(message.table, message.items, time_is_left)
            then(message, record["messageId"])
        except Exception as error:  # whatever it was: the record is named, and in the end a dead letter
            log.error("not stored: %s", error, exc_info=True, extra={
                "message_id": record["messageId"], "batch": _id_in(record["body"])})
            failed.append(record["messageId"])
        else:
            log.debug("stored", extra={"batch": message.id, "site": message.thing, "items": len(message.items)})
            stored.setdefault(message.thing, []).append((message.id, record["messageId"]))
    for thing, pairs in stored.items():
        log.info("stored", extra={"site": thing, "batches": [batch_id for batch_id, _ in pairs]})
    if os.environ.get("RECEIPTS", "on") != "off":
        for site, pairs in stored.items():
            failed += _send_receipts(site, pairs)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _send_receipts(site: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Tell the site's bridge which ids are stored; returns the SQS ids of the records whose receipt did not go out."""
    failed = []
    for start in range(0, len(pairs), RECEIPT_IDS):
        chunk = pairs[start:start + RECEIPT_IDS]
        ids = {batch_id for batch_id, _ in chunk}
        try:
            client("iot-data").publish(topic=topics.receipts(site), qos=1, payload=numbers.dumps(routes.receipt(ids)))
        except Exception as error:  # stored, but the bridge does not know: the record must come again
            log.error("receipt not sent: %s", error, exc_info=True, extra={"site": site, "batches": sorted(ids)})
            failed += [message_id for _, message_id in chunk]
        else:
            log.info("receipted", extra={"site": site, "batches": sorted(ids)})
    return failed


def check_origin(site: Any, message_id: Any) -> None:
    """Raise BadPayload unless the rule named the site and the id is one that the bridge makes (it names attributes)."""
    if not isinstance(site, str) or not site:
        raise BadPayload("missing site", f"got {site!r:.60}, expected the client id, which the IoT rule adds as `site`")
    if not isinstance(message_id, str) or not _BATCH_ID.match(message_id):
        raise BadPayload("bad id", f"got {message_id!r:.60}, expected 24 hex digits")


def _id_in(body: str) -> str | None:
    """The id of a message that could not be opened, for the log."""
    match = re.search(r'"id"\s*:\s*"([0-9a-f]{24})"', body)
    return match.group(1) if match else None
