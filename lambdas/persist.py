"""From the queues `readings` and `events` (sealed batches, as the IoT rules hand them on) to the readings table.

When all items of a batch are stored, the receipt goes to the bridge.
"""
from typing import Any

from contract import batch
from contract.errors import BadPayload
from lambdas import table, table_delivery, table_devices, table_items


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """SQS records -> items -> receipts; answers with the records that failed."""
    return table_delivery.deliver(event, context, opened, _noted)


def _noted(message: table_delivery.Message, record_id: str) -> None:
    """Enter its devices among those that the API lists: the roll-ups, which do so too, come a window later."""
    for item in message.items:
        table_devices.note(table_devices.entry_of(item))


def opened(body: str) -> table_delivery.Message:
    """A batch as items: one per series of readings, one per event. Raises BadPayload, or what unpacking raises."""
    found = batch.read(body)
    table_delivery.check_origin(found.site, found.id)
    site = table.site_of(found.site)
    if found.kind == "readings":
        items = [table_items.readings_item(site, found.id, series) for series in found.series]
    elif found.kind == "events":
        items = [table_items.event_item(site, series["device"], row)
                 for series in found.series for row in batch.unpack(series)]
    else:
        raise BadPayload("unknown kind", f"got {found.kind!r:.40}, expected readings or events; deploy the newer cloud")
    return table_delivery.Message(found.site, found.id, "READINGS_TABLE", items)
