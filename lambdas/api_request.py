"""From an HTTP request (API Gateway's payload format 2.0) to what the answers of lambdas/api*.py read out of it: path,
query and body checked, lists cut into pages."""
import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from contract import numbers, payloads, topics
from contract.errors import BadPayload
from lambdas import table, table_devices

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # Lambda refuses an answer over 6 MB
MAX_LEFT_OUT = 20_000  # rows outside the range of time that one request looks at; `next` goes on from there
MAX_SITE_LENGTH = 128
MAX_CURSOR_LENGTH = 1024


class Problem(Exception):
    """An answer other than success: status, what is wrong and what to do, further headers."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Request(NamedTuple):
    """An HTTP request as far as the answers need it: path parameters, query, headers (lower case), body, claims.

    claims: those of the bearer token, as API Gateway hands them on after checking it; empty on an open route.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    claims: Mapping[str, str]


Answer = tuple[int, Any]  # status, what to answer as JSON
Cursor = tuple[str, int]  # sort key of an item, index of a row in it


def request_of(event: Mapping[str, Any]) -> Request:
    """The request of an event. Raises Problem for a body that is no text."""
    body = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode("utf-8")
    except (binascii.Error, UnicodeEncodeError):
        raise Problem(400, "The body cannot be decoded; send UTF-8 JSON.") from None
    headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
    claims = event["requestContext"].get("authorizer", {}).get("jwt", {}).get("claims", {})
    return Request(event.get("pathParameters") or {}, event.get("queryStringParameters") or {}, headers, raw, claims)


# --- parameters

def limit_of(request: Request) -> int:
    """How many objects are asked for: ?limit, 1 to 1000."""
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise Problem(400, f"limit is {text[:20]!r}; expected a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def moment_of(request: Request, parameter: str, default_ms: int) -> int:
    """A query parameter as UTC milliseconds: epoch seconds or ISO 8601."""
    text = request.query.get(parameter)
    if text is None:
        return default_ms
    try:
        return payloads.at_ms(Decimal(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else text)
    except BadPayload:
        raise Problem(400, f"{parameter} is {text[:40]!r}; expected epoch seconds or ISO 8601, such as "
                           "2026-11-22T07:24:00Z (a '+' is written %2B).") from None


def day_of(request: Request) -> str:
    """The UTC day of ?day, by default today's."""
    day = request.query.get("day", table.day_text(table.now_ms()))
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
        try:
            payloads.at_ms(day + "T00:00Z")
            return day
        except BadPayload:  # 2026-02-30
            raise Problem(400, f"day is {day!r}; there is no such day since 1970.") from None
    raise Problem(400, f"day is {day[:20]!r}; expected a UTC day such as 2026-11-22.")


def device_of(request: Request) -> tuple[str, str]:
    """(site, device) of the path. Raises Problem or BadPayload for names that no site or device can have."""
    return site_of(request), topics.check_device(request.path.get("device", ""))


def site_of(request: Request) -> str:
    """The site of the path. Raises Problem for a name that no site can have."""
    site = request.path.get("site", "")
    if not site or len(site) > MAX_SITE_LENGTH or "#" in site or not site.isprintable():
        raise Problem(400, "The path names no site; GET /devices lists sites and devices.")
    return site


def cursor_of(request: Request, pattern: str) -> Cursor | None:
    """(sort key, index) after which the page begins. Raises Problem unless one of our answers gave it out."""
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        key, index = json.loads(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
        ours = bool(re.fullmatch(pattern, key)) and type(index) is int and index >= 0
    except (ValueError, TypeError, RecursionError):
        ours = False
    if not ours or len(text) > MAX_CURSOR_LENGTH:
        raise Problem(400, "This cursor is none of ours; take it from `next` of the page before, or leave it out.")
    return key, index


# --- pages

def page(found: Iterable[tuple[Cursor, Any]], limit: int) -> tuple[list[Any], str | None]:
    """(objects, the cursor to go on with): up to `limit` objects and 4 MB.

    found: each object and its cursor; None stands for one that was looked at but is outside the range asked for.
    """
    objects: list[Any] = []
    size_bytes, left_out, last = 0, 0, None
    for cursor, element in found:
        size_bytes += 0 if element is None else len(numbers.dumps(element))
        if len(objects) == limit or left_out == MAX_LEFT_OUT or (objects and size_bytes > MAX_ANSWER_BYTES):
            return objects, base64.urlsafe_b64encode(json.dumps(last).encode()).decode("ascii")
        last = cursor
        if element is None:
            left_out += 1
        else:
            objects.append(element)
    return objects, None


def check_known(site: str, device: str) -> None:
    """404 for a device that was never heard of: asked only when there is nothing to answer."""
    if not table_devices.is_known(site, device):
        raise Problem(404, f"No device {device!r} at site {site!r}; GET /devices lists sites and devices.")
