"""Bench row `dashboard`: how far behind the page is, in a real browser, over the whole template and a real bridge.

The bridge's batch age is that of an installation (10 s). First the page may not tell the bridges that somebody watches
(requests to /live are refused), then it may. Behind: now less the time of the newest reading on the chart, looked at
twenty times a second.
"""
import statistics
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from deploy import web
from deploy.pipeline import Pipeline, Plan
from deploy.processes import wait_until
from tests.bench.report import Row
from tests.mermaid_rig import QUIET, chromium

BATCH_AGE_S, UNWATCHED_S, WATCHED_S = 10.0, 12.0, 2.0
LOOK_S, QUICK_LOOK_S = 60.0, 15.0
EVERY_MS = 50
_WITHIN_S = 120.0
_NEWEST = "Number(document.getElementById('chart').dataset.newest ?? 0) / 1000"
_BEHIND = """([seconds, everyMs]) => new Promise((done) => {
  const found = [], until = Date.now() + 1000 * seconds, chart = document.getElementById("chart");
  const timer = setInterval(() => {
    found.push((Date.now() - Number(chart.dataset.newest)) / 1000);
    if (Date.now() >= until) { clearInterval(timer); done(found); }
  }, everyMs);
})"""


def dashboard(directory: Path, quick: bool) -> list[Row]:
    """Not watched, as far as the bridge knows, then watched."""
    look_s = QUICK_LOOK_S if quick else LOOK_S
    pipeline = Pipeline(Plan(directory, directory / "cdk.out", web_port=0, batch_age_s=BATCH_AGE_S))
    try:
        pipeline.start()
        web.publish(pipeline.client("s3"), pipeline.parameter("web-bucket"),
                    web.local_addresses(pipeline.ready, pipeline.parameter))
        url = str(pipeline.ready["endpoints"]["pages"][pipeline.parameter("web-url")])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
            page = browser.new_page()
            try:
                return _looked(page, url, pipeline, look_s)
            finally:
                browser.close()
    finally:
        pipeline.close()


def _looked(page: Page, url: str, pipeline: Pipeline, look_s: float) -> list[Row]:
    page.set_default_timeout(_WITHIN_S * 1000)
    page.route("**/live", lambda route: route.abort())
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Go on as").click()
    wait_until("a reading on the page", lambda: page.evaluate(_NEWEST) > 0, _WITHIN_S)
    time.sleep(BATCH_AGE_S)  # a first batch is sent early, for all that waits
    unwatched = _behind(page, look_s)
    page.unroute("**/live")
    page.reload()
    wait_until("the bridge to know that somebody watches",
               lambda: pipeline.status().get("remote", {}).get("live_s", 0) > 0, _WITHIN_S)
    wait_until("a reading of just now on the page", lambda: time.time() - page.evaluate(_NEWEST) < WATCHED_S, _WITHIN_S)
    watched = _behind(page, look_s)
    return [*_rows("watched", watched, WATCHED_S), *_rows("not watched", unwatched, UNWATCHED_S)]


def _behind(page: Page, seconds: float) -> list[float]:
    return sorted(page.evaluate(_BEHIND, [seconds, EVERY_MS]))


def _rows(which: str, found: list[float], most_s: float) -> list[Row]:
    note = f"{len(found)} looks; 3 devices of 10 readings/s"
    p95 = statistics.quantiles(found, n=20)[-1]
    return [Row(f"page behind, {which}: p50", "s", [statistics.median(found)], note=note),
            Row(f"page behind, {which}: p95", "s", [p95], note=note),
            Row(f"page behind, {which}: most", "s", [found[-1]], at_most=most_s, note=note)]
