"""POST /data: one event, checked and stored as those from Kafka are; it goes to the archive in a batch as the IoT rule
writes them, and from that very batch to the readings table, so that a rebuild makes the same item.

With an Idempotency-Key the first request claims the key together with its receive number; whoever repeats it, also
after a crash half-way, writes the same bytes again. Without one, a request that failed may have been stored.
"""
import hashlib
import os
import re
import secrets
import time
from typing import Any

from contract import batch, numbers, payloads
from contract.errors import BadPayload
from lambdas import table, table_devices, table_items
from lambdas.api_data import SITE, TOPIC, shown
from lambdas.api_request import Answer, Problem, Request

CLAIM_S = 7 * table.DAY_S  # a key may be used anew after this
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")
_JSON = re.compile(r"application/([\w.-]+\+)?json\s*(;|\Z)", re.IGNORECASE)


def post_data(request: Request) -> Answer:
    """Store one event; without `timestamp` it gets the server's; with an Idempotency-Key a repeat is the same event."""
    if not _JSON.match(request.headers.get("content-type", "application/json")):
        raise Problem(415, "Send the event as JSON, with the header Content-Type: application/json.")
    number = time.time_ns() // 1000  # the receive number: microseconds since 1970
    event = _read(request.body, number)
    tail = secrets.randbits(48)  # two requests of the same microsecond are two events
    key = request.headers.get("idempotency-key")
    if key is not None:
        name = _claim_name(request, key)
        number, tail = _claim(name, request.body, number), int(name[:12], 16)
        event = _read(request.body, number)
    item = _store(event, (TOPIC, 0, number, tail))
    return 201, shown(item)


def _read(raw: bytes, number: int) -> payloads.Reading:
    """The event in a body; one without `timestamp` gets that of its receive number. Raises BadPayload."""
    message = numbers.loads(raw) if len(raw) <= payloads.MAX_MESSAGE_BYTES else None
    if isinstance(message, dict) and "timestamp" not in message:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number // 10 ** 6))
        stamp = f"{seconds}.{number // 1000 % 1000:03d}Z"
        raw = numbers.dumps({**message, "timestamp": stamp}).encode("utf-8")
    event = payloads.read(raw, required="persons_detected")
    if event.device_id is None:
        raise BadPayload("missing device_id", "expected the name of the device that detected the persons")
    return event


def _store(event: payloads.Reading, identity: tuple[str, int, int, int]) -> table.Item:
    """Archive, then the tables: what is in a table can be made again. Repeated, it changes nothing."""
    number = identity[2]
    row = batch.Row(number, number // 1000, event.timestamp, event.at_ms, None, None, event.values, event.extra, None,
                    identity)
    _, sealed = batch.seal_series("events", SITE, [batch.pack(event.device_id, [row])])
    message = {**numbers.loads(sealed), "site": SITE}
    table.client("firehose").put_record(DeliveryStreamName=_archive(),
                                        Record={"Data": numbers.dumps(message).encode("utf-8") + b"\n"})
    [series] = batch.read(message).series
    [archived] = batch.unpack(series)
    item = table_items.event_item(SITE, series["device"], archived)
    table.put_all("READINGS_TABLE", [item])
    table_devices.note(table_devices.entry_of(item))
    return item


def _archive() -> str:
    if not os.environ.get("EVENTS_ARCHIVE"):
        raise KeyError("EVENTS_ARCHIVE is not set; expected the archive stream of the route events, from infra/")
    return os.environ["EVENTS_ARCHIVE"]


# --- Idempotency-Key

def _claim_name(request: Request, key: str) -> str:
    """The key as it is kept: as a hash, with the user whose key it is."""
    if not _KEY.fullmatch(key):
        raise Problem(400, f"Idempotency-Key has {len(key)} characters; expected 1 to 255, printable ASCII, such as a "
                           "UUID.")
    return hashlib.sha256(numbers.dumps([request.claims["sub"], key]).encode("utf-8")).hexdigest()


def _claim(name: str, body: bytes, number: int) -> int:
    """The receive number of the event that this key stands for: `number`, or that of the request which had it first.

    Raises Problem when that one had another body.
    """
    message: dict[str, Any] = numbers.loads(body)
    digest = hashlib.sha256(numbers.dumps(sorted(message.items())).encode("utf-8")).hexdigest()
    now_s = table.now_ms() // 1000
    claim = {"pk": f"key#{name}", "sk": "key", "number": number, "body": digest, "expires_at": now_s + CLAIM_S}
    try:
        table.write_if(
            "attribute_not_exists(pk) OR expires_at < :now", "put_item", "ROLLUPS_TABLE",
            Item=table.to_attributes(claim), ExpressionAttributeValues=table.to_attributes({":now": now_s}),
            ReturnValuesOnConditionCheckFailure="ALL_OLD")
        return number
    except table.ConditionFailed as claimed:
        first = claimed.item
    if first["body"] != digest:
        raise Problem(422, "This Idempotency-Key was used for another event in the last 7 days; take a new key.")
    return int(first["number"])
