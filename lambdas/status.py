"""From the queue `status` (a bridge's ledger as the IoT rule hands it on) to one item per site in the roll-ups table.

The newest stays: a status that comes late or again does not replace one made after it. GET /status answers from here.
What AWS IoT says of the bridges' connections comes by the same queue, and goes to status_presence.py.
"""
import logging
from typing import Any

from contract import numbers, rollups
from contract.errors import BadPayload
from lambdas import status_presence, table
from lambdas.table_rollups import LANES, STATUS

log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """SQS records -> the newest status per site; answers with the records that failed."""
    failed = []
    for record in event["Records"]:
        try:
            _keep(record["body"], table.now_ms())
        except Exception as error:  # whatever it was: the record is named, and in the end a dead letter
            log.error("not stored: %s", error, exc_info=True, extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _keep(body: str, now_ms: int) -> None:
    message = numbers.loads(body)
    if status_presence.is_lifecycle(message):
        status_presence.keep_newest(status_presence.opened(message, now_ms))
    else:
        _keep_newest(opened(message, now_ms))


def opened(message: Any, now_ms: int) -> table.Item:
    """The item of one decoded status: kept as its text, with the site that the rule named. Raises BadPayload."""
    if not isinstance(message, dict) or not isinstance(message.get("site"), str) or not message["site"]:
        raise BadPayload("missing site", "expected an object with the client id, which the IoT rule adds as `site`")
    if message.get("v") != 1 or not isinstance(message.get("at"), int):
        raise BadPayload("unknown status version", f"got v={message.get('v')!r:.40}, at={message.get('at')!r:.40}; "
                         "expected v 1 and at in ms; deploy the newer cloud")
    told = {name: value for name, value in message.items() if name != "site"}
    _check_used(told)
    site = message["site"]
    return {"pk": STATUS, "sk": site, "site": site, "at": message["at"], "stored": now_ms,
            "status": numbers.dumps(told), "expires_at": table.expires_at(now_ms, table.ROLLUPS)}


def _check_used(told: dict[str, Any]) -> None:
    """Raise BadPayload unless what GET /status and watch.py take apart is as a bridge tells it, or left out: one
    bridge's odd status must not take the answer from all. What else it tells is kept as it is."""
    found = {"certificate_days": [told.get("certificate_days") or 0],
             **{name: [told.get(name, 0)] for name in ("lost", "dropped")}}
    try:
        found["waiting"] = [told.get("waiting", {}).get(lane, 0) for lane in LANES]
        found["devices"] = [counts.get("waiting", 0) for counts in told.get("devices", {}).values()]
    except AttributeError:
        got = f"waiting={told.get('waiting')!r:.40}, devices={told.get('devices')!r:.40}"
        raise BadPayload("broken status", f"got {got}; expected an object of counts, and one of such objects") from None
    for name, values in found.items():
        if not all(map(numbers.is_number, values)):
            raise BadPayload("broken status", f"got {told.get(name)!r:.60} for {name}, expected numbers in it")


def _keep_newest(item: table.Item) -> None:
    """Put the item unless the one there was made later; one from the future (a clock set back since) gives way."""
    try:
        table.write_if(
            "attribute_not_exists(pk) OR #at < :at OR #at > :ahead", "put_item", "ROLLUPS_TABLE",
            Item=table.to_attributes(item), ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues=table.to_attributes({
                ":at": item["at"], ":ahead": item["stored"] + rollups.AHEAD_MS}))
    except table.ConditionFailed:
        log.debug("a newer status is there already", extra={"site": item["site"], "at": item["at"]})
