"""From the stream of the roll-ups table to its hours and days: a minute that changed has its hour recomputed from all
its minutes, and its day from all its hours; both are put whole.

Nothing is added up across invocations: a record that comes again, comes late or was missed once is healed by the next.
"""
import logging
from calendar import timegm
from collections.abc import Iterable
from decimal import Decimal
from time import strptime
from typing import Any

from lambdas import table
from lambdas import table_rollups as shapes
from lambdas.table_rollups import DAY, HOUR, MINUTE

FINER = {HOUR: MINUTE, DAY: HOUR}  # what each is made of
ATTEMPTS = 10  # each lost one means that another wrote the same hour meanwhile
log = logging.getLogger(__name__)


class Contended(Exception):
    """Others wrote this roll-up between every reading of it and every writing; the record comes again."""


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Stream records of minutes -> their hours and days; answers with the records that failed."""
    behind: dict[tuple[str, int], set[str]] = {}  # a device's hour: the records because of which it is made
    for record in event["Records"]:
        keys = table.from_attributes(record["dynamodb"]["Keys"])
        if record["eventName"] != "REMOVE" and keys["sk"].startswith(shapes.RESOLUTIONS[MINUTE]):
            hour = keys["pk"], shapes.start_of(HOUR, moment_of(keys["sk"]))
            behind.setdefault(hour, set()).add(record["dynamodb"]["SequenceNumber"])
    failed = set().union(*(behind[hour] for hour in recompute(behind)))
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in sorted(failed, key=int)]}


def recompute(hours: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Make these hours (partition key, start in ms) and the days that they are in anew; returns those that failed."""
    hours = sorted(hours)
    failed = {hour for hour in hours if not _made(HOUR, *hour)}
    # Also where no hour changed: an earlier try may have ended between the hour and its day.
    days = {(pk, shapes.start_of(DAY, hour_ms)) for pk, hour_ms in hours}
    bad_days = {day for day in sorted(days) if not _made(DAY, *day)}
    return [(pk, hour_ms) for pk, hour_ms in hours
            if (pk, hour_ms) in failed or (pk, shapes.start_of(DAY, hour_ms)) in bad_days]


def moment_of(key: str) -> int:
    """"m#2026-11-22T07:24Z" -> 1795332240000."""
    return timegm(strptime(key[2:], "%Y-%m-%dT%H:%MZ")) * 1000


def _made(resolution: str, pk: str, start_ms: int) -> bool:
    try:
        for _ in range(ATTEMPTS):
            if make(resolution, pk, start_ms):
                return True
        raise Contended(f"{ATTEMPTS} attempts")
    except Exception as error:
        log.error("%s not made: %s", resolution, error, exc_info=True,
                  extra={"pk": pk, "sk": shapes.key(resolution, start_ms)})
        return False


def make(resolution: str, pk: str, start_ms: int) -> bool:
    """Put one hour or day as its parts are now; False when it was written meanwhile, so that it must be made again.

    It is read before its parts and put only if still the same: who read the parts earlier than another cannot write
    over what that other made of newer ones.
    """
    key = {"pk": pk, "sk": shapes.key(resolution, start_ms)}
    got = table.client("dynamodb").get_item(TableName=table.name("ROLLUPS_TABLE"), Key=table.to_attributes(key),
                                            ConsistentRead=True)
    before = table.from_attributes(got["Item"]) if "Item" in got else None
    item = _of_parts(resolution, key, start_ms)
    if _same(before, item):
        return True
    if before and _settled(resolution, start_ms) and _lacks(before["fields"], item["fields"]):
        log.warning("%s left as it is: of what it was made of, a part has expired", resolution, extra=key)
        return True
    return _replace(key, before, item)


def _of_parts(resolution: str, key: dict[str, str], start_ms: int) -> table.Item:
    """The roll-up as its minutes (or hours) make it: {field: [n, sum, min, max, anomalies]}."""
    finer = FINER[resolution]
    low, high = (shapes.key(finer, moment) for moment in (start_ms, start_ms + shapes.LENGTH_MS[resolution] - 1))
    parts = list(table.query("ROLLUPS_TABLE", key["pk"], low, high, consistent=True))
    item = {**key, "fields": shapes.entry(shapes.merged(map(shapes.totals_of, parts))),
            "expires_at": table.expires_at(start_ms, table.ROLLUPS)}
    return item | ({"untrusted": True} if any(part.get("untrusted") for part in parts) else {})


def _same(before: table.Item | None, item: table.Item) -> bool:
    """Whether nothing is to be written: the expiry alone is no reason to."""
    if before is None:
        return not item["fields"]
    return bool(before["fields"] == item["fields"] and before.get("untrusted") == item.get("untrusted"))


def _settled(resolution: str, start_ms: int) -> bool:
    """Whether parts of it may have expired, so that it can no longer be made of them alone."""
    kept_s = table.kept_days(shapes.KEPT[FINER[resolution]]) * table.DAY_S
    return bool(start_ms // 1000 + kept_s <= table.now_ms() // 1000)


def _lacks(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a field had more readings before."""
    return any(int(entry[0]) > int(after.get(field, [Decimal(0)])[0]) for field, entry in before.items())


def _replace(key: dict[str, str], before: table.Item | None, item: table.Item) -> bool:
    """Put the item in place of `before`; False when something else is there by now."""
    condition, values = "attribute_not_exists(pk)", {}
    if before:
        condition = "#f = :before"
        values = {"ExpressionAttributeNames": {"#f": "fields"},
                  "ExpressionAttributeValues": table.to_attributes({":before": before["fields"]})}
    try:
        if item["fields"]:
            table.write_if(condition, "put_item", "ROLLUPS_TABLE", Item=table.to_attributes(item), **values)
        else:  # its only event was received again, in another hour
            table.write_if(condition, "delete_item", "ROLLUPS_TABLE", Key=table.to_attributes(key), **values)
        return True
    except table.ConditionFailed:
        return False
