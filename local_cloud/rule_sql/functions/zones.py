"""Time zones by the names that Joda-Time and the JDK know: regions, offsets, and the common abbreviations."""

from __future__ import annotations

import functools
import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_OFFSET = re.compile(r"(?:UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{2})(?::?(\d{2}))?)?")
_ZERO = {"UTC", "GMT", "UT", "Z", "Etc/UTC", "Etc/GMT", "Zulu", "Universal"}
_REGION_OF = {
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "CST": "America/Chicago",
    "CDT": "America/Chicago",
    "MST": "America/Denver",
    "MDT": "America/Denver",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
    "CET": "Europe/Paris",
    "CEST": "Europe/Paris",
    "BST": "Europe/London",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
}


@functools.lru_cache(maxsize=256)
def zone_named(name: str) -> tzinfo | None:
    """The zone of a region ("Europe/Paris"), an offset ("+01:00", "UTC+1") or an abbreviation; None when unknown."""
    if name in _ZERO:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        return _fixed(offset[1], int(offset[2]), int(offset[3] or 0), int(offset[4] or 0))
    try:
        return ZoneInfo(_REGION_OF.get(name, name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Besides unknown names, zoneinfo answers odd keys ("../x", a directory) with these.
        return None


def _fixed(direction: str, hours: int, minutes: int, seconds: int) -> tzinfo | None:
    if hours > 18 or minutes > 59 or seconds > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-offset if direction == "-" else offset)


def offset_text(offset: timedelta, separator: str) -> str:
    """+0130 or, with ":" as separator, +01:30."""
    minutes = int(offset.total_seconds() // 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{separator}{abs(minutes) % 60:02}"


MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August"]
MONTHS += ["September", "October", "November", "December"]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

_TOKEN = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|(.)", re.S)


def tokens_of(pattern: str) -> list[tuple[str, int]] | None:
    """A date pattern as (letter, count) and (literal text, 0), in order; None for an unclosed quote."""
    tokens: list[tuple[str, int]] = []
    for match in _TOKEN.finditer(pattern):
        quoted, run, letter, other = match.groups()
        if other == "'":
            return None
        if run:
            tokens.append((letter, len(run)))
        else:
            # '' is one quote, inside quotes and outside.
            tokens.append((other or (quoted.replace("''", "'") if quoted else "'"), 0))
    return tokens
