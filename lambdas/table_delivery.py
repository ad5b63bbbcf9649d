"""From a queue's SQS records to a table, then the receipts to the bridges: what persist.py and alert.py share.

Delivered means stored and receipted: a receipt names only what all items are stored of.
"""
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contract import numbers, routes, topics
from contract.errors import BadPayload
from lambdas import table

SPARE_MS = 10_000  # of a function's time: for all attempts of one chunk and the receipts
RECEIPT_IDS = 4000  # 27 bytes each: below the 128 KiB of a message
_ID = re.compile(r"[0-9a-f]{24}\Z")
log = logging.getLogger(__name__)


class Message(NamedTuple):
    """What one SQS record carries: `items` for the table of the setting `table`, then a receipt for `id` to `thing`;
    news: what alert.py stores besides."""

    thing: str
    id: str
    table: str
    items: list[table.Item]
    news: Sequence[Any] = ()


def check_origin(thing: Any, message_id: Any) -> None:
    """Raise BadPayload unless the rule named the thing and the id is one of a bridge's (it names attributes)."""
    if not isinstance(thing, str) or not thing:
        raise BadPayload("missing site",
                         f"got {thing!r:.60}, expected the client id, which the IoT rule adds as `site`")
    check_id(message_id)


def check_id(given: Any) -> None:
    """Raise BadPayload unless it is an id as a bridge makes them, for batches, alert messages and incidents."""
    if not isinstance(given, str) or not _ID.match(given):
        raise BadPayload("bad id", f"got {given!r:.60}, expected 24 hex digits")


def deliver(event: dict[str, Any], context: Any, opened: Callable[[str], Message],
            then: Callable[[Message, str], None] = lambda message, record_id: None) -> dict[str, Any]:
    """Store what each SQS record carries, then send the receipts; the answer names the records that must come again.

    opened: makes a Message of a record's body, or raises; then: stores the rest of it, before the receipt. One bad
    record does not stop the others; those for which a slow table leaves no time come again, so that the others'
    receipts go out before Lambda ends the function.
    """
    def time_is_left() -> bool:
        return context is None or context.get_remaining_time_in_millis() >= SPARE_MS

    stored: dict[str, list[tuple[str, str]]] = {}
    failed = []
    for record in event["Records"]:
        try:
            table.check_time(time_is_left)
            message = opened(record["body"])
            table.put_all(message.table, message.items, time_is_left)
            then(message, record["messageId"])
        except Exception as error:  # whatever it was: the record is named, and in the end a dead letter
            log.error("not stored: %s", error, exc_info=True, extra={
                "message_id": record["messageId"], "batch": _id_in(record["body"])})
            failed.append(record["messageId"])
        else:
            log.debug("stored", extra={"batch": message.id, "site": message.thing, "items": len(message.items)})
            stored.setdefault(message.thing, []).append((message.id, record["messageId"]))
    for thing, pairs in stored.items():
        log.info("stored", extra={"site": thing, "batches": [batch_id for batch_id, _ in pairs]})
    if os.environ.get("RECEIPTS", "on") != "off":
        for thing, pairs in stored.items():
            failed += _send_receipts(thing, pairs)
    return {"batchItemFailures": [{"itemIdentifier": record_id} for record_id in failed]}


def _send_receipts(thing: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Tell a bridge which ids are stored; returns the SQS ids of the records whose receipt did not go out.

    pairs: (id of a batch or alert message, SQS id of its record).
    """
    failed = []
    for start in range(0, len(pairs), RECEIPT_IDS):
        chunk = pairs[start:start + RECEIPT_IDS]
        ids = {batch_id for batch_id, _ in chunk}
        try:
            table.client("iot-data").publish(topic=topics.receipts(thing), qos=1,
                                             payload=numbers.dumps(routes.receipt(ids)))
        except Exception as error:  # stored, but the bridge does not know: the record must come again
            log.error("receipt not sent: %s", error, exc_info=True, extra={"site": thing, "batches": sorted(ids)})
            failed += [record_id for _, record_id in chunk]
        else:
            log.info("receipted", extra={"site": thing, "batches": sorted(ids)})
    return failed


def _id_in(body: str) -> str | None:
    """The id of a message that could not be opened, for the log."""
    match = re.search(r'"id"\s*:\s*"([0-9a-f]{24})"', body)
    return match.group(1) if match else None
