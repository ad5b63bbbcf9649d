"""GET /incidents: from the incidents table to the open incidents, then those of a day that are over."""
from collections.abc import Iterator
from typing import Any

from lambdas import table, table_incidents
from lambdas.api_request import Answer, Cursor, Request, cursor_of, day_of, limit_of, page
from lambdas.table_incidents import OPEN

GOING_ON, OVER = 0, 1  # which part of the list a cursor stands in
_ORDER = ("site", "device", "state", "opened", "seen", "closed", "closed_by", "count", "peak", "field", "value", "low",
          "high", "score", "reason", "notice")


def get_incidents(request: Request) -> Answer:
    """Incidents, latest opened first: those that are open, then those opened on a UTC day that are closed.

    Without ?day: all open ones, whenever they were opened, and today's. With it: that day's alone.
    """
    day, limit = day_of(request), limit_of(request)
    after = cursor_of(request, r"[0-9]{13}#.{1,300}#[0-9a-f]{24}")
    found, following = page(_found(day, "day" in request.query, after), limit)
    return 200, {"day": day, "incidents": found, "next": following}


def _found(day: str, that_day_only: bool, after: Cursor | None) -> Iterator[tuple[Cursor, Any]]:
    if after is None or after[1] == GOING_ON:
        for item in _partition(OPEN, after):
            left_out = that_day_only and table.day_text(int(item["opened"])) != day
            yield (item["recent"], GOING_ON), None if left_out else _incident(item)
        after = None
    for item in _partition(day, after):
        yield (item["recent"], OVER), _incident(item)


def _partition(name: str, after: Cursor | None) -> Iterator[table.Item]:
    return table_incidents.latest_opened(name, after[0] if after else "~")


def _incident(item: table.Item) -> dict[str, Any]:
    return {"incident": item["incident"], "severity": table_incidents.severity(item),
            **{key: item[key] for key in _ORDER if key in item}}
