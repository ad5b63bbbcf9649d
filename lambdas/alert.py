"""From the queue `alerts` (a bridge's message as the IoT rule hands it on) to the alerts and incidents tables.

When both are written, the receipt goes to the bridge; then a person is told of each incident that is new to him.
"""
import logging
from typing import Any

from contract import alerts
from lambdas import alert_incidents, alert_notices, table, table_delivery, table_items

log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """SQS records -> an item per anomaly and per incident -> receipts -> notices; answers with the records that failed.

    A notice that did not go out fails its record, which is tried again and in the end is a dead letter: what was stored
    and receipted before stays so.
    """
    kept: dict[str, list[table.Item]] = {}  # incidents by the SQS id of the record that spoke of them

    def keep(message: table_delivery.Message, record_id: str) -> None:
        kept[record_id] = [alert_incidents.keep(one) for one in message.news]

    answer = table_delivery.deliver(event, context, opened, keep)
    untold = [record_id for record_id, incidents in kept.items() if not _tell(incidents)]
    named = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
    answer["batchItemFailures"] += [{"itemIdentifier": one} for one in untold if one not in named]
    return answer


def opened(body: str) -> table_delivery.Message:
    """The anomalies (none when all it classified was normal) and the incidents of a message. Raises BadPayload."""
    found = alerts.read(body)
    table_delivery.check_origin(found.site, found.id)
    site = table.site_of(found.site)
    items = [table_items.alert_item(site, found.device, found.id, one) for one in found.classified if one.anomaly]
    news = alert_incidents.news(site, found.device, found.classified)
    return table_delivery.Message(found.site, found.id, "ALERTS_TABLE", items, news)


def _tell(incidents: list[table.Item]) -> bool:
    """Notices of these incidents; False when one of them did not go out."""
    told = True
    for item in incidents:
        try:
            alert_notices.tell(item)
        except alert_notices.InHand as other:
            log.info("%s; this message comes again", other)
            told = False
        except Exception as error:  # SNS or the table: the record must come again
            log.error("no notice: %s", error, exc_info=True, extra={"incident": item["incident"], "site": item["site"]})
            told = False
    return told
