"""GET …/rollups?resolution: minutes, hours and days of one device, and which of them `auto` takes."""
import time
from decimal import Decimal
from typing import Any

import pytest

from contract.rollups import DAY_MS, HOUR_MS, Total
from lambdas import hours, table, table_devices, table_rollups
from tests.api_rig import get, refused
from tests.messages import SITE, T0_MS

PK = f"{SITE}#pi-1"
ROLLUPS = "/sites/{site}/devices/{device}/rollups"
PI = {"site": SITE, "device": "pi-1"}


@pytest.fixture(autouse=True)
def pi(tables: None) -> None:
    """The device has been heard of."""
    table_devices.note(table_devices.entry_of({"kind": "readings", "site": SITE, "device": "pi-1"}))


def stored(*starts_ms: int) -> None:
    """A minute with one reading at each of these, and their hours and days."""
    for index, start_ms in enumerate(starts_ms):
        key = {"pk": PK, "sk": table_rollups.key("minute", start_ms)}
        totals = {"sensor2": Total(2, Decimal(index), Decimal(index), Decimal(index), 1)}
        table.put_all("ROLLUPS_TABLE", [{**key, f"{index:024x}": table_rollups.entry(totals)}])
    assert hours.recompute({(PK, table_rollups.start_of("hour", ms)) for ms in starts_ms}) == []


def starts(resolution: str, answer: Any) -> list[str]:
    assert answer["resolution"] == resolution and (answer["site"], answer["device"]) == (SITE, "pi-1")
    return [one[resolution] for one in answer["rollups"]]


def test_minutes_hours_and_days_of_one_range() -> None:
    stored(T0_MS, T0_MS + 60_000, T0_MS + HOUR_MS, T0_MS + DAY_MS)
    span = {"from_": "2026-11-22T07:00Z", "to": "2026-11-24T00:00Z"}
    assert starts("minute", get(ROLLUPS, PI, **span)) == [
        "2026-11-22T07:24Z", "2026-11-22T07:25Z", "2026-11-22T08:24Z", "2026-11-23T07:24Z"]
    by_hour = get(ROLLUPS, PI, **span, resolution="hour")
    assert starts("hour", by_hour) == ["2026-11-22T07:00Z", "2026-11-22T08:00Z", "2026-11-23T07:00Z"]
    assert by_hour["rollups"][0] == {"hour": "2026-11-22T07:00Z", "untrusted": False, "fields": {
        "sensor2": {"n": 4, "sum": 1, "min": 0, "max": 1, "anomalies": 2, "mean": 0.25}}}
    assert starts("day", get(ROLLUPS, PI, **span, resolution="day")) == ["2026-11-22", "2026-11-23"]


def test_the_hour_that_the_range_begins_in_is_part_of_it_and_its_end_is_not() -> None:
    stored(T0_MS, T0_MS + HOUR_MS)
    assert starts("hour", get(ROLLUPS, PI, from_="2026-11-22T07:59Z", to="2026-11-22T08:00Z", resolution="hour")) == [
        "2026-11-22T07:00Z"]


def test_a_minute_whose_only_event_moved_to_another_is_none() -> None:
    stored(T0_MS)
    table.put_all("ROLLUPS_TABLE", [{"pk": PK, "sk": table_rollups.key("minute", T0_MS + 60_000), "untrusted": True}])
    answer = get(ROLLUPS, PI, from_="2026-11-22T07:00Z", to="2026-11-22T08:00Z")
    assert starts("minute", answer) == ["2026-11-22T07:24Z"]


@pytest.mark.parametrize(("ago", "span_ms", "want"), (
    (HOUR_MS, HOUR_MS, "minute"), (6 * HOUR_MS, 6 * HOUR_MS, "minute"), (7 * HOUR_MS, 7 * HOUR_MS, "hour"),
    (30 * DAY_MS, 30 * DAY_MS, "hour"), (31 * DAY_MS, 31 * DAY_MS, "day"), (400 * DAY_MS, HOUR_MS, "hour")))
def test_auto_takes_what_fits_the_span_and_is_still_kept(ago: int, span_ms: int, want: str,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(table.MINUTES, "90")
    from_ms = int(time.time() * 1000) - ago
    answer = get(ROLLUPS, PI, from_=from_ms // 1000, to=(from_ms + span_ms) // 1000, resolution="auto")
    assert starts(want, answer) == []


def test_pages_of_auto_stay_with_the_resolution_of_the_first() -> None:
    """Although `to`, left out, is later with each page, and the span may pass a limit."""
    now_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS
    stored(*(now_ms - hour * HOUR_MS for hour in range(1, 6)))
    span = {"from_": (now_ms - 7 * HOUR_MS) // 1000, "resolution": "auto", "limit": "3"}
    first = get(ROLLUPS, PI, **span, to=now_ms // 1000)
    assert starts("hour", first) == [table_rollups.minute_text(now_ms - hour * HOUR_MS) for hour in (5, 4, 3)]
    rest = get(ROLLUPS, PI, **span, to=now_ms // 1000 + 31 * 86400, cursor=first["next"])
    assert starts("hour", rest) == [table_rollups.minute_text(now_ms - hour * HOUR_MS) for hour in (2, 1)]
    assert rest["next"] is None


@pytest.mark.parametrize("resolution", ("second", "", "Minute", "m#", "x" * 5000))
def test_another_resolution_is_refused(resolution: str) -> None:
    assert "minute, hour, day or auto" in refused(400, f"GET {ROLLUPS}", PI, resolution=resolution)
