"""Shapes of the roll-ups table: minutes as aggregate.py sets them, hours and days as hours.py puts them, read by both
and by the API. Beside these it holds the list of devices (table_devices.py), the newest status and lifecycle event of
each bridge, what watch.py remembers, and the Idempotency-Keys of POST /data, each in partitions of their own."""
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from contract import numbers, rollups
from contract.errors import BadPayload
from lambdas import table

MINUTE, HOUR, DAY = "minute", "hour", "day"
RESOLUTIONS = {MINUTE: "m#", HOUR: "h#", DAY: "d#"}  # what a roll-up's sort key begins with
LENGTH_MS = {MINUTE: rollups.MINUTE_MS, HOUR: rollups.HOUR_MS, DAY: rollups.DAY_MS}
KEPT = {MINUTE: table.MINUTES, HOUR: table.ROLLUPS, DAY: table.ROLLUPS}  # settings, see table.kept_days

STATUS, PRESENCE, WATCHED = "status", "presence", "watch"  # partitions: an item a bridge, its thing is the sort key
LANES = ("live", "backfill", "unreceipted")  # of a status, where readings and events wait

Totals = dict[str, rollups.Total]  # by field

_MINUTE_OWN = frozenset(("pk", "sk", "untrusted", "expires_at"))  # all other attributes of a minute are entries


def key(resolution: str, start_ms: int) -> str:
    """Sort key of a roll-up: "m#2026-11-22T07:24Z", "h#2026-11-22T07:00Z", "d#2026-11-22"."""
    text = table.day_text(start_ms) if resolution == DAY else minute_text(start_ms)
    return RESOLUTIONS[resolution] + text


def minute_text(minute_ms: int) -> str:
    """1795332240000 -> "2026-11-22T07:24Z"; sorts by time."""
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(minute_ms // 1000))


def start_of(resolution: str, moment_ms: int) -> int:
    """Start of the UTC minute, hour or day that a moment lies in, in ms."""
    return int(moment_ms) - int(moment_ms) % LENGTH_MS[resolution]


def entry(totals: Totals) -> table.Item:
    """{field: Total} as an item holds it: {field: [n, sum, min, max, anomalies]}."""
    return {field: [t.n, _held(t.sum), t.min, t.max, t.anomalies] for field, t in totals.items()}


def _held(total: Decimal) -> Decimal | str:
    """The sum, or its text where it has left DynamoDB's range (9e125 + 9e125)."""
    try:
        return numbers.canonical(numbers.check(total, "sum"))
    except BadPayload:
        return str(total)


def totals_of(item: table.Item) -> Totals:
    """{field: Total} of a minute (its entries summed), an hour or a day."""
    if item["sk"].startswith(RESOLUTIONS[MINUTE]):
        return merged(_of_entry(item[name]) for name in sorted(item) if name not in _MINUTE_OWN)
    return _of_entry(item["fields"])


def _of_entry(fields: dict[str, Any]) -> Totals:
    return {field: rollups.Total(int(n), Decimal(total), smallest, largest, int(anomalies))
            for field, (n, total, smallest, largest, anomalies) in fields.items()}


def merged(parts: Iterable[Totals]) -> Totals:
    """The totals of all parts together, summed in their order."""
    found: Totals = {}
    for part in parts:
        for field, total in part.items():
            found[field] = rollups.merge(found[field], total) if field in found else total
    return found
