"""The dashboard's lines where nothing was measured for a while: nobody knows what was between, so nothing is drawn."""
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests import mermaid_rig
from tests.web_rig import SITE, Visit, answers, browser, dashboard, ended, one

__all__ = ["browser", "ended", "one"]
pytestmark = pytest.mark.skipif(mermaid_rig.missing() is not None, reason=str(mermaid_rig.missing()))
MINUTE_MS = 60_000

# Is anything of the line's colour in the column at this share of the plot's width?
INKED = """([where, share]) => {
  const box = document.querySelector(where), canvas = box.querySelector("canvas");
  const seen = canvas.getBoundingClientRect(), plot = box.querySelector(".u-over").getBoundingClientRect();
  const column = Math.round((plot.left - seen.left + share * plot.width) * canvas.width / seen.width);
  const pixels = canvas.getContext("2d").getImageData(column - 1, 0, 3, canvas.height).data;
  for (let at = 0; at < pixels.length; at += 4)
    if (pixels[at + 3] > 200 && pixels[at] < 80 && pixels[at + 1] < 120 && pixels[at + 2] < 140) return true;
  return false;
}"""


def measured(one: Visit, moments: Iterable[int]) -> None:
    """From now on these (ms) are when pi-1 measured."""
    like = dashboard().get(f"/sites/{SITE}/devices/pi-1/readings?limit=1")["readings"][0]
    rows = [{**like, "number": at_ms * 1000, "at": at_ms, "received": at_ms, "mark": None} for at_ms in moments]
    answers(one.page, f"sites/{SITE}/devices/pi-1/readings*", lambda: {"next": None, "readings": rows[::-1]})


def inked(one: Visit, where: str, share: float) -> bool:
    return bool(one.page.evaluate(INKED, [where, share]))


def test_a_line_stops_where_readings_stayed_away_and_one_alone_is_a_point(one: Visit) -> None:
    start_ms = (int(time.time()) - 600) * 1000
    measured(one, [*range(start_ms, start_ms + 120_000, 500), start_ms + 300_000,
                   *range(start_ms + 480_000, start_ms + 600_000, 500)])
    one.open(f"#site={SITE}&device=pi-1&from={start_ms}&to={start_ms + 600_000}")
    one.says("#told", "481 readings, 0 anomalies, 2 gaps, the longest of 3 min")
    assert [inked(one, "#chart", share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)] == [True, False, True, False, True]
    one.page.get_by_text("The same as a table").click()
    one.page.locator("#as-table tbody tr").first.wait_for()
    assert one.page.locator("#as-table tbody tr").count() == 481, "what was put in to end the line is no reading"


def test_a_device_that_seldom_sends_has_no_gaps(one: Visit) -> None:
    start_ms = (int(time.time()) - 600) * 1000
    measured(one, range(start_ms, start_ms + 600_000, 30_000))
    one.open(f"#site={SITE}&device=pi-1&from={start_ms}&to={start_ms + 600_000}")
    one.says("#told", "20 readings, 0 anomalies")
    assert "gap" not in one.text("#told") and inked(one, "#chart", 0.475)


def test_rollups_and_persons_too(one: Visit) -> None:
    """Ten minutes with, forty without, ten with."""
    start_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS - 60 * MINUTE_MS
    minutes = [start_ms + n * MINUTE_MS for n in (*range(10), *range(50, 60))]

    def rollups(field: str) -> dict[str, Any]:
        total = {"n": 60, "mean": 2, "min": 1, "max": 3, "anomalies": 0}
        return {"next": None, "resolution": "minute", "rollups": [
            {"minute": datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ"), "readings": 60,
             "fields": {field: total}} for at_ms in minutes]}

    answers(one.page, f"sites/{SITE}/devices/pi-1/rollups*", lambda: rollups("sensor2"))
    answers(one.page, f"sites/{SITE}/devices/camera-01/rollups*", lambda: rollups("persons_detected"))
    one.open(f"#site={SITE}&device=pi-1&from={start_ms}&to={start_ms + 60 * MINUTE_MS}")
    one.says("#told", "sensor2 by minute: 1,200 readings, 0 anomalies, 1 gap of 41 min")
    one.page.locator("#persons canvas").first.wait_for()
    for where in ("#chart", "#persons .chart"):
        assert [inked(one, where, share) for share in (0.08, 0.3, 0.6, 0.9)] == [True, False, False, True], where
    assert inked(one, "#persons .chart", 9.5 / 60), "a mean holds until its minute is over"
