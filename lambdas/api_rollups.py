"""GET …/rollups: from the roll-ups table to totals per minute, hour or day, and field."""
from decimal import Context, Decimal
from typing import Any

from contract import numbers, rollups
from lambdas import table, table_rollups
from lambdas.api_request import (
    Answer,
    Problem,
    Request,
    check_known,
    cursor_of,
    device_of,
    limit_of,
    moment_of,
    page,
)
from lambdas.table_rollups import DAY, HOUR, MINUTE, RESOLUTIONS

AUTO = "auto"
# Resolution auto: by minute up to 6 hours, by hour up to 30 days; 360 and 720 points, what a chart can show.
LONGEST_MS = {MINUTE: 6 * rollups.HOUR_MS, HOUR: 30 * rollups.DAY_MS}
_ROUND = Context(prec=34)


def get_rollups(request: Request) -> Answer:
    """Totals per minute, hour or day (?resolution) and field, oldest first; those that begin from <= start < to, by
    default the last hour's minutes. Hours and days are up to 5 min behind."""
    site, device = device_of(request)
    now_ms = table.now_ms()
    to_ms = moment_of(request, "to", now_ms)
    from_ms = moment_of(request, "from", to_ms - 60 * rollups.MINUTE_MS)
    if from_ms >= to_ms:
        raise Problem(400, "from is not before to; expected from <= start < to.")
    resolution = _resolution(request, from_ms, to_ms, now_ms)
    limit, after = limit_of(request), cursor_of(request, RESOLUTIONS[resolution] + r"[0-9-]{10}(T[0-9:]{5}Z)?")
    # The hour that `from` lies in belongs to what is asked for, and so does its day.
    low = after[0] + "~" if after else table_rollups.key(resolution, table_rollups.start_of(resolution, from_ms))
    high = table_rollups.key(resolution, to_ms - 1)
    items = table.query("ROLLUPS_TABLE", table.device_key(site, device), low, high) if low <= high else iter(())
    found, following = page((((item["sk"], 0), _rollup(resolution, item)) for item in items), limit)
    if not found:
        check_known(site, device)
    return 200, {"site": site, "device": device, "resolution": resolution, "rollups": found, "next": following}


def _resolution(request: Request, from_ms: int, to_ms: int, now_ms: int) -> str:
    """What is asked for; `auto` takes the finest that fits the span and is still kept at its beginning.

    The pages after the first keep the resolution that their cursor is of.
    """
    asked = request.query.get("resolution", MINUTE)
    if asked in RESOLUTIONS:
        return asked
    if asked != AUTO:
        raise Problem(400, f"resolution is {asked[:20]!r}; expected {', '.join(RESOLUTIONS)} or {AUTO}.")
    cursor = cursor_of(request, r"[mhd]#.{10,17}")
    if cursor:
        return next(name for name, prefix in RESOLUTIONS.items() if cursor[0].startswith(prefix))
    kept_ms = table.kept_days(table.MINUTES) * rollups.DAY_MS
    if to_ms - from_ms <= LONGEST_MS[MINUTE] and from_ms > now_ms - kept_ms:
        return MINUTE
    return HOUR if to_ms - from_ms <= LONGEST_MS[HOUR] else DAY


def _rollup(resolution: str, item: dict[str, Any]) -> dict[str, Any] | None:
    fields = {field: {**total._asdict(), "mean": numbers.canonical(_ROUND.divide(total.sum, Decimal(total.n)))}
              for field, total in table_rollups.totals_of(item).items()}
    found = {resolution: item["sk"][2:], "untrusted": item.get("untrusted", False), "fields": fields}
    return found if fields else None  # no entry left: its event was received again, in another minute
