"""parse_time(): epoch milliseconds to text by a Joda-Time pattern (the name is AWS's; it formats)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.functions.zones import MONTHS, WEEKDAYS, offset_text, tokens_of, zone_named
from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.values import UNDEFINED, to_index

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(pattern: Any, timestamp_ms: Any, zone_name: Any = "UTC") -> Any:
    """The time as text; UNDEFINED for an unknown zone, a letter Joda does not know, or a year outside 1 … 9999."""
    text, at_ms, name = to_string(pattern), to_index(timestamp_ms), to_string(zone_name)
    if text is UNDEFINED or at_ms is UNDEFINED or name is UNDEFINED:
        return UNDEFINED
    zone, tokens = zone_named(name), tokens_of(text)
    if zone is None or not tokens:
        return UNDEFINED
    try:
        moment = (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
        return "".join(_field(letter, count, moment, name) if count else letter for letter, count in tokens)
    except (KeyError, OverflowError, ValueError):
        return UNDEFINED


def _field(letter: str, count: int, moment: datetime, zone_name: str) -> str:
    if letter in _NUMBERS:
        return str(_NUMBERS[letter](moment)).rjust(count, "0")
    if letter in _YEARS:
        year = _YEARS[letter](moment)
        return f"{year % 100:02}" if count == 2 else str(year).rjust(count, "0")
    return _TEXTS[letter](moment, count, zone_name)


def _month(moment: datetime, count: int, zone_name: str) -> str:
    if count < 3:
        return str(moment.month).rjust(count, "0")
    return _name(MONTHS[moment.month - 1], count)


def _name(full: str, count: int) -> str:
    return full if count > 3 else full[:3]


def _fraction(moment: datetime, count: int, zone_name: str) -> str:
    return f"{moment.microsecond // 1000:03}".ljust(count, "0")[:count]


def _zone_offset(moment: datetime, count: int, zone_name: str) -> str:
    if count > 2:
        return zone_name
    return offset_text(moment.utcoffset() or timedelta(0), ":" if count == 2 else "")


def _zone_text(moment: datetime, count: int, zone_name: str) -> str:
    zone: tzinfo | None = moment.tzinfo
    if zone is UTC:
        return "Coordinated Universal Time" if count > 3 else "UTC"
    if isinstance(zone, timezone):
        return offset_text(moment.utcoffset() or timedelta(0), ":")
    return moment.tzname() or zone_name


_NUMBERS: dict[str, Callable[[datetime], int]] = {
    "C": lambda moment: moment.year // 100,
    "D": lambda moment: moment.timetuple().tm_yday,
    "H": lambda moment: moment.hour,
    "K": lambda moment: moment.hour % 12,
    "d": lambda moment: moment.day,
    "e": lambda moment: moment.isoweekday(),
    "h": lambda moment: moment.hour % 12 or 12,
    "k": lambda moment: moment.hour or 24,
    "m": lambda moment: moment.minute,
    "s": lambda moment: moment.second,
    "w": lambda moment: moment.isocalendar().week,
}
_YEARS: dict[str, Callable[[datetime], int]] = {
    "Y": lambda moment: moment.year,
    "x": lambda moment: moment.isocalendar().year,
    "y": lambda moment: moment.year,
}
_TEXTS: dict[str, Callable[[datetime, int, str], str]] = {
    "E": lambda moment, count, zone_name: _name(WEEKDAYS[moment.weekday()], count),
    "G": lambda moment, count, zone_name: "AD",
    "M": _month,
    "S": _fraction,
    "Z": _zone_offset,
    "a": lambda moment, count, zone_name: "AM" if moment.hour < 12 else "PM",
    "z": _zone_text,
}

FUNCTIONS = {"parse_time": Function(parse_time, 2, 3)}
