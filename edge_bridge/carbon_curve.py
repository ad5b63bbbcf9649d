"""A curve: gCO2/kWh by time, as carbon_sources.py reads it from a provider or a file; kept by carbon_feed.py."""
import csv
import io
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

DAY_S, HOUR_S = 86400.0, 3600.0
LEAST_OF_A_DAY_S = 8 * HOUR_S
MOST_G = 5000.0  # oil in a bad plant is below 1,500: more is another unit
MOST_POINTS = 3000  # a month of quarter hours
# An assumption, not a measurement: gCO2/kWh by hour UTC, as a grid of wind, sun and gas often has it: sun at noon, a
# peak in the evening. No source is claimed for the figures; name a provider, or bring a file, to have your own grid's.
SCHEDULE = (300, 290, 285, 285, 295, 320, 350, 360, 340, 300, 260, 235,
            225, 225, 240, 270, 320, 380, 420, 430, 410, 380, 345, 320)

CLOUD_G = 40.0  # assumed: the intensity of eu-north-1's grid (Sweden), life cycle, is 20 to 50 gCO2/kWh


class BadCurve(ValueError):
    """What a provider or a file said cannot be used."""


class Curve:
    """points: {seconds since 1970: gCO2/kWh}, each holds until the next; daily: seconds of any day instead."""

    def __init__(self, points: Mapping[float, float], daily: bool = False) -> None:
        if len(points) > MOST_POINTS:
            raise BadCurve(f"got {len(points)} points, expected at most {MOST_POINTS}")
        self.daily = daily
        self.at_s = sorted(points)
        self.g = [points[at_s] for at_s in self.at_s]

    def now(self, now_s: float, most_age_s: float) -> float | None:
        """The intensity at a time; None when no point is there, or the last one before is older than this."""
        if self.daily:
            return self.g[bisect_right(self.at_s, now_s % DAY_S) - 1] if self.g else None
        index = bisect_right(self.at_s, now_s) - 1
        return None if index < 0 or now_s - self.at_s[index] > most_age_s else self.g[index]

    def day(self, now_s: float) -> list[float]:
        """The intensities of the 24 hours that end now and, as far as forecast, the 24 to come; none while they
        are less than 8 hours: the morning alone says nothing about the day."""
        if self.daily:
            return list(self.g)
        near = [(at_s, g) for at_s, g in zip(self.at_s, self.g, strict=True) if abs(at_s - now_s) <= DAY_S]
        return [g for _, g in near] if near and near[-1][0] - near[0][0] >= LEAST_OF_A_DAY_S else []

    def joined(self, newer: "Curve", now_s: float) -> "Curve":
        """Both, the newer one where they differ, without what is over a day old."""
        both = {**dict(zip(self.at_s, self.g, strict=True)), **dict(zip(newer.at_s, newer.g, strict=True))}
        return Curve({at_s: g for at_s, g in both.items() if at_s >= now_s - DAY_S - HOUR_S})


def built_in() -> Curve:
    """The schedule that is an assumption."""
    return Curve({hour * HOUR_S: float(g) for hour, g in enumerate(SCHEDULE)}, daily=True)


def fixed(g_per_kwh: float) -> Curve:
    """The same all day."""
    return Curve({0.0: g_per_kwh}, daily=True)


def grams(value: Any) -> float:
    """One intensity as a provider or file wrote it. Raises BadCurve."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= MOST_G:  # False for NaN
        raise BadCurve(f"got the intensity {value!r:.40}, expected 0 to {MOST_G:.0f} gCO2/kWh")
    return number


def seconds(value: Any) -> float:
    """One time as a provider or file wrote it: ISO 8601 (no zone: UTC) or seconds since 1970. Raises BadCurve."""
    try:
        if isinstance(value, str) and not value.strip().replace(".", "", 1).isdigit():
            at = datetime.fromisoformat(value.strip())
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < 2 ** 34:
        raise BadCurve(f"got the time {value!r:.40}, expected ISO 8601 or seconds since 1970")
    return number


def from_text(text: str) -> Curve:
    """A file's curve: CSV lines `time,gCO2`, with or without a line of names, or JSON `[[time, gCO2], …]`; times HH:MM
    (UTC) make a schedule for every day. Raises BadCurve."""
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else list(csv.reader(io.StringIO(text)))
    except (ValueError, RecursionError, csv.Error) as error:
        raise BadCurve(f"neither CSV nor JSON: {error}") from error
    rows = [row for row in rows if row]
    if rows and isinstance(rows[0], list) and not any(c.isdigit() for c in str(rows[0][0])):
        rows = rows[1:]  # the columns' names
    if not rows or not all(isinstance(row, list) and len(row) >= 2 for row in rows):
        raise BadCurve("no points; expected lines of time,gCO2 or JSON [[time, gCO2], …]")
    daily = [_second_of_day(row[0]) for row in rows]
    if all(second is not None for second in daily):
        return Curve(_points(zip(daily, (row[1] for row in rows), strict=True)), daily=True)
    return Curve(_points((seconds(row[0]), row[1]) for row in rows))


def _points(pairs: Iterable[tuple[Any, Any]]) -> dict[float, float]:
    return {float(at_s): grams(g) for at_s, g in pairs}


def _second_of_day(value: Any) -> float | None:
    hour, colon, minute = str(value).strip().partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal() and int(hour) < 24 and int(minute) < 60):
        return None
    return int(hour) * HOUR_S + int(minute) * 60.0
