"""The dashboard's page for who glances: what it says in short, what is normal, whom it can be read by."""
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from contract import numbers
from edge_bridge import status as bridge_status
from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import factory
from tests import mermaid_rig
from tests.messages import by_rule
from tests.outbox_rig import Parts
from tests.test_bridge_status import ledger
from tests.web_rig import OTHER, SITE, Visit, answers, browser, dashboard, ended, one, sites, visit

__all__ = ["browser", "ended", "one"]
pytestmark = pytest.mark.skipif(mermaid_rig.missing() is not None, reason=str(mermaid_rig.missing()))
HOUR_S = 3600
ODD_NAMES = ("<img src=x onerror=window.ran=1>", "ü" * 64, "W" * 128)

# For every text on the page: its contrast with what is behind it, as WCAG 2 reckons it.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => one
    ? over(rgba(getComputedStyle(one).backgroundColor), behind(one.parentElement)) : [255, 255, 255];
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !one.checkVisibility() || one.matches("script, option, .skip")) continue;
    const back = behind(one), [a, b] = [light(over(rgba(getComputedStyle(one).color), back)), light(back)];
    found[walk.currentNode.data.trim().slice(0, 40)] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""


def test_in_short_what_is_wrong(one: Visit) -> None:
    one.open()
    one.says("#summary", "1 of 2 sites not well")
    one.says("#summary", f"{OTHER}: no receipt")
    one.says("#summary", "1 open incident")
    assert one.page.title() == "! 1 of 2 sites not well · EdgeCloud"
    one.page.locator("#summary").get_by_role("button", name="pi-1 · sensor2").click()
    one.page.wait_for_url("**/#site=*from=*")
    assert one.complaints == []


def readings_until(one: Visit, last_ms: Callable[[], int]) -> None:
    """From now on the page gets 20 s of pi-1's readings, ten a second, that end then."""
    like = dashboard().get(f"/sites/{SITE}/devices/pi-1/readings?limit=1")["readings"][0]

    def newest() -> dict[str, Any]:
        last = last_ms()
        return {"next": None, "readings": [{**like, "number": at_ms * 1000, "at": at_ms, "received": at_ms}
                                           for at_ms in range(last, last - 20_000, -100)]}

    answers(one.page, f"sites/{SITE}/devices/pi-1/readings*", newest)


def now_ms() -> int:
    return int(time.time() * 1000)


def test_in_short_all_is_well(one: Visit) -> None:
    readings_until(one, now_ms)
    answers(one.page, "status*", lambda: sites(dropped=0, lost=0, skipped=0))
    answers(one.page, "incidents*", lambda: {"incidents": [], "next": None})
    one.open()
    one.says("#summary", "Everything arrives")
    one.says("#summary", "1 site, 2 devices")
    one.says("#summary", "No reading is missing.")
    one.says("#summary", "Nothing unusual")
    assert one.page.title() == "EdgeCloud"
    one.page.unroute_all()
    readings_until(one, now_ms)
    answers(one.page, "status*", lambda: sites(dropped=2, lost=0, skipped=3))
    one.says("#summary", "5 readings missing since the bridges were set up")


def test_in_short_nobody_knows_what_a_silent_site_measures(one: Visit) -> None:
    answers(one.page, "status*", lambda: sites(age_s=HOUR_S))
    answers(one.page, "incidents*", lambda: {"incidents": [], "next": None})
    one.open()
    one.says("#summary", f"{SITE}: silent")
    one.says("#summary", "Measurements not known")


def test_the_band_is_what_the_bridge_says_now_and_of_the_field_that_is_shown(one: Visit) -> None:
    """Of sensor1 nobody says what is normal; where the bridge is silent, it is what it said last."""
    one.open(f"#site={SITE}&device=pi-1&range=1h")
    assert dashboard().get("/status")["sites"][0]["devices"][0]["normal"] == {"sensor2": [numbers.loads("0.31"),
                                                                                         numbers.loads("0.69")]}
    one.says("#told", "normal now: 0.31 to 0.69")
    one.says("#chart .u-legend", "normal up to")
    one.page.locator("#field").select_option("sensor1")
    one.says("#told", "sensor1 by minute: 480 readings")
    assert "normal" not in one.text("#told") and "normal" not in one.text("#chart .u-legend")
    one.page.locator("#field").select_option("sensor2")
    answers(one.page, "status*", lambda: sites(age_s=HOUR_S))
    one.says("#told", "normal when last heard: 0.31 to 0.69")
    one.page.unroute_all()
    bare = [{"device": "pi-1", "delivered": 1, "waiting": 0, "dropped": 0}]
    answers(one.page, "status*", lambda: sites(devices=bare))
    one.says("#told", "normal at the newest anomaly: 0.3 to 0.7")
    answers(one.page, "incidents*", lambda: {"incidents": [], "next": None})
    one.page.wait_for_function("() => !document.getElementById('told').textContent.includes('normal')")
    assert "normal" not in one.text("#chart .u-legend")


