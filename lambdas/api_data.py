"""GET /data: from the readings table, events of all cameras as a plain list; lambdas/api_post.py adds to it."""
import heapq
from collections.abc import Iterator
from typing import Any

from contract import topics
from lambdas import table, table_devices, table_items
from lambdas.api_request import Answer, Request, limit_of, page

SITE = "api"  # what POST /data stores belongs to this site ...
TOPIC = "post"  # ... and to this topic, with the receive number as its offset: its sort key sorts by it


def get_data(request: Request) -> Answer:
    """Events as a plain list, newest first (each device in the order of its receive numbers), up to 4 MB.

    An event that counts no persons is left out. What was posted is there at once; what a bridge sent, as soon as the
    index has it: well below a second.
    """
    limit, wanted = limit_of(request), request.query.get("device_id")
    if wanted is not None:
        topics.check_device(wanted)
    devices = table_devices.with_events()
    of_devices = [_newest_of(item["site"], item["device"], min(limit, 100))
                  for item in devices if wanted in (None, item["device"])]
    newest = heapq.merge(*of_devices, key=lambda item: -item["received"])
    counted = (((item["sk"], 0), shown(item) if "persons_detected" in item["values"] else None) for item in newest)
    return 200, page(counted, limit)[0]


def _newest_of(site: str, device: str, items: int) -> Iterator[table.Item]:
    pk = table.device_key(site, device)
    if site == SITE:  # an index cannot be read consistently
        return table.query("READINGS_TABLE", pk, f"e#{TOPIC}#", f"e#{TOPIC}#~", newest_first=True, page=items,
                           consistent=True)
    return table.query_index("READINGS_TABLE", table.EVENTS_BY_NUMBER, ("pk", "event_number"), (pk, 10 ** 17),
                             page=items)


def shown(item: table.Item) -> dict[str, Any]:
    """An event as it is answered: the three fields of the contract first, any further ones after them."""
    row = table_items.rows_of(item)[0]
    first = {"device_id": item["device"], "timestamp": row.timestamp,
             "persons_detected": row.values["persons_detected"]}
    return first | dict(sorted(row.values.items())) | row.extra
