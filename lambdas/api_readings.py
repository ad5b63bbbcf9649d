"""GET …/readings and GET /devices: from the readings table and the list of devices to answers."""
import sys
from collections.abc import Iterator
from typing import Any

from contract import batch, rollups
from lambdas import table, table_devices, table_items
from lambdas.api_request import Answer, Cursor, Request, check_known, cursor_of, device_of, limit_of, moment_of, page


def get_readings(request: Request) -> Answer:
    """Readings of a device, latest receive number first; from <= moment < to, the moment as in the roll-ups."""
    site, device = device_of(request)
    limit, after = limit_of(request), cursor_of(request, r"r#[0-9]{17}#[0-9a-f]{24}")
    from_ms, to_ms = moment_of(request, "from", 0), moment_of(request, "to", sys.maxsize)
    found = _readings(table.device_key(site, device), after, from_ms, to_ms, min(limit + 1, 25))
    readings, following = page(found, limit)
    if not readings:
        check_known(site, device)
    return 200, {"site": site, "device": device, "readings": readings, "next": following}


def _readings(pk: str, after: Cursor | None, from_ms: int, to_ms: int, items: int) -> Iterator[tuple[Cursor, Any]]:
    high = after[0] if after else "r#~"
    for item in table.query("READINGS_TABLE", pk, "r#", high, newest_first=True, page=items):
        rows = table_items.rows_of(item)
        end = after[1] if after and item["sk"] == after[0] else len(rows)
        for index in reversed(range(min(end, len(rows)))):
            row = rows[index]
            moment_ms = row.at_ms if rollups.minute_of(row.at_ms, row.received_ms)[1] else row.received_ms
            yield (item["sk"], index), _reading(row) if from_ms <= moment_ms < to_ms else None
        if item["received"] < from_ms - rollups.AHEAD_MS - table.DAY_S * 1000:
            return  # the rest was received earlier, also where the bridge's clock was set back by up to a day


def _reading(row: batch.Row) -> dict[str, Any]:
    always = {"number": row.number, "received": row.received_ms, "timestamp": row.timestamp, "at": row.at_ms,
              "values": row.values}
    sometimes = {"mark": row.mark, "spool": row.spool, "seq": row.seq, "extra": row.extra or None}
    return always | {key: value for key, value in sometimes.items() if value is not None}


def get_devices(request: Request) -> Answer:
    """Every device that ever sent something, and of what kinds."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in table_devices.listed():
        kinds.setdefault((item["site"], item["device"]), []).append(item["kind"])
    return 200, {"devices": [{"site": site, "device": device, "kinds": kinds[site, device]}
                             for site, device in sorted(kinds)]}