def test_what_a_bridges_detector_finds_normal_is_on_the_page(one: Visit, tmp_path: Path) -> None:
    """Without any anomaly: from the detector's newest verdict, by the ledger, the table and the API."""
    one.open(f"#site={SITE}&device=pi-1&range=1h")
    parts = Parts(tmp_path / "outbox.db", scoring=True, now_s=time.time())
    parts.commit(*[("pi-1", 0.5 + 37 * n % 100 / 1000) for n in range(100)])
    scorer = Scorer(parts.rows, factory("forest"), fields=("sensor2",), alert_all=False, raised=lambda: None)
    while scorer.score_round():
        pass
    [(low, high)] = [bands["sensor2"] for bands in scorer.normal().values()]
    assert low < 0.5 < 0.6 < high and parts.counters.total("anomalies") == 0
    dashboard().stored("status", by_rule(bridge_status.message(ledger(parts, normal=scorer.normal).status())))
    parts.store.close()
    one.says("#told", f"normal now: {low:.4g} to {high:.4g}")


def test_only_what_can_be_drawn_is_a_link(one: Visit) -> None:
    """A camera has no measurement to choose."""
    devices = [{"device": name, "delivered": 5, "waiting": 0, "dropped": 0} for name in ("camera-01", "pi-1")]
    answers(one.page, "status*", lambda: sites(devices=devices))
    one.open()
    rows = one.page.locator("#sites tbody tr")
    assert [rows.nth(at).get_by_role("button").count() for at in (0, 1)] == [0, 1]


def test_devices_of_any_name(browser: Browser) -> None:
    """Nothing of a name is taken as markup, and none is so long that a phone must be scrolled."""
    devices = [{"device": name, "delivered": 5, "waiting": 0, "dropped": 0} for name in ODD_NAMES]
    incident = dashboard().get("/incidents")["incidents"][0]
    with visit(browser, "phone", is_mobile=True, has_touch=True) as one:
        answers(one.page, "status*", lambda: sites(devices=devices))
        answers(one.page, "devices", lambda: {"devices": [
            {"site": SITE, "device": name, "kinds": ["readings", "events"]} for name in ODD_NAMES]})
        answers(one.page, "incidents*", lambda: {"incidents": [
            {**incident, "device": name} for name in ODD_NAMES], "next": None})
        answers(one.page, "sites/*/devices/*/readings*", lambda: dashboard().get(
            f"/sites/{SITE}/devices/pi-1/readings?limit=100") | {"next": None})
        answers(one.page, "sites/*/devices/*/rollups*", lambda: dashboard().get(
            f"/sites/{SITE}/devices/camera-01/rollups"))
        one.open()
        for name in ODD_NAMES:
            for part in ("#sites", "#incidents", "#persons", "#summary"):
                one.says(part, name)
        one.page.locator("#device").select_option(label=f"{ODD_NAMES[0]} ({SITE})")
        one.page.wait_for_url("**device=%3Cimg*")
        one.drawn()
        assert one.page.evaluate("window.ran") is None and one.page.locator("main img").count() == 0
        assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert one.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Browser, scheme: Any) -> None:
    with visit(browser, color_scheme=scheme) as one:
        one.open()
        one.page.get_by_text("The same as a table").click()
        one.page.locator("#as-table tbody tr").first.wait_for()
        found: dict[str, float] = one.page.evaluate(CONTRASTS)
        assert len(found) > 100
        assert {text: ratio for text, ratio in found.items() if ratio < 4.5} == {}
        one.page.context.set_offline(True)
        one.says("#link", "this machine is offline")
        assert one.page.evaluate(CONTRASTS)[one.text("#link")[:40]] >= 4.5


def test_nothing_moves_for_whom_that_is_too_much(browser: Browser) -> None:
    with visit(browser, reduced_motion="reduce") as one:
        one.open()
        one.page.locator("#chart").evaluate("(chart) => chart.classList.add('waiting')")
        assert one.page.evaluate("""() => [...document.querySelectorAll('*')].map((one) => [one, getComputedStyle(one)])
            .filter(([, style]) => parseFloat(style.transitionDuration) > 0 || style.animationName !== "none")
            .map(([one]) => one.outerHTML)""") == []


def test_tab_goes_through_the_page_from_top_to_bottom(one: Visit) -> None:
    one.open()
    seen: list[list[float]] = []
    for _ in range(60):
        one.page.keyboard.press("Tab")
        where = one.page.evaluate("""() => { const one = document.activeElement, box = one.getBoundingClientRect();
            return one === document.body ? null : [box.top + scrollY, one.matches('.skip') ? 0 : 1]; }""")
        if where is None:
            break
        seen.append(where)
    tops = [top for top, counts in seen if counts]
    assert len(tops) > 10 and all(later > before - 40 for before, later in itertools.pairwise(tops))


def test_readings_that_stay_away_are_told(one: Visit) -> None:
    """The API answers and the bridge is heard, and yet what is on the page is not of now."""
    stopped_ms: list[int] = []
    answers(one.page, "status*", lambda: sites(dropped=0, lost=0, skipped=0))
    readings_until(one, lambda: stopped_ms[0] if stopped_ms else now_ms())
    one.open(f"#site={SITE}&device=pi-1")
    one.says("#link", "up to date")
    one.says("#summary", "Everything arrives")
    stopped_ms.append(now_ms())
    one.says("#link", "no reading since")
    one.says("#summary", "Readings stay away")
    stopped_ms.clear()
    one.says("#link", "up to date")
    assert one.complaints == []
