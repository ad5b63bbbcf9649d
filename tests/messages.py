"""Rows, events and anomalies, sealed as a bridge seals them, and as the IoT rule hands them to a function."""
from decimal import Decimal
from pathlib import Path
from typing import Any

from contract import alerts, batch, numbers

SITE, OUTBOX = "EdgeCloudAWS", "0123456789abcdef01"
EXAMPLES = Path(__file__).resolve().parent.parent / "contract" / "examples"
T0_MS = 1795332240000  # 2026-11-22T07:24:00Z


def row(number: int, values: dict[str, Any], **other: Any) -> batch.Row:
    """A row received (and measured) 100 ms after the one with the number before; `other` replaces what is given."""
    at_ms = T0_MS + 100 * number
    start = batch.Row(number, at_ms + 20, Decimal(at_ms) / 1000, at_ms, None, None,
                      {name: Decimal(str(value)) for name, value in values.items()}, {}, None, None)
    return start._replace(**other)


def event(offset: int, persons: int, **other: Any) -> batch.Row:
    """A camera's event at an offset of edge-data, partition 0."""
    plain = row(offset, {"persons_detected": persons})
    return plain._replace(kafka=("edge-data", 0, offset, plain.at_ms), **other)


def anomaly(number: int, sensor2: str, /, **other: Any) -> alerts.Classified:
    """An anomalous reading of sensor2."""
    plain = row(number, {})
    start = alerts.Classified(number, plain.received_ms, plain.timestamp, plain.at_ms, "sensor2", Decimal(sensor2),
                              Decimal(sensor2), True, Decimal("-0.61"))
    return start._replace(**other)


def sealed(kind: str, devices: dict[str, list[batch.Row]]) -> bytes:
    """The bytes of one batch of these devices' rows."""
    return batch.seal_series(kind, OUTBOX, [batch.pack(device, rows) for device, rows in devices.items()])[1]


def by_rule(sealed: bytes, site: str | None = SITE) -> str:
    """The body that a rule hands to its queue: the message, decoded and written anew, with the site."""
    message = numbers.loads(sealed)
    return numbers.dumps({**message, "site": site} if site is not None else message)


def sqs(*bodies: str) -> dict[str, Any]:
    """An SQS event; the records' ids are m0, m1, ..."""
    return {"Records": [{"messageId": f"m{i}", "body": body} for i, body in enumerate(bodies)]}
