"""What a run cost: the local cloud's bill (GET /bill) and the readings that were made come in, dollars a month and per
million readings go out, beside the plain design's; used by demo.py.

Readings are scaled by their number, the rest by time. Standing costs come with the bill.
"""
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import numbers, payloads, routes, topics
from deploy.cost_design import Design, load
from deploy.cost_messages import STATUS_EVERY_S
from deploy.cost_meters import ALERTS, API, EVENTS, LINK, READINGS, RECEIPTS, STANDING, STATUS, Lines, naive
from deploy.cost_site import Site, drive
from local_cloud.cost.prices import MONTH_S, Prices
from local_cloud.cost.prices import load as prices_of_today

DEFAULT_BATCH_AGE_S = 10
MILLION = 1e6
_ROUTES = [route.name for route in routes.ROUTES]
_HANDLERS = {"persist": READINGS, "aggregate": READINGS, "hours": READINGS, "alert": ALERTS, "status": STATUS,
             "api": API}
_MEASURED_READINGS = 2000  # of the plain design's messages: each costs the same


@dataclass(frozen=True)
class Ran:
    """What ran: the readings that publishers wrote down, how long they took, how many events and status messages;
    cameras: devices whose rows are events."""

    readings: list[dict[str, Any]]
    seconds: float
    events: int
    cameras: frozenset[str]
    statuses: int
    batch_age_s: float


def lines_of(bill: Mapping[str, Any], cameras: frozenset[str]) -> Lines:
    """The bill's rows on this product's lines."""
    lines, shared = Lines(), []
    for row in bill["rows"]:
        line = _line(row, cameras)
        if line is None:
            shared.append(row)
        else:
            lines.add(line, row["meter"], row["quantity"])
    _alerts_pay_for_their_receipts(lines, bill.get("publishes", {}))
    written = {line: lines.by_line[line]["dynamodb.write_unit"] for line in (READINGS, EVENTS)}
    total = sum(written.values()) or 1
    for row in shared:  # functions behind the tables' streams: in proportion to what was written for each
        for line, units in written.items():
            lines.add(line, row["meter"], row["quantity"] * units / total)
    return lines


def _alerts_pay_for_their_receipts(lines: Lines, publishes: Mapping[str, int]) -> None:
    """persist and alert send receipts on one topic: the messages are shared by how many each sent."""
    by_handler = {_handler(name): count for name, count in publishes.items()}
    of_alerts = by_handler.get("alert", 0) - lines.by_line[ALERTS]["sns.request"]
    total = of_alerts + by_handler.get("persist", 0)
    share = lines.by_line[RECEIPTS]["iot.message"] * of_alerts / total if total else 0
    lines.add(RECEIPTS, "iot.message", -share)
    lines.add(ALERTS, "iot.message", share)


def _line(row: Mapping[str, Any], cameras: frozenset[str]) -> str | None:
    """The line that a row belongs to; None: shared between readings and events."""
    service, resource, origin = row["meter"].partition(".")[0], row["resource"], row["origin"]
    if row["meter"] == "iot.message":
        return _message(resource)
    if row["meter"] in ("iot.connection_minute", "iot.shadow_operation"):
        return LINK
    if service in ("iot", "sqs", "firehose", "s3"):
        return _route(origin if service == "s3" else resource)
    handler = _handler(origin if service == "dynamodb" else resource)
    if handler not in _HANDLERS:
        return API if service == "api" else STANDING
    if service == "dynamodb":
        return _table(handler, origin.partition(" ")[2], cameras)
    if handler == "persist" and service == "lambda":
        return RECEIPTS if origin == "publishing" else _route(origin)
    return None if handler in ("aggregate", "hours") else _HANDLERS[handler]


def _message(topic: str) -> str:
    for prefix, line in ((topics.RECEIPTS, RECEIPTS), (topics.STATUS, STATUS), (topics.ALERTS, ALERTS)):
        if topic.startswith(prefix):
            return line
    return LINK


def _route(logical_id: str) -> str:
    return next((route for route in _ROUTES if logical_id.lower().startswith(route)), STANDING)


def _handler(logical_id: str) -> str:
    found = re.match(r"([A-Z][a-z]+)Function", logical_id)
    return found[1].lower() if found else ""


def _table(handler: str, partition: str, cameras: frozenset[str]) -> str:
    """Events and readings share tables: the partition, site#device, says whose it is."""
    line = _HANDLERS[handler]
    return EVENTS if line == READINGS and partition.partition("#")[2] in cameras else line


def by_assembly(bill: Mapping[str, Any], ran: Ran, directory: Path) -> dict[str, Any]:
    """The report's part on costs, with the design in this directory and the prices as the user has them."""
    return report(bill, ran, load(directory), prices_of_today())


