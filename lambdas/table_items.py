"""Items of the readings and alerts tables: made of what a bridge sent (persist.py, alert.py, POST /data), and readings
and events made rows again (aggregate.py, the API).

An item is the same each time it is made, so that a repeat changes nothing.
"""
import decimal
import zlib
from decimal import Decimal
from typing import Any

from contract import batch, numbers, payloads, topics
from contract.errors import BadPayload
from lambdas import table

END_MS = payloads.LAST_SECOND * 1000


class Damaged(Exception):
    """An item of the readings table that cannot be read: which one, why, and what to do."""


def check_moment(moment_ms: Any, what: str) -> None:
    """Raise BadPayload unless it is a whole number of ms from 1970 to the year 9999.

    What was stored and named no day would hold up those who read it later: aggregate.py's stream, watch.py, the API.
    """
    if type(moment_ms) is not int or not 0 <= moment_ms < END_MS:
        raise BadPayload("bad moment", f"{what} is {moment_ms!r:.40}; expected ms since 1970, up to the year 9999")


def _exact(value: Any, what: str) -> Decimal:
    return numbers.canonical(numbers.check(value, what))


def _as_it_came(timestamp: Any) -> Any:
    return timestamp if isinstance(timestamp, str) else _exact(timestamp, "timestamp")


def readings_item(site: str, batch_id: str, series: table.Item) -> table.Item:
    """One device's series of one batch. Raises BadPayload, KeyError, ... when the series cannot be unpacked, or holds
    what its roll-ups could not."""
    rows = batch.unpack(series)
    _check_countable(rows)
    first = rows[0]
    return {
        "pk": table.device_key(site, topics.check_device(series["device"])),
        "sk": f"r#{int(first.number):017d}#{batch_id}", "kind": "readings", "site": site, "device": series["device"],
        "batch": batch_id, "number": first.number, "n": len(rows), "received": first.received_ms,
        "series": batch.stored(series), "expires_at": table.expires_at(first.received_ms),
    }


def _check_countable(rows: list[batch.Row]) -> None:
    for row in rows:
        check_moment(row.received_ms, "the receive time")
        try:
            for value in row.values.values():
                numbers.fit(value)
        except decimal.DecimalException:
            for field, value in row.values.items():
                numbers.check(value, field)  # raises the same with words
            raise


def event_item(site: str, device: str, row: batch.Row) -> table.Item:
    """One event; row.kafka is its identity (topic, partition, offset, record timestamp in ms). It names no batch."""
    topic, partition, offset, recorded_ms = row.kafka
    check_moment(row.received_ms, "the receive time")
    item = {
        "pk": table.device_key(site, topics.check_device(device)),
        "sk": f"e#{topic}#{partition}#{offset:020d}#{recorded_ms}", "kind": "event", "site": site, "device": device,
        "event": batch.event_id(*row.kafka), "event_number": row.number, "received": row.received_ms,
        "timestamp": _as_it_came(row.timestamp), "at": row.at_ms,
        "values": {field: _exact(value, field) for field, value in row.values.items()},
        "expires_at": table.expires_at(row.received_ms),
    }
    if row.extra:
        item["extra"] = numbers.dumps(row.extra)
    return item


def rows_of(item: table.Item) -> list[batch.Row]:
    """The rows (batch.Row) of a readings or an event item, in receive order. Raises Damaged."""
    try:
        if item["kind"] == "readings":
            return batch.unpack(item["series"])
        return [batch.Row(item["event_number"], item["received"], item["timestamp"], item["at"], None, None,
                          item["values"], numbers.loads(item.get("extra", "{}")), None, None)]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, zlib.error) as error:
        raise Damaged(f"the item {item.get('pk')}, {item.get('sk')} cannot be read ({error!r:.200}); make rebuild "
                      "FROM=<the day it arrived> makes it anew from the archive") from error


def alert_item(site: str, device: str, message_id: str, anomaly: Any) -> table.Item:
    """One anomaly (alerts.Classified); its identity is (site, device, receive number)."""
    check_moment(anomaly.received_ms, "the receive time")
    received_ms, number = anomaly.received_ms, int(anomaly.number)
    pk = table.device_key(site, topics.check_device(device))
    item = {
        "pk": pk, "sk": f"a#{number:017d}", "site": site, "device": device, "number": number,
        "timestamp": _as_it_came(anomaly.timestamp), "at": anomaly.at_ms, "received": received_ms,
        "field": anomaly.field, "message": message_id, "expires_at": table.expires_at(received_ms),
        "day": table.day_text(received_ms), "recent": f"{received_ms:013d}#{pk}#{number:017d}",
    }
    measured = {"value": anomaly.value, "sensor2": anomaly.sensor2, "score": anomaly.score}
    return item | {key: _exact(value, key) for key, value in measured.items() if value is not None}
