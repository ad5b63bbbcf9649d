"""From the HTTP API (payload format 2.0) to answers in JSON, read from the three tables; POST /data stores an event.

Every number is answered exactly as it was sent. Errors are application/problem+json and say what to do. A list that
may go on has `next`: the cursor to ask for the rest with, or null.
"""
import base64
import binascii
import hashlib
import heapq
import json
import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from decimal import Context, Decimal
from http import HTTPStatus
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from contract import batch, numbers, payloads, rollups, routes, topics
from contract.errors import BadPayload
from lambdas import table

SITE = "api"  # what POST /data stores belongs to this site
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # Lambda refuses an answer over 6 MB
MAX_LEFT_OUT = 20_000  # rows outside the range of time that one request looks at; `next` goes on from there
MAX_KEY_LENGTH = 255
LEDGER = ("committed", "delivered", "waiting", "dropped", "dead_lettered")  # per device, 0 when the bridge names none
_ROUND = Context(prec=34)
_BUSY = {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "InternalServerError"}
log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer other than success: status, what is wrong and what to do, further headers."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Request(NamedTuple):
    """An HTTP request as far as the answers need it: path parameters, query, headers (lower case), body."""

    path: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, Any]  # status, what to answer as JSON
Cursor = tuple[str, int]  # sort key of an item, index of a row in it


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one HTTP request."""
    try:
        status, answer = ANSWERS[_route(event)](_request(event))
        return _response(status, numbers.dumps(answer), "application/json", {})
    except Problem as problem:
        return _problem(problem.status, problem.detail, problem.headers)
    except BadPayload as error:
        return _problem(413 if error.reason == "message too large" else 400, str(error), {})
    except ClientError as error:
        log.exception("DynamoDB refused", extra={"route": event.get("routeKey")})
        if error.response["Error"]["Code"] in _BUSY:
            return _problem(503, "The tables are busy; try again in a second.", {"retry-after": "1"})
    except Exception:
        log.exception("failed", extra={"route": event.get("routeKey")})
    request_id = getattr(context, "aws_request_id", "unknown")
    return _problem(500, f"This is our fault, not yours; the log of the function has more under {request_id}.", {})


def _response(status: int, text: str, content_type: str, headers: dict[str, str]) -> dict[str, Any]:
    return {"statusCode": status, "body": text,
            "headers": {"content-type": content_type, "cache-control": "no-store", **headers}}


def _problem(status: int, detail: str, headers: dict[str, str]) -> dict[str, Any]:
    text = json.dumps({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail})
    return _response(status, text, "application/problem+json", headers)


# --- the request

def _route(event: dict[str, Any]) -> tuple[str, str]:
    """(method, path) of contract.routes.API; 405 or 404 where a catch-all route lets anything through."""
    method, _, path = event.get("routeKey", "").partition(" ")
    if (method, path) in ANSWERS:
        return method, path
    asked, asked_path = event["requestContext"]["http"]["method"], event.get("rawPath", "")
    allowed = sorted(m for m, p in routes.API if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), asked_path))
    if allowed:
        raise Problem(405, f"{asked} is not possible here; use {' or '.join(allowed)}.", allow=", ".join(allowed))
    raise Problem(404, "There is nothing at this path. Paths: " + ", ".join(sorted({p for _, p in routes.API})) + ".")


def _request(event: dict[str, Any]) -> Request:
    body = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode("utf-8")
    except (binascii.Error, UnicodeEncodeError):
        raise Problem(400, "The body cannot be decoded; send UTF-8 JSON.") from None
    headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
    return Request(event.get("pathParameters") or {}, event.get("queryStringParameters") or {}, headers, raw)


def _limit(request: Request) -> int:
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise Problem(400, f"limit is {text[:20]!r}; expected a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def _moment(request: Request, parameter: str, default_ms: int) -> int:
    """A query parameter as UTC milliseconds: epoch seconds or ISO 8601."""
    text = request.query.get(parameter)
    if text is None:
        return default_ms
    try:
        return payloads.at_ms(Decimal(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else text)
    except BadPayload:
        raise Problem(400, f"{parameter} is {text[:40]!r}; expected epoch seconds or ISO 8601, such as "
                           "2026-11-22T07:24:00Z (a '+' is written %2B).") from None


def _device(request: Request) -> tuple[str, str]:
    site, device = request.path.get("site", ""), request.path.get("device", "")
    if not site or len(site) > 128:
        raise Problem(400, "The path names no site; GET /devices lists sites and devices.")
    return site, topics.check_device(device)


def _cursor(request: Request, pattern: str) -> Cursor | None:
    """(sort key, index) after which the page begins. Raises Problem unless one of our answers gave it out."""
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        key, index = json.loads(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
        if re.fullmatch(pattern, key) and type(index) is int and index >= 0:
            return key, index
    except (ValueError, TypeError, RecursionError):
        pass  # as wrong as a well-formed one that is not ours
    raise Problem(400, "This cursor is none of ours; take it from `next` of the page before, or leave it out.")


# --- the answers

def _page(found: Iterable[tuple[Cursor, Any]], limit: int) -> tuple[list[Any], str | None]:
    """(objects, the cursor to go on with): up to `limit` objects and 4 MB.

    found: each object and its cursor; None stands for one that was looked at but is outside the range asked for.
    """
    page: list[Any] = []
    size_bytes, left_out, last = 0, 0, None
    for cursor, element in found:
        size_bytes += 0 if element is None else len(numbers.dumps(element))
        if len(page) == limit or left_out == MAX_LEFT_OUT or (page and size_bytes > MAX_ANSWER_BYTES):
            return page, base64.urlsafe_b64encode(json.dumps(last).encode()).decode("ascii")
        last = cursor
        if element is None:
            left_out += 1
        else:
            page.append(element)
    return page, None


def _check_known(site: str, device: str) -> None:
    """404 for a device that was never heard of: asked only when there is nothing to answer."""
    keys = [f"{kind}#{table.device_key(site, device)}" for kind in ("readings", "events")]
    if not any(list(table.query("ROLLUPS_TABLE", "devices", key, key)) for key in keys):
        raise Problem(404, f"No device {device!r} at site {site!r}; GET /devices lists sites and devices.")


def get_readings(request: Request) -> Answer:
    """Readings of a device, latest receive number first; from <= moment < to, the moment as in the roll-ups."""
    site, device = _device(request)
    limit, after = _limit(request), _cursor(request, r"r#[0-9]{17}#[0-9a-f]{24}")
    from_ms, to_ms = _moment(request, "from", 0), _moment(request, "to", sys.maxsize)
    found = _readings(table.device_key(site, device), after, from_ms, to_ms, min(limit + 1, 25))
    page, following = _page(found, limit)
    if not page:
        _check_known(site, device)
    return 200, {"site": site, "device": device, "readings": page, "next": following}


def _readings(pk: str, after: Cursor | None, from_ms: int, to_ms: int, items: int) -> Iterator[tuple[Cursor, Any]]:
    high = after[0] if after else "r#~"
    for item in table.query("READINGS_TABLE", pk, "r#", high, newest_first=True, page=items):
        rows = table.rows_of(item)
        end = after[1] if after and item["sk"] == after[0] else len(rows)
        for index in reversed(range(min(end, len(rows)))):
            row = rows[index]
            moment_ms = row.at_ms if rollups.minute_of(row.at_ms, row.received_ms)[1] else row.received_ms
            yield (item["sk"], index), _reading(row) if from_ms <= moment_ms < to_ms else None
        if item["received"] < from_ms - rollups.AHEAD_MS - table.DAY_S * 1000:
            return  # the rest was received earlier, also where the bridge's clock was set back by up to a day


def _reading(row: batch.Row) -> dict[str, Any]:
    always = {"number": row.number, "received": row.received_ms, "timestamp": row.timestamp, "at": row.at_ms,
              "values": row.values}
    sometimes = {"mark": row.mark, "spool": row.spool, "seq": row.seq, "extra": row.extra or None}
    return always | {key: value for key, value in sometimes.items() if value is not None}


def get_rollups(request: Request) -> Answer:
    """Totals per minute and field, oldest first; from <= minute < to, by default the last hour."""
    site, device = _device(request)
    limit, after = _limit(request), _cursor(request, r"m#[0-9T:-]{16}Z")
    to_ms = _moment(request, "to", int(time.time() * 1000))
    from_ms = _moment(request, "from", to_ms - 60 * rollups.MINUTE_MS)
    if from_ms >= to_ms:
        raise Problem(400, "from is not before to; expected from <= minute < to.")
    low, high = after[0] + "~" if after else table.minute_key(from_ms), table.minute_key(to_ms - 1)
    items = table.query("ROLLUPS_TABLE", table.device_key(site, device), low, high) if low <= high else iter(())
    page, following = _page((((item["sk"], 0), _rollup(item)) for item in items), limit)
    if not page:
        _check_known(site, device)
    return 200, {"site": site, "device": device, "rollups": page, "next": following}


def _rollup(item: dict[str, Any]) -> dict[str, Any] | None:
    fields = {field: {**total._asdict(), "mean": numbers.canonical(_ROUND.divide(total.sum, Decimal(total.n)))}
              for field, total in table.minute_totals(item).items()}
    minute = {"minute": item["sk"][2:], "untrusted": item.get("untrusted", False), "fields": fields}
    return minute if fields else None  # no entry left: its event was received again, in another minute


def get_alerts(request: Request) -> Answer:
    """Anomalies received on a UTC day (?day, by default today), latest first."""
    day, limit = request.query.get("day", table.day_text(int(time.time() * 1000))), _limit(request)
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
        raise Problem(400, f"day is {day[:20]!r}; expected a UTC day such as 2026-11-22.")
    after = _cursor(request, r"[0-9]{13}#.{1,300}#[0-9]{17}")
    items = table.query_index("ALERTS_TABLE", table.BY_DAY, ("day", "recent"), (day, after[0] if after else "~"))
    page, following = _page((((item["recent"], 0), _alert(item)) for item in items), limit)
    return 200, {"day": day, "alerts": page, "next": following}


def _alert(item: dict[str, Any]) -> dict[str, Any]:
    order = ("site", "device", "number", "received", "timestamp", "at", "field", "value", "sensor2", "score")
    return {key: item[key] for key in order if key in item}


def get_devices(request: Request) -> Answer:
    """Every device that ever sent something, and of what kinds."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in table.query("ROLLUPS_TABLE", "devices", " ", "~"):
        kinds.setdefault((item["site"], item["device"]), []).append(item["kind"])
    return 200, {"devices": [{"site": site, "device": device, "kinds": kinds[site, device]}
                             for site, device in sorted(kinds)]}