def report(bill: Mapping[str, Any], ran: Ran, design: Design, prices: Prices) -> dict[str, Any]:
    """The report's part on costs; ValueError when there were no readings."""
    count = len(ran.readings)
    if not count:
        raise ValueError("no readings were made; a cost per reading needs some")
    lines = lines_of(bill, ran.cameras)
    month = MONTH_S / ran.seconds
    for route in (READINGS, EVENTS):  # the end of the run cut objects short; in the long run there is one a buffer
        lines.put(route, "s3.put", design.objects_a_month(route) / month)
    each = lines.usd(prices, READINGS) / count
    plain = plain_usd_each(ran.readings, prices)
    rate = count / ran.seconds
    monthly = {line: lines.usd(prices, line) * month for line in (READINGS, EVENTS, ALERTS, RECEIPTS, API)}
    monthly[LINK] = prices.usd("iot.connection_minute", MONTH_S / 60)
    monthly[STATUS] = (lines.usd(prices, STATUS) / ran.statuses * MONTH_S / STATUS_EVERY_S) if ran.statuses else 0.0
    monthly[STANDING] = sum(row["usd"] for row in bill["monthly"])
    site = Site(devices=len({one["device"] for one in ran.readings}), seconds=300, batch_age_s=DEFAULT_BATCH_AGE_S)
    at_default = drive(site, design, prices)
    default_each = at_default.lines.usd(prices, READINGS) / site.readings
    return {
        "cost_usd_per_million_readings": _rounded(each * MILLION),
        "cost_ratio_to_naive": _rounded(each / plain),
        "cost": {
            "prices_as_of": prices.as_of, "batch_age_s": ran.batch_age_s, "readings_per_s": _rounded(rate),
            "naive_usd_per_million_readings": _rounded(plain * MILLION),
            "naive_usd_per_month": _rounded(plain * rate * MONTH_S),
            "usd_per_month": {line: _rounded(usd) for line, usd in monthly.items()},
            "usd_per_month_in_all": _rounded(sum(monthly.values())),
            "readings_by_meter_usd_per_million": {
                meter: _rounded(usd / count * MILLION) for meter, usd in lines.parts(prices, READINGS).items()},
            "standing_by_meter_usd_per_month": _by_meter(bill["monthly"]),
            "measured_ms": bill["measured_ms"],
            "by_default": {
                "batch_age_s": DEFAULT_BATCH_AGE_S, "cost_usd_per_million_readings": _rounded(default_each * MILLION),
                "cost_ratio_to_naive": _rounded(default_each / plain),
                "readings_usd_per_month": _rounded(default_each * rate * MONTH_S)}}}


def span_s(readings: list[dict[str, Any]]) -> float:
    """How long the readings took to make, by their own timestamps."""
    at_ms = [payloads.at_ms(one["timestamp"]) for one in readings]
    return max(0.001, (max(at_ms) - min(at_ms)) / 1000) if at_ms else 0.0


def plain_usd_each(readings: list[dict[str, Any]], prices: Prices) -> float:
    """What one of these readings would cost in the plain design."""
    some = readings[:_MEASURED_READINGS]
    return naive(prices, map(_published, some)).usd(prices, READINGS) / len(some)


def _published(reading: Mapping[str, Any]) -> bytes:
    """A recorded reading as the message that it was, without the turn that our publisher adds."""
    message = payloads.sensor_reading(reading["timestamp"], reading["values"])
    return numbers.dumps({"device_id": reading["device"], **message}).encode()


def _by_meter(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for row in rows:
        found[row["meter"]] += row["usd"]
    return {meter: _rounded(usd) for meter, usd in found.items()}


def _rounded(value: float) -> float:
    """To four significant digits: prices are not known better."""
    return float(f"{value:.4g}")


def told(cost: Mapping[str, Any]) -> list[str]:
    """The lines that the demo ends with."""
    found, by_default = cost["cost"], cost["cost"]["by_default"]
    months = found["usd_per_month"]
    beside = ", ".join(f"{line} {months[line]:.2f}" for line in (EVENTS, ALERTS, RECEIPTS, STATUS, STANDING))
    return [
        f"cost on AWS: {found['readings_per_s']:g} readings/s come to {months[READINGS]:.2f} dollars a month, "
        f"{cost['cost_usd_per_million_readings']:.3f} per million readings, 1/{1 / cost['cost_ratio_to_naive']:.0f} of "
        f"one message, one Lambda and one item a reading ({found['naive_usd_per_month']:.2f} a month)",
        f"             at the bridge's default, BATCH_AGE={by_default['batch_age_s']}: "
        f"{by_default['readings_usd_per_month']:.2f} a month, "
        f"{by_default['cost_usd_per_million_readings']:.3f} per million, "
        f"1/{1 / by_default['cost_ratio_to_naive']:.0f}",
        f"             beside them each month: {beside}; in all {found['usd_per_month_in_all']:.2f}; docs/cost.md says "
        "what each cent is for"]
