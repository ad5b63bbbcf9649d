"""From the queue `status` (a bridge's ledger as the IoT rule hands it on) to one item per site in the roll-ups table.

The newest stays: a status that comes late or again does not replace one made after it. GET /status answers from here.
What AWS IoT says of the bridges' connections comes by the same queue, and goes to status_presence.py.
"""
import logging
import time
from typing import Any

from botocore.exceptions import ClientError

from contract import numbers, rollups
from contract.errors import BadPayload
from lambdas import status_presence, table

PARTITION = "status"
log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """SQS records -> the newest status per site; answers with the records that failed."""
    failed = []
    for record in event["Records"]:
        try:
            _keep(record["body"], int(time.time() * 1000))
        except Exception as error:  # whatever it was: the record is named, and in the end a dead letter
            log.error("not stored: %s", error, exc_info=True, extra={"message_id": record["messageId"]})
            failed.append(record["messageId"])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _keep(body: str, now_ms: int) -> None:
    message = numbers.loads(body)
    if status_presence.is_lifecycle(message):
        status_presence.keep_newest(status_presence.opened(message, now_ms))
    else:
        _keep_newest(opened(body, now_ms))


def opened(body: str, now_ms: int) -> table.Item:
    """The item of one status message: kept as its text, with the site that the rule named. Raises BadPayload."""
    message = numbers.loads(body)
    if not isinstance(message, dict) or not isinstance(message.get("site"), str) or not message["site"]:
        raise BadPayload("missing site", "expected an object with the client id, which the IoT rule adds as `site`")
    if message.get("v") != 1 or not isinstance(message.get("at"), int):
        raise BadPayload("unknown status version", f"got v={message.get('v')!r:.40}, at={message.get('at')!r:.40}; "
                         "expected v 1 and at in ms; deploy the newer cloud")
    site = message.pop("site")
    return {"pk": PARTITION, "sk": site, "site": site, "at": message["at"], "stored": now_ms,
            "status": numbers.dumps(message), "expires_at": table.expires_at(now_ms, table.ROLLUPS)}


def _keep_newest(item: table.Item) -> None:
    """Put the item unless the one there was made later; one from the future (a clock set back since) gives way."""
    try:
        table.client("dynamodb").put_item(
            TableName=table.name("ROLLUPS_TABLE"), Item=table.to_attributes(item),
            ConditionExpression="attribute_not_exists(pk) OR #at < :at OR #at > :ahead",
            ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues=table.to_attributes({
                ":at": item["at"], ":ahead": item["stored"] + rollups.AHEAD_MS}))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        log.debug("a newer status is there already", extra={"site": item["site"], "at": item["at"]})
