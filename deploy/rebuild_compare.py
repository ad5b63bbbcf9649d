"""What the tables hold, and whether that is what a rebuild would put there; from DynamoDB to rebuild_tables.py."""
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from contract import rollups
from lambdas import table, table_items

CHUNK = 100  # keys that DynamoDB takes in one BatchGetItem
ATTEMPTS = 8
NOT_COMPARED = {"expires_at"}  # of what is there: when it came decides, and nothing else does
# A bridge that gives an event a second time gives it another receive number.
OF_RECEIPT = {"received", "event_number"}

Key = tuple[str, str]  # partition key and sort key


def readable(item: table.Item | None) -> bool:
    """Whether the rows of an item in the table can be read: it may be what is damaged."""
    try:
        return item is not None and bool(rollups.totals(table_items.rows_of(item)))
    except (table_items.Damaged, ValueError, TypeError, AttributeError, ArithmeticError):
        return False


def alike(before: table.Item, item: table.Item) -> bool:
    """Whether the item in the table is this one; the latest receipt of an event stands."""
    without = NOT_COMPARED
    if item.get("kind") == "readings":  # packed anew by another zlib, or not at all as in the beginning: the same rows
        if not readable(before) or table_items.rows_of(before) != table_items.rows_of(item):
            return False
        without = NOT_COMPARED | {"series"}
    later = isinstance(before.get("received"), Decimal) and before["received"] >= item["received"]
    if item.get("kind") == "event" and later:
        without = NOT_COMPARED | OF_RECEIPT
    return {k: v for k, v in before.items() if k not in without} == {k: v for k, v in item.items() if k not in without}


def items_of(setting: str, keys: set[Key]) -> dict[Key, table.Item]:
    """The items of these keys (1 to 100), as they are by now."""
    found: dict[Key, table.Item] = {}
    for answer in _answers({table.name(setting): {"ConsistentRead": True, "Keys": [
            table.to_attributes({"pk": pk, "sk": sk}) for pk, sk in sorted(keys)]}}):
        for item in map(table.from_attributes, answer.get(table.name(setting), ())):
            found[item["pk"], item["sk"]] = item
    return found


def _answers(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What BatchGetItem answers until nothing is left over: it ends at 16 MB, or where the table is throttled."""
    in_vain = 0
    while asked:
        answer = table.client("dynamodb").batch_get_item(RequestItems=asked)
        yield answer["Responses"]
        left = answer.get("UnprocessedKeys") or {}
        in_vain = in_vain + 1 if left == asked else 0
        if in_vain == ATTEMPTS:
            raise table.NotStored(f"keys unread after {ATTEMPTS} attempts: the table is throttled; try again later")
        if in_vain:
            time.sleep(random.uniform(0, 0.05 * 2 ** in_vain))  # full jitter
        asked = left
