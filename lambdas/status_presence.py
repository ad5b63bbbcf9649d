"""Lifecycle events: AWS IoT's word that a thing connected or disconnected, from the queue `status` to one item a site.

They may come twice and in any order. A connection's two events have one version, and a later connection a higher one,
until AWS begins at 0 again, for a client that was away for about an hour: so the version orders what lies within half
an hour, the time what lies further apart. watch.py reads the items.
"""
import logging
from typing import Any

from contract.errors import BadPayload
from lambdas import table
from lambdas.table_rollups import PRESENCE

CONNECTED, DISCONNECTED = "connected", "disconnected"
RESET_MS = 30 * 60 * 1000  # events of one client that lie further apart are ordered by their time
log = logging.getLogger(__name__)


def is_lifecycle(message: Any) -> bool:
    """Does this message of the queue tell of a connection? (A bridge's status has no event type.)"""
    return isinstance(message, dict) and "eventType" in message and "v" not in message


def opened(message: dict[str, Any], now_ms: int) -> table.Item:
    """The item of one lifecycle event. Raises BadPayload."""
    try:
        site, kind = message["site"], message["eventType"]
        version, at_ms = int(message["versionNumber"]), int(message["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadPayload("broken lifecycle event", f"missing or wrong: {error}") from None
    if kind not in (CONNECTED, DISCONNECTED) or not isinstance(site, str) or not site:
        raise BadPayload("broken lifecycle event", f"got {kind!r:.40} of {site!r:.60}, expected {CONNECTED} or "
                         f"{DISCONNECTED} of a thing, which the IoT rule adds as `site`")
    item = {"pk": PRESENCE, "sk": site, "site": site, "connected": kind == CONNECTED, "at": at_ms,
            "rank": 2 * version + (kind == DISCONNECTED), "expires_at": table.expires_at(now_ms, table.ROLLUPS)}
    reason = message.get("disconnectReason")
    return item | ({"reason": reason} if isinstance(reason, str) and kind == DISCONNECTED else {})


def keep_newest(item: table.Item) -> None:
    """Put the item unless a later event is there, or the very same."""
    at_ms = item["at"]
    try:
        table.write_if(
            "attribute_not_exists(pk) OR #at < :long_before OR (#at <= :long_after AND #rank < :rank)",
            "put_item", "ROLLUPS_TABLE", Item=table.to_attributes(item),
            ExpressionAttributeNames={"#at": "at", "#rank": "rank"},
            ExpressionAttributeValues=table.to_attributes({
                ":rank": item["rank"], ":long_before": at_ms - RESET_MS, ":long_after": at_ms + RESET_MS}))
    except table.ConditionFailed:
        log.debug("a later event is there already", extra={"site": item["site"], "at": at_ms})
