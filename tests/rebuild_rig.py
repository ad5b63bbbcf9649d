"""For the tests of `make rebuild`: what happens to the functions, what Firehose keeps of it, and a rebuild of that."""
import gzip
import random
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from contract import alerts, numbers, rollups
from deploy.rebuild import Progress, Range, rebuild
from deploy.rebuild_tables import Pace, Rebuilder
from lambdas import hours, status, table, table_devices, table_rollups
from local_cloud.firehose_keys import compile_prefix, object_name
from tests.client_faults import Intercepted
from tests.cloud_tables import NAMES, REGION, aggregated, alerted, dump, failures, persisted, streamed
from tests.messages import EXAMPLES, OUTBOX, SITE, T0_MS, anomaly, by_rule, event, row, sealed, sqs

BUCKET = "archive"
TABLES = sorted(NAMES.values())
WRITES = {"put_item", "update_item", "batch_write_item", "delete_item"}
DAY_MS = rollups.DAY_MS


@pytest.fixture
def bucket(tables: None) -> None:
    """Empty tables and an empty archive."""
    s3().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


@cache
def s3() -> Any:
    return boto3.client("s3")


def watched() -> list[str]:
    """The writes to DynamoDB from now on, by operation."""
    writes: list[str] = []
    Intercepted("dynamodb", lambda operation, request: writes.append(operation) if operation in WRITES else None)
    return writes


def archive(route: str, at_ms: int, *texts: str) -> str:
    """One object as Firehose names and writes it; returns its key."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    prefix = compile_prefix(f"archive/{route}/date=!{{timestamp:yyyy-MM-dd}}/")(at)
    key = prefix + object_name(f"EdgeCloud-{route}Archive-X1", at, ".jsonl.gz")
    s3().put_object(Bucket=BUCKET, Key=key, Body=gzip.compress("".join(text + "\n" for text in texts).encode()))
    return key


def hourly() -> None:
    assert failures(hours.handler({"Records": streamed("rollups")}, None)) == []


def everything() -> dict[str, list[dict[str, Any]]]:
    """Every item of every table; of a status all but when it came, which the archive knows to five minutes."""
    found = {name: dump(name) for name in TABLES}
    for item in found["rollups"]:
        if item["pk"]["S"] == table_rollups.STATUS:
            del item["stored"], item["expires_at"]
    return found


def wipe(share: float = 1.0, seed: int = 1) -> None:
    """Delete this share of all items."""
    chosen = random.Random(seed)
    for name in TABLES:
        for item in dump(name):
            if chosen.random() < share:
                table.client("dynamodb").delete_item(TableName=name, Key={"pk": item["pk"], "sk": item["sk"]})
    table_devices.KNOWN.clear()


def run(from_ms: int = T0_MS - DAY_MS, to_ms: int = T0_MS + 60 * DAY_MS, progress: Path | None = None,
        **choices: Any) -> tuple[int, Rebuilder, list[str]]:
    """(left, rebuilder, what was said)"""
    told: list[str] = []
    rebuilder = Rebuilder(Pace(1e6), choices.get("site"), choices.get("dry_run", False))
    wanted = Range(from_ms, to_ms, choices.get("site"))
    left = rebuild(s3(), BUCKET, wanted, rebuilder, Progress(progress or Path("/nonexistent/x"), wanted)
                   if progress else SimpleNamespace(done_ms=lambda: 0, note=lambda ms: None), told.append)
    assert rebuilder.failed_hours == []
    return left, rebuilder, told


def readings(*numbers_: int, device: str = "pi-1", site: str = SITE, **other: Any) -> str:
    return by_rule(sealed("readings", {device: [row(n, {"sensor1": "20.25", "sensor2": f"{n % 10}.5"}, **other)
                                                for n in numbers_]}), site)


def alert_message(*classified: alerts.Classified) -> str:
    return by_rule(alerts.seal(OUTBOX, "pi-1", list(classified))[1])


def incident(number: int, state: str, count: int) -> dict[str, Any]:
    return alerts.incident("pi-1", "sensor2", 1, state, T0_MS, count, Decimal("3.5"), "spike")


_story: dict[str, Any] = {}


def original() -> None:
    """The tables after `happen`, and what Firehose kept of it: from the second time on, as it was the first time."""
    if not _story:
        happen()
        keys = [found["Key"] for found in s3().list_objects_v2(Bucket=BUCKET)["Contents"]]
        _story.update(tables={name: dump(name) for name in TABLES},
                      objects={key: s3().get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys})
        return
    for key, body in _story["objects"].items():
        s3().put_object(Bucket=BUCKET, Key=key, Body=body)
    for name, there in _story["tables"].items():
        for start in range(0, len(there), table.PUT_CHUNK):
            table.client("dynamodb").batch_write_item(RequestItems={name: [
                {"PutRequest": {"Item": item}} for item in there[start:start + table.PUT_CHUNK]]})


def happen() -> None:
    """What happens to the functions in some hours."""
    six_days_ms = 6 * DAY_MS
    untrusted = {"timestamp": 0, "at_ms": 0}
    batches = [(T0_MS, readings(1, 2, 600)), (T0_MS + 1000, readings(1, 2, 600)),
               (T0_MS + 2000, readings(3, 4, device="pi-2")), (T0_MS + 3_600_000, readings(36_000, 36_001)),
               (T0_MS + 3_700_000, readings(1, site="SiteB")),
               (T0_MS + six_days_ms, readings(10, received_ms=T0_MS + six_days_ms)),
               (T0_MS + six_days_ms, readings(11, received_ms=T0_MS + six_days_ms, **untrusted))]
    assert failures(persisted(*(text for _, text in batches))) == []
    archive("readings", T0_MS, *(text for at_ms, text in batches if at_ms < T0_MS + 60_000))
    for at_ms, text in batches[3:]:
        archive("readings", at_ms, text)
    moving = [by_rule(sealed("events", {"camera-01": [event(1, 4, **untrusted, received_ms=ms), event(2, 1)]}))
              for ms in (T0_MS, T0_MS + 3_600_000)]
    for hour, text in enumerate(moving):
        assert failures(persisted(text)) == []
        archive("events", T0_MS + hour * 3_600_000, text)
    assert failures(aggregated()) == []
    hourly()
    told = [alert_message(anomaly(1, "2.5", incident=incident(1, alerts.OPENED, 1))),
            alert_message(anomaly(2, "3.5", incident=incident(1, alerts.OPEN, 2)), anomaly(3, "3")),
            alert_message(anomaly(4, "1", anomaly=False, incident=incident(1, alerts.CLOSED, 2)))]
    for text in told:
        assert failures(alerted(text)) == []
    archive("alerts", T0_MS, *told)
    for minute in range(2):
        message = {**numbers.loads((EXAMPLES / "status.json").read_text()), "site": SITE, "at": T0_MS + 60_000 * minute}
        assert failures(status.handler(sqs(numbers.dumps(message)), None)) == []
        archive("status", T0_MS + 60_000 * minute, numbers.dumps(message))
