"""The hops of `make verify`: each looks at one place in the cloud and compares it with what was published.

A hop returns "" once all is as it must be, else what is not so yet; verify.py asks again until its time is over.
"""
import gzip
import json
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from boto3.dynamodb.conditions import Key

from contract import alerts, batch, numbers, rollups
from deploy.reconcile import exact, minute_entries
from deploy.target import Target
from deploy.verify_messages import EVENTS, READINGS, Message, Run

Facts = list[tuple[Any, ...]]


class Hops:
    """Looks at a target's tables, roll-ups, API, ledger and archive for one run."""

    def __init__(self, target: Target, run: Run, messages: list[Message]) -> None:
        self._target, self._run, self._messages = target, run, messages

    def key(self, device: str) -> str:
        """The partition of a device."""
        return f"{self._run.site}#{device}"

    def items(self, table: str, pk: str) -> list[dict[str, Any]]:
        """Every item of a partition."""
        found: list[dict[str, Any]] = []
        request: dict[str, Any] = {"KeyConditionExpression": Key("pk").eq(pk), "ConsistentRead": True}
        while True:
            page = self._target.table(table).query(**request)
            found += page["Items"]
            if "LastEvaluatedKey" not in page:
                return found
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def tables(self) -> str:
        """DynamoDB: every reading in its batch, every event, the anomaly."""
        run = self._run
        held = self.items("readings", self.key(run.sensor))
        readings = [row for item in held for row in batch.unpack(item["series"])]
        events = self.items("readings", self.key(run.camera))
        anomalies = self.items("alerts", self.key(run.sensor))
        return _first(
            _differ("readings", _facts(run.readings()), _facts(readings)),
            _differ("events", [(row.number, row.timestamp, row.values["persons_detected"]) for row in run.events()],
                    [(int(e["event_number"]), e["timestamp"], e["values"]["persons_detected"]) for e in events]),
            _differ("alerts", [(run.anomaly().number, run.anomaly().value, run.alert().id)],
                    [(int(one["number"]), one["value"], one["message"]) for one in anomalies]))

    def minutes(self) -> str:
        """DynamoDB: the minute items add up to what was published."""
        held: dict[tuple[str, str], rollups.Total] = {}
        for device in (self._run.sensor, self._run.camera):
            for (_, _, field), total in minute_entries(self.items("rollups", self.key(device))):
                key = (device, field)
                held[key] = rollups.merge(held[key], total) if key in held else total
        return _differ("roll-ups", list(self._run.totals().items()), list(held.items()))

    def api(self) -> str:
        """HTTP: the same readings, events and anomaly as a dashboard gets them."""
        run = self._run
        readings = self._get(f"/sites/{_quoted(run.site)}/devices/{_quoted(run.sensor)}/readings?limit={READINGS}")
        events = self._get(f"/data?device_id={_quoted(run.camera)}&limit={EVENTS}")
        newest = [one for one in self._get(f"/alerts?limit=1000&day={_day(run.anomaly().received_ms)}")["alerts"]
                  if one["device"] == run.sensor]
        return _first(
            _differ("GET …/readings", _facts(run.readings()), [
                (one["number"], Decimal(one["timestamp"]), one.get("mark"), exact(one["values"]))
                for one in readings["readings"]]),
            _differ("GET /data", [(row.timestamp, row.values["persons_detected"]) for row in run.events()],
                    [(one["timestamp"], one["persons_detected"]) for one in events]),
            _differ("GET /alerts", [(run.anomaly().number, run.anomaly().value)],
                    [(one["number"], one["value"]) for one in newest]))

    def _get(self, path: str) -> Any:
        return self._target.get(path)

    def ledger(self) -> str:
        """HTTP: GET /status gives the counts that were published."""
        wanted = self._run.ledger()
        found = [site for site in self._get("/status?limit=1000")["sites"] if site["site"] == self._run.thing]
        if not found or found[0].get("at") != wanted["at"]:
            return f"GET /status: the ledger of {self._run.thing} is " + ("another one" if found else "not there")
        told = [(one["device"], one["committed"], one["delivered"]) for one in found[0]["devices"]]
        return _differ("GET /status", [(device, counts["committed"], counts["delivered"])
                                       for device, counts in wanted["devices"].items()], told)

    def archive(self) -> str:
        """S3: each message is a line of the archive."""
        self._target.flush()
        wanted = Counter((message.route, message.id) for message in self._messages if message.id)
        held = {(route, _id(line)) for route in ("readings", "events", "alerts")
                for _, lines in self.objects(route) for line in lines}
        missing = [key for key in wanted if key not in held]
        return f"{len(missing)} of {len(wanted)} messages are not in the archive" if missing else ""

    def objects(self, route: str) -> Iterable[tuple[str, list[bytes]]]:
        """(key, lines) of the route's archive objects since yesterday that hold something of this run."""
        s3, bucket = self._target.client("s3"), self._target.parameter("archive-bucket")
        for day in sorted({_day(self._run.now_ms), _day(self._run.now_ms + 86_400_000)}):
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"archive/{route}/date={day}/")
            for found in (one for page in pages for one in page.get("Contents", [])):
                if found["LastModified"].timestamp() * 1000 < self._run.now_ms - 60_000:
                    continue
                lines = gzip.decompress(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()).splitlines()
                if any(self.is_ours(line) for line in lines):
                    yield found["Key"], lines

    def is_ours(self, line: bytes) -> bool:
        """Whether an archived line is of this run."""
        return self._run.outbox.encode() in line

    def is_nobodys(self, line: bytes) -> bool:
        """Whether an archived line may go with this run's: it is of it, or a batch without readings (a proof)."""
        return self.is_ours(line) or _is_empty_batch(line)


def received_ids(payload: bytes) -> list[str]:
    """The ids that a receipt names; none for what is no receipt."""
    try:
        return list(json.loads(payload)["ids"])
    except (ValueError, KeyError, TypeError):
        return []


def _is_empty_batch(line: bytes) -> bool:
    try:
        return batch.read(line).series == []
    except ValueError:
        return False


def _id(line: bytes) -> str:
    try:
        message = numbers.loads(line)
        return str(alerts.read(message).id if "device_id" in message else batch.read(message).id)
    except (ValueError, KeyError, TypeError):
        return ""


def _facts(rows: Iterable[batch.Row]) -> Facts:
    return [(row.number, Decimal(row.timestamp), row.mark, exact(row.values)) for row in rows]


def _day(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment_ms // 1000))


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _differ(what: str, wanted: Facts, held: Facts) -> str:
    """"" when both hold the same, however often and in whatever order the cloud gave it; else how they differ."""
    expected, found = Counter(wanted), Counter(held)
    if expected == found:
        return ""
    missing, further = expected - found, found - expected
    text = f"{what}: {len(wanted)} published, {len(held)} there, {missing.total()} missing, {further.total()} too many"
    if further:
        text += f"; for example {next(iter(further))!r:.200}" + (
            f" where {next(iter(missing))!r:.200} is expected" if missing else "")
    return text


def _first(*faults: str) -> str:
    return next((fault for fault in faults if fault), "")