def get_status(request: Request) -> Answer:
    """The ledger of each site as its bridge last told it; gaps: readings that a device's publisher dropped itself."""
    limit, after = _limit(request), _cursor(request, r"[a-zA-Z0-9:_-]{1,128}")
    items = table.query("ROLLUPS_TABLE", "status", after[0] + "!" if after else " ", "~")
    page, following = _page((((item["sk"], 0), _status(item)) for item in items), limit)
    return 200, {"sites": page, "next": following}


def _status(item: dict[str, Any]) -> dict[str, Any]:
    """age_s: since the cloud stored it, by the cloud's clock. A status of a later version keeps its further fields."""
    told = numbers.loads(item["status"])
    devices = [{"device": device, **dict.fromkeys(LEDGER, 0), **counts, "gaps": counts.get("skipped", 0)}
               for device, counts in sorted(told.get("devices", {}).items())]
    of_site = {key: value for key, value in told.items() if key not in ("v", "thing", "devices")}
    age_s = numbers.canonical(Decimal(max(0, int(time.time() * 1000) - int(item["stored"]))) / 1000)
    return {"site": item["site"], "age_s": age_s, **of_site, "devices": devices}


def get_health(request: Request) -> Answer:
    """One read of the readings table shows that the API can do its work."""
    table.client("dynamodb").get_item(TableName=table.name("READINGS_TABLE"),
                                      Key=table.to_attributes({"pk": "health", "sk": "health"}))
    return 200, {"status": "ok", "version": os.environ.get("EDGECLOUD_VERSION", "unknown")}


