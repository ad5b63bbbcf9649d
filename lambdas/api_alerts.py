"""GET /alerts: from the alerts table to the anomalies of a day."""
from typing import Any

from lambdas import table
from lambdas.api_request import Answer, Request, cursor_of, day_of, limit_of, page


def get_alerts(request: Request) -> Answer:
    """Anomalies received on a UTC day (?day, by default today), latest first."""
    day, limit = day_of(request), limit_of(request)
    after = cursor_of(request, r"[0-9]{13}#.{1,300}#[0-9]{17}")
    items = table.query_index("ALERTS_TABLE", table.BY_DAY, ("day", "recent"), (day, after[0] if after else "~"))
    alerts, following = page((((item["recent"], 0), _alert(item)) for item in items), limit)
    return 200, {"day": day, "alerts": alerts, "next": following}


def _alert(item: dict[str, Any]) -> dict[str, Any]:
    order = ("site", "device", "number", "received", "timestamp", "at", "field", "value", "sensor2", "score")
    return {key: item[key] for key in order if key in item}
