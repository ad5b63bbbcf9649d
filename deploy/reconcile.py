"""Counts what the publishers made against what the cloud holds: tables, roll-ups and archive objects, by boto3.

Nothing here asks the bridge. Published: the records that the publishers wrote. Stored: DynamoDB. Archived: S3.
"""
import gzip
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from contract import batch, numbers, payloads, rollups


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


def reading_key(device: str, seq: int | None, timestamp: Any, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a reading this one: who, its turn, its timestamp and values, exact, however they are written."""
    return device, seq, stamp(timestamp), exact(values)


def exact(values: Mapping[str, Any]) -> tuple[tuple[str, Decimal], ...]:
    """Measurements to compare: 20.0 is 20, and nothing else is."""
    return tuple(sorted((name, Decimal(value)) for name, value in values.items()))


def stamp(timestamp: Any) -> str:
    """A timestamp to compare: a string as it is, a number however it is written."""
    return timestamp if isinstance(timestamp, str) else str(numbers.canonical(Decimal(timestamp)))


def made_readings(published: Iterable[Mapping[str, Any]]) -> Counter[Any]:
    """{reading_key: how often} of the records that publishers wrote."""
    return Counter(reading_key(r["device"], r["seq"], r["timestamp"], r["values"]) for r in published)


def held_readings(items: list[dict[str, Any]], devices: set[str]) -> tuple[Counter[Any], int]:
    """({reading_key: how often} of these devices' stored readings, neighbours of which the later was made earlier)."""
    held: Counter[Any] = Counter()
    in_order: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for device, _, row in stored_rows(items):
        if device in devices:
            held[reading_key(device, row.seq, row.timestamp, row.values)] += 1
            in_order[device].append((row.number, row.seq))
    return held, sum(inversions([seq for _, seq in sorted(rows)]) for rows in in_order.values())


Minute = tuple[str, str, str]  # device, sort key of the minute item, field


def expected_rollups(published: Iterable[tuple[str, int, Mapping[str, Decimal]]]) -> dict[Minute, rollups.Total]:
    """The totals that (device, timestamp in ms, values) must give; without anomalies, which publishers do not know."""
    found: dict[Minute, rollups.Total] = {}
    for device, at_ms, values in published:
        start_s = at_ms // rollups.MINUTE_MS * rollups.MINUTE_MS // 1000
        minute = time.strftime("m#%Y-%m-%dT%H:%MZ", time.gmtime(start_s))
        for field, value in values.items():
            one, key = rollups.Total(1, value, value, value, 0), (device, minute, field)
            found[key] = rollups.merge(found[key], one) if key in found else one
    return found


def held_rollups(items: list[dict[str, Any]]) -> dict[Minute, rollups.Total]:
    """The totals in the minute items, anomalies left out."""
    found: dict[Minute, rollups.Total] = {}
    for (device, minute, field), total in minute_entries(items):
        one, key = total._replace(anomalies=0), (device, minute, field)
        found[key] = rollups.merge(found[key], one) if key in found else one
    return found


def minute_entries(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Minute, rollups.Total]]:
    """Each entry of each minute item: a batch's total of a field. Hours and days are left out, being made of these."""
    for item in items:
        if str(item["sk"]).startswith("m#"):
            for entry in (value for value in item.values() if isinstance(value, dict)):
                for field, (n, total, low, high, anomalies) in entry.items():
                    yield (item["pk"].split("#", 1)[1], item["sk"], field), rollups.Total(
                        int(n), Decimal(total), Decimal(low), Decimal(high), int(anomalies))


def archived_lines(s3: Any, bucket: str, prefix: str) -> Iterator[bytes]:
    """Every line of the archive's objects under a prefix: a message as the rule wrote it, as often as it is there."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
            yield from gzip.decompress(body).splitlines()


def _compare(made: Counter[Any], held: Counter[Any], archived: Iterable[Any], misordered: int,
             expected: dict[Minute, rollups.Total], held_totals: dict[Minute, rollups.Total], field: str,
             ) -> tuple[Counts, list[str]]:
    """The counts, and what is wrong (empty: all that was made is everywhere, once, in order)."""
    in_archive = Counter(set(archived))
    totals = {key: total for key, total in held_totals.items() if key[0] in {device for device, _, _ in expected}}
    counts = Counts(
        published=made.total(), stored=held.total(), archived=in_archive.total(),
        in_rollups=sum(total.n for (_, _, name), total in totals.items() if name == field),
        lost=(made - held).total(), duplicated=(held - made).total(), misordered=misordered)
    wrong = [name for name, fault in (
        ("nothing was published", not made), ("stored", made != held), ("order", misordered),
        ("archive", Counter(key for _, key in in_archive) != made), ("roll-ups", totals != expected)) if fault]
    return counts, wrong


def count_readings(published: list[dict[str, Any]], items: list[dict[str, Any]], minutes: list[dict[str, Any]],
                   archive: Iterable[batch.Batch]) -> tuple[Counts, list[str]]:
    """Reconcile by (device, spool's seq, timestamp, values): a reading of which any digit differs is lost.

    Only devices that the records name are counted; others may use the same cloud.
    """
    made = made_readings(published)
    devices = {device for device, *_ in made}
    held, misordered = held_readings(items, devices)
    archived = (((b.id, s["device"], i), reading_key(s["device"], row.seq, row.timestamp, row.values))
                for b in archive for s in b.series if s["device"] in devices for i, row in enumerate(batch.unpack(s)))
    expected = expected_rollups((r["device"], payloads.at_ms(r["timestamp"]), dict(exact(r["values"])))
                                for r in published)
    return _compare(made, held, archived, misordered, expected, held_rollups(minutes), "sensor2")


def count_events(published: list[dict[str, Any]], items: list[dict[str, Any]], minutes: list[dict[str, Any]],
                 archive: Iterable[batch.Batch]) -> tuple[Counts, list[str]]:
    """Reconcile camera events by (device, timestamp, persons), and their order by receive number."""
    made = Counter((e["device_id"], stamp(e["timestamp"]), Decimal(e["persons_detected"])) for e in published)
    order = {key: index for index, key in enumerate(made)}
    devices = {device for device, *_ in made}
    keys = [(int(item["event_number"]),
             (item["device"], stamp(item["timestamp"]), Decimal(item["values"]["persons_detected"])))
            for item in items if item.get("kind") == "event" and item["device"] in devices]
    by_device: dict[str, list[int]] = defaultdict(list)
    for _, key in sorted(keys):
        by_device[key[0]].append(order.get(key, -1))
    archived = ((row.kafka, (s["device"], stamp(row.timestamp), row.values["persons_detected"]))
                for b in archive for s in b.series if s["device"] in devices for row in batch.unpack(s))
    misordered = sum(inversions(places) for places in by_device.values())
    expected = expected_rollups((e["device_id"], payloads.at_ms(e["timestamp"]),
                                 {"persons_detected": Decimal(e["persons_detected"])}) for e in published)
    return _compare(made, Counter(key for _, key in keys), archived, misordered, expected, held_rollups(minutes),
                    "persons_detected")


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
    """The whole reconciliation. wrong: what does not agree, a few words each; others: devices that no record names."""

    readings: Counts
    events: Counts
    alerts: AlertCounts
    wrong: list[str]
    others: dict[str, int]


def everything(pipeline: Any) -> Everything:
    """Reconcile a drained pipeline (deploy.pipeline.Pipeline): its records against its cloud."""
    items, minutes, alerts = (scan(pipeline.table(name)) for name in ("readings", "rollups", "alerts"))
    s3, bucket = pipeline.client("s3"), pipeline.archive_bucket()

    def archive(kind: str) -> Iterator[batch.Batch]:
        return (batch.read(line) for line in archived_lines(s3, bucket, f"archive/{kind}/"))

    made = recorded(pipeline.records("pi"))
    readings, wrong_readings = count_readings(made, items, minutes, archive("readings"))
    events, wrong_events = count_events(recorded(pipeline.records("camera")), items, minutes, archive("events"))
    counts, agree = count_alerts(items, alerts)
    wrong = [f"readings: {what}" for what in wrong_readings] + [f"events: {what}" for what in wrong_events]
    ours = {one["device"] for one in made}
    others = Counter(device for device, _, _ in stored_rows(items) if device not in ours)
    return Everything(readings, events, counts, wrong + ([] if agree else ["alerts"]), dict(others))


def report_json(report: dict[str, Any]) -> str:
    """The report as a person and a script both can read it."""
    return json.dumps(report, indent=2) + "\n"