# --- events: GET and POST /data

def get_data(request: Request) -> Answer:
    """Events as a plain list, newest first (each device in the order of its receive numbers), up to 4 MB."""
    limit, wanted = _limit(request), request.query.get("device_id")
    devices = table.query("ROLLUPS_TABLE", "devices", "events#", "events#~")
    keys = [table.device_key(item["site"], item["device"]) for item in devices if wanted in (None, item["device"])]
    of_devices = [table.query_index("READINGS_TABLE", table.EVENTS_BY_NUMBER, ("pk", "event_number"), (pk, 10 ** 17),
                                    page=min(limit, 100)) for pk in keys]
    newest = heapq.merge(*of_devices, key=lambda item: -item["received"])
    return 200, _page((((item["sk"], 0), _event(item)) for item in newest), limit)[0]


def _event(item: dict[str, Any]) -> dict[str, Any]:
    """The three fields of the contract first, any further ones after them."""
    row = table.rows_of(item)[0]
    first = {"device_id": item["device"], "timestamp": row.timestamp,
             "persons_detected": row.values["persons_detected"]}
    return first | dict(sorted(row.values.items())) | row.extra


def post_data(request: Request) -> Answer:
    """Store one event; without `timestamp` it gets the server's; with an Idempotency-Key a repeat is the same item."""
    media_type = request.headers.get("content-type", "application/json")
    if not re.match(r"application/([\w.-]+\+)?json\s*(;|\Z)", media_type, re.I):
        raise Problem(415, "Send the event as JSON, with the header Content-Type: application/json.")
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise Problem(400, f"Idempotency-Key has {len(key)} characters; expected 1 to {MAX_KEY_LENGTH}.")
    now_us = time.time_ns() // 1000
    now_ms = now_us // 1000
    reading, stamped = _posted(request.body, now_ms)
    if reading.device_id is None:
        raise BadPayload("missing device_id", "expected the name of the device that detected the persons")
    identity = uuid.uuid4().bytes if key is None else hashlib.sha256(key.encode("utf-8", "replace")).digest()
    kafka = ("post", 0, int.from_bytes(identity[:8], "big"), 0)
    item = table.event_item(SITE, reading.device_id, batch.Row(
        now_us, now_ms, reading.timestamp, reading.at_ms, None, None, reading.values, reading.extra, None, kafka))
    stored = _put_once(item)
    if any(stored.get(part) != item.get(part) for part in ("values", "extra", *([] if stamped else ["timestamp"]))):
        raise Problem(422, "This Idempotency-Key was used for another event of the device; take a new key.")
    table.note_device("events", SITE, reading.device_id)
    return 201, _event(stored)


