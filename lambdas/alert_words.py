"""The words of a notice: an incident, a night of them, or a silent bridge in; a subject and a body for a person out.

A subject is ASCII of at most 99 characters on one line, since SNS takes no other; names in it that are not become '?'.
"""
import logging
import os
import urllib.parse
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from contract import alerts, incidents
from lambdas import table
from lambdas.table_incidents import severity

MOST_SUBJECT = 99  # characters
MOST_LISTED = 50  # incidents in one summary
WHAT = {"spike": "a reading far outside", "shift": "it has moved to another level", "flat": "it stands still",
        "unusual": "readings seldom seen like this"}
log = logging.getLogger(__name__)


class Notice(NamedTuple):
    """What is published: subject, body, and attributes by which a subscriber may filter."""

    subject: str
    body: str
    attributes: dict[str, str]


def of_incident(item: table.Item, now_ms: int) -> Notice:
    """One incident."""
    grave, what = severity(item), f"{item['device']} at {item['site']}"
    closed = item["state"] == alerts.CLOSED
    lines = [
        f"{what}: {item.get('field', 'a measurement')} is not as it normally is"
        f" ({WHAT.get(str(item.get('reason')), 'no reason given')}).", "",
        f"  farthest out    {_number(item['peak'])}   (normal: {_band(item)})",
        f"  anomalies       {item['count']}{'' if closed else ' so far'}",
        f"  began           {moment(int(item['opened']))}",
        *([f"  last one        {moment(int(item['seen']))}"] if "seen" in item else []),
        *([f"  over since      {moment(int(item['closed']))}"] if closed else []),
        f"  severity        {grave}", "",
        *_where_to_look(item), "",
        f"One notice is sent per incident ({item['incident']}); this one {moment(now_ms)}."]
    subject = f"[{grave}] {what}: {item.get('field', 'anomaly')} = {_number(item['peak'])}, normal {_band(item)}"
    return Notice(_subject(subject), "\n".join(lines), {
        "kind": "incident", "severity": grave, "site": item["site"], "device": item["device"]})


def of_night(items: Sequence[table.Item], now_ms: int) -> Notice:
    """The incidents that quiet hours held back, gravest first, in one notice."""
    ordered = sorted(items, key=lambda item: (_grade(item), int(item["opened"])))
    lines = [f"{len(items)} incident{'s' if len(items) > 1 else ''} came in the quiet hours:", ""]
    for item in ordered[:MOST_LISTED]:
        over = "still going on" if item["state"] == alerts.OPEN else f"over since {moment(int(item['closed']))}"
        lines.append(f"  [{severity(item)}] {item['device']} at {item['site']}: {item.get('field', 'anomaly')} = "
                     f"{_number(item['peak'])}, normal {_band(item)}, {item['count']} anomalies, "
                     f"began {moment(int(item['opened']))}, {over}")
    if len(ordered) > MOST_LISTED:
        lines.append(f"  ... and {len(ordered) - MOST_LISTED} more")
    grave = severity(ordered[0])
    days = sorted({table.day_text(int(item["opened"])) for item in items})
    lines += ["", "All of them: " + ", ".join(f"GET /incidents?day={day}" for day in days)]
    return Notice(_subject(f"[{grave}] {len(items)} incident{'s' if len(items) > 1 else ''} in the quiet hours"),
                  "\n".join(lines), {"kind": "summary", "severity": grave})


def of_silence(site: str, since_ms: int, why: str) -> Notice:
    """A bridge that is not heard of any more. It is critical: while it lasts, nobody would learn of anything else."""
    lines = [f"The bridge of {site} has been silent since {moment(since_ms)}: {why}.", "",
             "Nothing is lost by that: the bridge (or, if that is off, each Pi) keeps what it has and sends it later.",
             "But no alert comes from there meanwhile.", "",
             "What to do: is its machine on, does the container run, is there a network? Then, beside the bridge:",
             "  make doctor", "",
             "When it is back there will be one more notice, and none in between."]
    return Notice(_subject(f"[critical] the bridge of {site} is silent"), "\n".join(lines),
                  {"kind": "silent", "severity": "critical", "site": site})


def of_return(site: str, since_ms: int, back_ms: int) -> Notice:
    """The bridge is heard of again."""
    body = (f"The bridge of {site} is back: it told its status {moment(back_ms)}. It was silent since "
            f"{moment(since_ms)}.\n\nWhat it kept meanwhile is being sent, the oldest alerts first.")
    return Notice(_subject(f"[info] the bridge of {site} is back"), body,
                  {"kind": "back", "severity": "info", "site": site})


def moment(at_ms: int) -> str:
    """To the second, by the user's clock: "2026-11-22 07:24:00 UTC"."""
    return local_time(at_ms).strftime("%Y-%m-%d %H:%M:%S %Z")


def local_time(at_ms: int) -> datetime:
    """A moment by the clock of TIME_ZONE, such as Europe/Stockholm; by UTC where that zone is not known."""
    name = os.environ.get("TIME_ZONE", "UTC")
    zone: tzinfo = UTC
    try:
        zone = UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
    except zoneinfo.ZoneInfoNotFoundError:
        log.error("time zone %s is not known here; UTC is taken in its place", name)
    return datetime.fromtimestamp(at_ms / 1000, zone)


def _grade(item: table.Item) -> int:
    return -incidents.SEVERITIES.index(severity(item))


def _number(value: Any) -> str:
    """As a person writes it: six digits are enough to see what is wrong, and no zeros after them."""
    number = Decimal(f"{Decimal(value):.5e}").normalize()
    return f"{number:f}" if number == 0 or -5 <= number.adjusted() < 9 else f"{number:e}"


def _band(item: table.Item) -> str:
    if "low" not in item or "high" not in item:
        return "not told"
    return f"{_number(item['low'])} to {_number(item['high'])}"


def _where_to_look(item: table.Item) -> list[str]:
    """What the reader can do next: the readings around it, and all incidents of the day."""
    site, device = (urllib.parse.quote(item[part], safe="") for part in ("site", "device"))
    began_s = int(item["opened"]) // 1000
    lines = ["Look at the readings around it:",
             f"  GET /sites/{site}/devices/{device}/readings?from={began_s - 60}&to={began_s + 240}",
             f"  GET /incidents?day={table.day_text(int(item['opened']))}"]
    region = os.environ.get("AWS_REGION", "")
    if region and os.environ.get("INCIDENTS_TABLE"):
        lines += ["or in the AWS console:",
                  f"  https://{region}.console.aws.amazon.com/dynamodbv2/home?region={region}"
                  f"#item-explorer?table={os.environ['INCIDENTS_TABLE']}"]
    return lines


def _subject(text: str) -> str:
    one_line = " ".join(text.split())
    plain = "".join(char if " " <= char <= "~" else "?" for char in one_line)
    return plain if len(plain) <= MOST_SUBJECT else plain[:MOST_SUBJECT - 3] + "..."
