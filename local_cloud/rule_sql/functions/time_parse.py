"""time_to_epoch(): text to epoch milliseconds by a java.time (JDK 11) pattern, in English."""

from __future__ import annotations

import calendar
import functools
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.functions.time_format import EPOCH
from local_cloud.rule_sql.functions.zones import MONTHS, WEEKDAYS, tokens_of, zone_named
from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.values import UNDEFINED

_TWO_DIGITS = "dHhKkms"
_ZONE = r"(?:UTC|GMT|UT)?[+-]\d{1,2}(?::?\d{2}){0,2}|[A-Za-z][A-Za-z0-9_/+-]*"
_HHMM = r"[+-]\d{2}(?:\d{2})?"
_OFFSETS = {1: _HHMM, 2: r"[+-]\d{4}", 3: r"[+-]\d{2}:\d{2}", 4: r"[+-]\d{4}", 5: r"[+-]\d{2}:\d{2}"}
_GMT = r"GMT(?:[+-]\d{1,2}(?::\d{2})?)?"


def time_to_epoch(text: Any, pattern: Any) -> Any:
    """Milliseconds since 1970, in UTC when the text names no zone; UNDEFINED when it does not fit the pattern."""
    given, form = to_string(text), to_string(pattern)
    if given is UNDEFINED or form is UNDEFINED:
        return UNDEFINED
    expression = _expression(form)
    found = expression.fullmatch(given) if expression else None
    if found is None:
        return UNDEFINED
    fields: dict[str, str] = {}
    for name, value in found.groupdict().items():
        if value is not None and fields.setdefault(name[0], value) != value:
            return UNDEFINED
    try:
        return _epoch_ms(fields)
    except (ValueError, OverflowError):
        return UNDEFINED


@functools.lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str] | None:
    """The regular expression of a pattern, its groups named by letter and place; None for a faulty pattern."""
    tokens = tokens_of(pattern)
    parts = []
    for place, (letter, count) in enumerate(tokens or ()):
        if count == 0:
            parts.append({"[": "(?:", "]": ")?"}.get(letter) or re.escape(letter))
            continue
        field = _field(letter, count)
        if field is None:
            return None
        parts.append(f"(?P<{'y' if letter == 'u' else 'M' if letter == 'L' else letter}{place}>{field})")
    try:
        return re.compile("".join(parts), re.ASCII) if tokens else None
    except re.error:
        return None


def _field(letter: str, count: int) -> str | None:
    """What one run of a letter matches."""
    if letter in "yu":
        return r"\d{1,9}" if count in (1, 3) else rf"\d{{{count}}}"
    if letter in _TWO_DIGITS or (letter in "ML" and count < 3):
        return {1: r"\d{1,2}", 2: r"\d{2}"}.get(count)
    if letter in "MLE":
        return _names(MONTHS if letter in "ML" else WEEKDAYS, count)
    if letter in "Ox" or letter in "XZ":
        return _offset(letter, count)
    return {
        "D": rf"\d{{{count},3}}",
        "S": rf"\d{{{count}}}",
        "G": "AD|BC" if count < 4 else "Anno Domini|Before Christ",
        "a": "AM|PM",
        "n": r"\d{1,9}",
        "V": _ZONE if count == 2 else None,
        "z": _ZONE,
    }.get(letter)


def _names(names: list[str], count: int) -> str | None:
    if count > 4:
        return None
    return "|".join(name if count == 4 else name[:3] for name in names)


def _offset(letter: str, count: int) -> str | None:
    if letter == "O" or (letter == "Z" and count == 4):
        return _GMT
    if letter == "Z":
        return r"[+-]\d{4}" if count < 4 else r"Z|[+-]\d{2}:\d{2}"
    offset = _OFFSETS.get(count)
    return f"Z|{offset}" if offset and letter == "X" else offset


def _epoch_ms(fields: dict[str, str]) -> Any:
    zone = _zone(fields)
    if zone is None or "y" not in fields or fields.get("G", "A")[0] != "A":
        return UNDEFINED
    hour = _hour(fields)
    date = _date(fields)
    if hour is None or ("E" in fields and not WEEKDAYS[date.weekday()].startswith(fields["E"])):
        return UNDEFINED
    nanos = int(fields["S"].ljust(9, "0")[:9]) if "S" in fields else int(fields.get("n", "0"))
    moment = date.replace(hour=hour, minute=int(fields.get("m", "0")), second=int(fields.get("s", "0")), tzinfo=zone)
    # In UTC first: Python ignores a change of offset between two times of one zone.
    return (moment.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1) + nanos // 1_000_000


def _zone(fields: dict[str, str]) -> tzinfo | None:
    names = [fields[letter] for letter in "VzXxZO" if letter in fields]
    return zone_named(names[0]) if names else UTC


def _date(fields: dict[str, str]) -> datetime:
    """Midnight of the day; day and month default to 1. A 31st of a shorter month is its last day, as in the JDK."""
    year = int(fields["y"]) + (2000 if len(fields["y"]) == 2 else 0)
    if "D" in fields:
        return datetime(year, 1, 1) + timedelta(days=int(fields["D"]) - 1)
    month = fields.get("M", "1")
    number = int(month) if month.isdigit() else [name[:3] for name in MONTHS].index(month[:3]) + 1
    day = int(fields.get("d", "1"))
    if not 1 <= number <= 12 or not 1 <= day <= 31:
        raise ValueError(f"no such day: month {number}, day {day}")
    return datetime(year, number, min(day, calendar.monthrange(year, number)[1]))


def _hour(fields: dict[str, str]) -> int | None:
    """The hour of the day; None when a twelve-hour clock comes without AM or PM."""
    if "H" in fields or "k" in fields:
        return int(fields["H"]) if "H" in fields else int(fields["k"]) % 24
    half = fields.get("h", fields.get("K"))
    if half is None:
        return 0
    if "a" not in fields or int(half) > 12:
        return None
    return int(half) % 12 + (12 if fields["a"] == "PM" else 0)


FUNCTIONS = {"time_to_epoch": Function(time_to_epoch, 2, 2)}
