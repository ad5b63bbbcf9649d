"""GET /status and GET /health: from each site's newest status, and one read of a table, to answers."""
import os
from decimal import Decimal
from typing import Any

from contract import numbers
from lambdas import table
from lambdas.api_request import Answer, Request, cursor_of, limit_of, page
from lambdas.table_rollups import STATUS

LEDGER = ("committed", "delivered", "waiting", "dropped", "dead_lettered")  # per device, 0 when the bridge names none


def get_status(request: Request) -> Answer:
    """The ledger of each site as its bridge last told it; gaps: readings that a device's publisher dropped itself."""
    limit, after = limit_of(request), cursor_of(request, r"[a-zA-Z0-9:_-]{1,128}")
    items = table.query("ROLLUPS_TABLE", STATUS, after[0] + "!" if after else " ", "~")
    sites, following = page((((item["sk"], 0), _status(item)) for item in items), limit)
    return 200, {"sites": sites, "next": following}


def _status(item: dict[str, Any]) -> dict[str, Any]:
    """age_s: since the cloud stored it, by the cloud's clock. A status of a later version keeps its further fields."""
    told = numbers.loads(item["status"])
    devices = [{"device": device, **dict.fromkeys(LEDGER, 0), **counts, "gaps": counts.get("skipped", 0)}
               for device, counts in sorted(told.get("devices", {}).items())]
    of_site = {key: value for key, value in told.items() if key not in ("v", "thing", "devices")}
    age_s = numbers.canonical(Decimal(max(0, table.now_ms() - int(item["stored"]))) / 1000)
    return {"site": item["site"], "age_s": age_s, **of_site, "devices": devices}


def get_health(request: Request) -> Answer:
    """One read of the readings table shows that the API can do its work."""
    table.client("dynamodb").get_item(TableName=table.name("READINGS_TABLE"),
                                      Key=table.to_attributes({"pk": "health", "sk": "health"}))
    return 200, {"status": "ok", "version": os.environ.get("EDGECLOUD_VERSION", "unknown")}
