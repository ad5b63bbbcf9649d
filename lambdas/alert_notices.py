"""Notices: an incident as it is stored comes in, and a person learns of it once, through the SNS topic of the alerts.

First published, then marked: a crash in between publishes again, so that there is never none. A lease keeps two
invocations that hold messages of one incident from both publishing. What quiet hours hold back is told when they end.
"""
import logging
import os
import re

from contract import incidents
from lambdas import alert_words, table
from lambdas.alert_incidents import update
from lambdas.table_incidents import TABLE, severity

LEASE_MS = 60_000  # longer than an invocation takes to publish and mark, shorter than until its message comes again
HELD_PARTITION = "held"  # of the incidents table: one row for each that waits for the end of the quiet hours
SENT, HELD = "sent", "held"
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
log = logging.getLogger(__name__)


class InHand(Exception):
    """Another invocation is about to send this notice; whoever has it too must come again to see that it did."""


def tell(item: table.Item) -> None:
    """Publish the notice of an incident that is due, or hold it back. Raises InHand, or what SNS or DynamoDB raise: the
    caller sees to it that the incident is brought again."""
    grave = severity(item)
    if item.get("notice") == SENT or not incidents.reaches(grave, os.environ.get("MIN_SEVERITY", incidents.INFO)):
        return
    at_ms = table.now_ms()
    if grave != incidents.CRITICAL and is_quiet(at_ms):
        if item.get("notice") != HELD:
            _hold(item)
        return
    if _lease(item, at_ms):
        publish(alert_words.of_incident(item, at_ms))
        _mark(item, SENT)


def publish(notice: alert_words.Notice) -> None:
    """Hand one notice to the topic."""
    table.client("sns").publish(
        TopicArn=table.name("ALERTS_TOPIC"), Subject=notice.subject, Message=notice.body,
        MessageAttributes={name: {"DataType": "String", "StringValue": value}
                           for name, value in notice.attributes.items()})
    log.info("notice published: %s", notice.subject, extra=notice.attributes)


def _lease(item: table.Item, at_ms: int) -> bool:
    """Take the incident's notice in hand; False when another invocation has sent it. Raises InHand."""
    try:
        update(item, {"lease": at_ms + LEASE_MS}, (),
               "attribute_exists(pk) AND (attribute_not_exists(#lease) OR #lease < :now) AND "
               "(attribute_not_exists(notice) OR notice <> :sent)", now=at_ms, sent=SENT)
    except table.ConditionFailed as now:
        if now.item.get("notice") == SENT or not now.item:
            return False
        raise InHand(f"the notice of incident {item['incident']} is being sent by another invocation") from None
    return True


def _mark(item: table.Item, notice: str) -> None:
    """It is told (or held): what is told once is never told again."""
    update(item, {"notice": notice}, ("lease",), "attribute_exists(pk)")


def spare(item: table.Item) -> None:
    """Nobody is to be told of this incident: it is restored from the archive, and was told of in its time."""
    if item.get("notice") is None:
        _mark(item, SENT)


# --- quiet hours

def is_quiet(at_ms: int) -> bool:
    """Is it quiet time? QUIET_HOURS is "22:00-06:30", by the clock of TIME_ZONE; empty: never."""
    hours = os.environ.get("QUIET_HOURS", "")
    if not hours:
        return False
    found = _HOURS.fullmatch(hours)
    if not found:
        raise ValueError(f"QUIET_HOURS is {hours!r}, expected such as 22:00-06:30; deploy it anew")
    start, end = (60 * int(found[i]) + int(found[i + 1]) for i in (1, 3))
    local = alert_words.local_time(at_ms)
    now = 60 * local.hour + local.minute
    return start <= now < end if start <= end else now >= start or now < end


def _hold(item: table.Item) -> None:
    """Remember it for the summary: first the row by which it is found, then the mark."""
    row = {"pk": HELD_PARTITION, "sk": f"{item['pk']}#{item['sk']}", "of_pk": item["pk"], "of_sk": item["sk"],
           "expires_at": item["expires_at"]}
    table.client("dynamodb").put_item(TableName=table.name(TABLE), Item=table.to_attributes(row))
    _mark(item, HELD)


def release(at_ms: int) -> int:
    """After the quiet hours: one notice of all incidents that they held back; returns how many these were."""
    if is_quiet(at_ms):
        return 0
    rows = list(table.query(TABLE, HELD_PARTITION, " ", "~"))
    items = [item for item in map(_incident_of, rows) if item and item.get("notice") == HELD]
    if items:
        publish(alert_words.of_night(items, at_ms))
    for item in items:
        _mark(item, SENT)
    for row in rows:
        table.client("dynamodb").delete_item(
            TableName=table.name(TABLE), Key=table.to_attributes({"pk": row["pk"], "sk": row["sk"]}))
    return len(items)


def _incident_of(row: table.Item) -> table.Item | None:
    """The incident that a row of the held ones stands for; None when it is gone."""
    answer = table.client("dynamodb").get_item(TableName=table.name(TABLE), ConsistentRead=True,
                                               Key=table.to_attributes({"pk": row["of_pk"], "sk": row["of_sk"]}))
    return table.from_attributes(answer["Item"]) if "Item" in answer else None