def _posted(raw: bytes, now_ms: int) -> tuple[payloads.Reading, bool]:
    """(the event, whether it was stamped here). Raises BadPayload."""
    message = numbers.loads(raw) if len(raw) <= payloads.MAX_MESSAGE_BYTES else None
    stamped = isinstance(message, dict) and "timestamp" not in message
    if isinstance(message, dict) and stamped:
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms // 1000))
        raw = numbers.dumps({**message, "timestamp": f"{now}.{now_ms % 1000:03d}Z"}).encode("utf-8")
    return payloads.read(raw, required="persons_detected"), stamped


def _put_once(item: dict[str, Any]) -> dict[str, Any]:
    """Put an item unless its key is taken; returns what is stored then."""
    try:
        table.client("dynamodb").put_item(
            TableName=table.name("READINGS_TABLE"), Item=table.to_attributes(item),
            ConditionExpression="attribute_not_exists(pk)", ReturnValuesOnConditionCheckFailure="ALL_OLD")
        return item
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return table.from_attributes(error.response["Item"])


ANSWERS: dict[tuple[str, str], Callable[[Request], Answer]] = {
    ("GET", "/data"): get_data,
    ("POST", "/data"): post_data,
    ("GET", "/devices"): get_devices,
    ("GET", "/sites/{site}/devices/{device}/readings"): get_readings,
    ("GET", "/sites/{site}/devices/{device}/rollups"): get_rollups,
    ("GET", "/alerts"): get_alerts,
    ("GET", "/status"): get_status,
    ("GET", "/health"): get_health,
}
