"""From the stream of the readings table to the roll-ups table: per minute and field n, sum, min, max, anomalies.

A minute item holds one entry per batch (or event), set without a condition, so that a stream record that comes again
writes what is there already. Totals are taken on reading (table_rollups.totals_of); hours.py makes hours and days.
"""
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from contract import batch, rollups
from lambdas import table, table_devices, table_items, table_rollups

SETS_PER_UPDATE = 100  # an update expression ends at 4 KB
log = logging.getLogger(__name__)


@dataclass
class Minute:
    """What one minute item of a device is to get from this invocation."""

    expires_at: int
    entries: dict[str, Any] = field(default_factory=dict)  # entry id: its value, None to take it away
    untrusted: bool = False
    records: set[str] = field(default_factory=set)  # sequence numbers of the stream records behind it


Minutes = dict[tuple[str, str], Minute]  # by partition key and sort key


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Stream records -> minute items and the list of devices; answers with the records that failed."""
    minutes: Minutes = {}
    failed: set[str] = set()
    for record in event["Records"]:
        sequence = record["dynamodb"]["SequenceNumber"]
        try:
            if record["eventName"] != "REMOVE":  # deleted by hand or by age: what was counted stays counted
                _collect(record["dynamodb"], minutes)
        except Exception as error:
            log.error("not counted: %s", error, exc_info=True, extra={"keys": record["dynamodb"].get("Keys")})
            failed.add(sequence)
    for (pk, sk), minute in minutes.items():
        try:
            store(pk, sk, minute)
        except Exception as error:
            log.error("roll-up not stored: %s", error, exc_info=True,
                      extra={"pk": pk, "sk": sk, "entries": sorted(minute.entries)})
            failed |= minute.records
    counted = {entry_id for minute in minutes.values() if not minute.records & failed for entry_id in minute.entries}
    log.info("counted", extra={"batches": sorted(counted), "minutes": len(minutes)})
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in sorted(failed, key=int)]}


def _collect(change: dict[str, Any], minutes: Minutes) -> None:
    """Enter one changed item into the minutes that its rows belong to."""
    item = table.from_attributes(change["NewImage"])
    before = table.from_attributes(change["OldImage"]) if "OldImage" in change else None
    for minute in enter(minutes, item, before):
        minute.records.add(change["SequenceNumber"])
    table_devices.note(table_devices.entry_of(item))


def enter(minutes: Minutes, item: table.Item, before: table.Item | None = None,
          arrived_s: float | None = None) -> Iterator[Minute]:
    """Enter an item into the minutes that its rows belong to, yielding each of these.

    before: the item in whose place it was put; arrived_s: when it came, where that is not now (a rebuild).
    """
    found = _by_minute(item)
    # The same event, received again at another time, may move to another minute when its own time is not trusted.
    left = set(_by_minute(before)) - set(found) if before else set()
    entry_id = item["batch"] if item["kind"] == "readings" else item["event"]
    for minute_ms in sorted(left) + sorted(found):
        expires_at = table.expires_at(minute_ms, table.MINUTES, arrived_s)
        key = item["pk"], table_rollups.key(table_rollups.MINUTE, minute_ms)
        minute = minutes.setdefault(key, Minute(expires_at))
        totals, untrusted = found.get(minute_ms, (None, False))
        minute.entries[entry_id] = totals and table_rollups.entry(totals)
        minute.untrusted |= untrusted
        yield minute


def _by_minute(item: table.Item) -> dict[int, tuple[table_rollups.Totals, bool]]:
    """{minute in ms: ({field: Total}, whether a timestamp of it was not trusted)} of a readings or event item."""
    rows: list[batch.Row] = table_items.rows_of(item)
    fields: dict[int, table_rollups.Totals] = defaultdict(dict)
    for (minute_ms, name), total in rollups.totals(rows).items():
        fields[minute_ms][name] = total
    minutes = [rollups.minute_of(row.at_ms, row.received_ms) for row in rows]
    doubted = {minute_ms for minute_ms, trusted in minutes if not trusted}
    return {int(minute_ms): (totals, minute_ms in doubted) for minute_ms, totals in fields.items()}


def store(pk: str, sk: str, minute: Minute) -> None:
    """Set (or take away) this minute's entries, a hundred at a time; says the same when it is said again."""
    entries = list(minute.entries.items())
    for start in range(0, len(entries), SETS_PER_UPDATE):
        names, values = {}, {":expires_at": minute.expires_at}
        sets, removes = ["expires_at = :expires_at"], []
        if minute.untrusted:
            sets.append("untrusted = :true")
            values[":true"] = True
        for index, (entry_id, entry) in enumerate(entries[start:start + SETS_PER_UPDATE]):
            names[f"#{index}"] = entry_id
            if entry is None:
                removes.append(f"#{index}")
            else:
                sets.append(f"#{index} = :{index}")
                values[f":{index}"] = entry
        table.client("dynamodb").update_item(
            TableName=table.name("ROLLUPS_TABLE"), Key=table.to_attributes({"pk": pk, "sk": sk}),
            UpdateExpression="SET " + ", ".join(sets) + (" REMOVE " + ", ".join(removes) if removes else ""),
            ExpressionAttributeNames=names, ExpressionAttributeValues=table.to_attributes(values))
