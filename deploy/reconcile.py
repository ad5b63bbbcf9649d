"""Counts what the publishers made against what the cloud holds: tables, roll-ups and archive objects, by boto3.

Nothing here asks the bridge. Published: the records that the publishers wrote. Stored: DynamoDB. Archived: S3.
"""
import gzip
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from contract import batch, numbers


@dataclass
class Counts:
    """One line of the report; all of them numbers of readings (or of events)."""

    published: int
    stored: int
    in_rollups: int
    archived: int
    lost: int
    duplicated: int
    misordered: int

    @property
    def whole(self) -> bool:
        """True when nothing was lost, doubled or turned round, anywhere."""
        return (self.stored == self.in_rollups == self.archived == self.published
                and not (self.lost or self.duplicated or self.misordered))


def recorded(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The records that publishers wrote with --record, numbers exact."""
    return [numbers.loads(line) for path in paths if path.exists() for line in path.read_bytes().splitlines()]


def scan(table: Any) -> list[dict[str, Any]]:
    """Every item of a DynamoDB table."""
    items: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    while True:
        page = table.scan(ConsistentRead=True, **more)
        items += page["Items"]
        if "LastEvaluatedKey" not in page:
            return items
        more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def stored_rows(items: list[dict[str, Any]]) -> Iterator[tuple[str, str, batch.Row]]:
    """(device, batch id, row) of each stored reading."""
    for item in items:
        if item.get("kind") == "readings":
            for row in batch.unpack(item["series"]):
                yield item["device"], item["batch"], row


def inversions(sequence: list[Any]) -> int:
    """How many neighbours stand in the wrong order."""
    return sum(1 for a, b in itertools.pairwise(sequence) if b < a)


def count_rollups(items: list[dict[str, Any]], field: str) -> int:
    """Readings of one field in all minute items."""
    return sum(int(entry[field][0]) for item in items if str(item["sk"]).startswith("m#")
               for entry in item.values() if isinstance(entry, dict) and field in entry)


def archived_lines(s3: Any, bucket: str, prefix: str) -> Iterator[bytes]:
    """Every line of the archive's objects under a prefix: a message as the rule wrote it, as often as it is there."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
            yield from gzip.decompress(body).splitlines()


def count_readings(published: list[dict[str, Any]], items: list[dict[str, Any]], rollups: list[dict[str, Any]],
                   archive: Iterable[batch.Batch]) -> Counts:
    """Reconcile readings by (device, spool's seq) and by value: a reading whose value differs is lost."""
    made = Counter((r["device"], r["seq"], _values(r["values"])) for r in published)
    in_order: dict[str, list[tuple[int, int]]] = defaultdict(list)
    held: Counter[tuple[str, int, Any]] = Counter()
    for device, _, row in stored_rows(items):
        held[device, row.seq, _values(row.values)] += 1
        in_order[device].append((row.number, row.seq))
    in_archive = {(b.id, s["device"], i) for b in archive for s in b.series for i in range(s["n"])}
    return Counts(
        published=made.total(), stored=held.total(), in_rollups=count_rollups(rollups, "sensor2"),
        archived=len(in_archive), lost=(made - held).total(), duplicated=(held - made).total(),
        misordered=sum(inversions([seq for _, seq in sorted(rows)]) for rows in in_order.values()))


def _values(values: dict[str, Any]) -> tuple[tuple[str, Decimal], ...]:
    return tuple(sorted((name, Decimal(value)) for name, value in values.items()))


def count_events(published: list[dict[str, Any]], items: list[dict[str, Any]], rollups: list[dict[str, Any]],
                 archive: Iterable[batch.Batch]) -> Counts:
    """Reconcile camera events by (device, timestamp, persons), and their order by receive number."""
    made = Counter((e["device_id"], _time(e["timestamp"]), Decimal(e["persons_detected"])) for e in published)
    order = {key: index for index, key in enumerate(made)}
    events = [item for item in items if item.get("kind") == "event"]
    keys = [(int(item["event_number"]),
             (item["device"], _time(item["timestamp"]), Decimal(item["values"]["persons_detected"])))
            for item in events]
    held = Counter(key for _, key in keys)
    by_device: dict[str, list[int]] = defaultdict(list)
    for _, key in sorted(keys):
        by_device[key[0]].append(order.get(key, -1))
    in_archive = {row.kafka for b in archive for s in b.series for row in batch.unpack(s)}
    return Counts(
        published=made.total(), stored=held.total(), in_rollups=count_rollups(rollups, "persons_detected"),
        archived=len(in_archive), lost=(made - held).total(), duplicated=(held - made).total(),
        misordered=sum(inversions(places) for places in by_device.values()))


def _time(timestamp: Any) -> str:
    return timestamp if isinstance(timestamp, str) else str(numbers.canonical(Decimal(timestamp)))


@dataclass
class AlertCounts:
    """raised: readings marked anomalous in the stored batches; stored: distinct anomalies in the alert table."""

    raised: int
    stored: int


def count_alerts(items: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> tuple[AlertCounts, bool]:
    """(counts, whether both name the same anomalies)."""
    raised = {(device, row.number) for device, _, row in stored_rows(items) if row.mark == "anomaly"}
    held = {(alert["device"], int(alert["number"])) for alert in alerts}
    return AlertCounts(len(raised), len(held)), raised == held


@dataclass
class Everything:
    """The whole reconciliation."""

    readings: Counts
    events: Counts
    alerts: AlertCounts
    alerts_agree: bool

    @property
    def whole(self) -> bool:
        """True when all that was made is in the cloud, once, in order, and every anomaly has its alert."""
        return self.readings.whole and self.events.whole and self.alerts_agree


def everything(pipeline: Any) -> Everything:
    """Reconcile a drained pipeline (deploy.pipeline.Pipeline): its records against its cloud."""
    items, rollups, alerts = (scan(pipeline.table(name)) for name in ("readings", "rollups", "alerts"))
    s3, bucket = pipeline.client("s3"), pipeline.archive_bucket()

    def archive(kind: str) -> Iterator[batch.Batch]:
        return (batch.read(line) for line in archived_lines(s3, bucket, f"archive/{kind}/"))

    counts, agree = count_alerts(items, alerts)
    return Everything(
        count_readings(recorded(pipeline.records("pi")), items, rollups, archive("readings")),
        count_events(recorded(pipeline.records("camera")), items, rollups, archive("events")), counts, agree)


def report_json(report: dict[str, Any]) -> str:
    """The report as a person and a script both can read it."""
    return json.dumps(report, indent=2) + "\n"
