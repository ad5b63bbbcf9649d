"""The archive as a rebuild reads it: objects in the order of their arrival, and the messages in them; from S3, as
Firehose wrote them (infra/rules.py), to rebuild.py."""
import gzip
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from contract import routes

# An object is named after its first record; its last may have come as much later as Firehose may wait.
LONGEST_BUFFER_MS = 900_000
HOUR_MS = 3_600_000
_DAY = re.compile(r"date=(\d{4}-\d\d-\d\d)")
_NAME = re.compile(r"archive/(?P<route>[a-z]+)/date=[0-9-]{10}/.*-(?P<at>\d{4}(-\d\d){5})-[^/]+\.jsonl\.gz")


class Archived(NamedTuple):
    """One object; arrived_ms: when its first message came."""

    arrived_ms: int
    key: str
    route: str


class Unreadable(Exception):
    """An object or a line of it that no message can be read from: what it is, and where."""


def archived(key: str) -> Archived | None:
    """What an object's key says; None for one that Firehose did not write for a route of ours."""
    found = _NAME.fullmatch(key)
    if not found or found["route"] not in {route.name for route in routes.ROUTES}:
        return None
    at = datetime.strptime(found["at"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    return Archived(int(at.timestamp()) * 1000, key, found["route"])


def by_hour(s3: Any, bucket: str, from_ms: int, to_ms: int) -> Iterator[tuple[int, list[Archived], list[str]]]:
    """(start of an hour in ms, its objects in the order of their arrival, keys that say nothing) for every hour that
    has any, of what may hold messages that arrived from <= moment < to."""
    earliest_ms = from_ms - LONGEST_BUFFER_MS
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).date().isoformat() for ms in (earliest_ms, to_ms - 1))
    for day in sorted({day for route in routes.ROUTES for day in _days(s3, bucket, route.name)}):
        if not first <= day <= last:
            continue
        keys = [key for route in routes.ROUTES for key in _keys(s3, bucket, f"archive/{route.name}/date={day}/")]
        found = [(archived(key), key) for key in keys]
        objects = sorted(one for one, _ in found if one is not None and earliest_ms < one.arrived_ms < to_ms)
        strange = [key for one, key in found if one is None]
        if strange:
            midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
            yield int(midnight.timestamp()) * 1000, [], strange
        for hour_ms, of_hour in groupby(objects, key=lambda one: one.arrived_ms - one.arrived_ms % HOUR_MS):
            yield hour_ms, list(of_hour), []


def _days(s3: Any, bucket: str, route: str) -> Iterator[str]:
    """The days of which a route has objects: asked for first, as most days of a long range may have none."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"archive/{route}/", Delimiter="/"):
        found = (_DAY.fullmatch(prefix["Prefix"].split("/")[-2]) for prefix in page.get("CommonPrefixes", ()))
        yield from (day[1] for day in found if day)


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (found["Key"] for found in page.get("Contents", ()))


def messages(s3: Any, bucket: str, key: str) -> Iterator[tuple[int, str]]:
    """(line number, message) of an object, read as it comes. Raises Unreadable where its compression breaks off."""
    number = 0
    try:
        with gzip.GzipFile(fileobj=s3.get_object(Bucket=bucket, Key=key)["Body"]) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.decode("utf-8", "replace")  # what is no UTF-8 is refused as a message
    except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
        raise Unreadable(f"s3://{bucket}/{key} after line {number}: {fault}; is it what Firehose wrote?") from None
