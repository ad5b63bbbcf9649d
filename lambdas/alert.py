"""From the queue `alerts` (a bridge's message as the IoT rule hands it on) to the alerts table, then the receipt."""
from typing import Any

from contract import alerts
from lambdas import table


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """SQS records -> one item per anomaly -> receipts; answers with the records that failed."""
    return table.deliver(event, context, opened)


def opened(body: str) -> table.Message:
    """The anomalies of a message as items (none when all it classified was normal). Raises BadPayload."""
    found = alerts.read(body)
    table.check_origin(found.site, found.id)
    items = [table.alert_item(found.site, found.device, found.id, one) for one in found.classified if one.anomaly]
    return table.Message(found.site, found.id, "ALERTS_TABLE", items)
