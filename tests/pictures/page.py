"""The dashboard's page in a real browser, over a real run of all parts of the demo: pictures to docs/pictures, wide,
dark and on a phone; one more, to look at, with the link to the cloud cut.

    python -m tests.pictures.page MINUTES [FOLDER]
"""
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from deploy import control, web
from deploy.pipeline import Pipeline, Plan
from tests.compose_model import ROOT
from tests.mermaid_rig import QUIET, chromium

WITHIN_MS = 240_000
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def draw(browser: Browser, url: str, path: Path, wanted: str, **options: Any) -> None:
    """Sign in, wait until the page in short says what is wanted and all of it is drawn, and take its picture."""
    context = browser.new_context(locale="en-GB", **options)
    context.set_default_timeout(WITHIN_MS)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Go on as").click()
    page.locator("#summary").filter(has_text=wanted).wait_for()
    page.locator("#told").filter(has_text="reading").wait_for()
    page.locator("#cost").filter(has_text="Fixed, a month").wait_for()
    page.locator("#persons .chart").first.wait_for()
    page.screenshot(path=path, full_page=True)
    print(path)
    context.close()


def draw_all(pipeline: Pipeline, folder: Path) -> None:
    """The pictures of a pipeline that has run for a while."""
    url = web.put(pipeline.target, pipeline.plan.assembly)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        draw(browser, url, folder / "dashboard.png", "Everything arrives", viewport=DESK)
        draw(browser, url, folder / "dashboard-dark.png", "Everything arrives", viewport=DESK, color_scheme="dark")
        draw(browser, url, folder / "dashboard-phone.png", "Everything arrives", viewport=PHONE, is_mobile=True,
             has_touch=True, device_scale_factor=1.625)
        control.tell(pipeline.control_url, "/faults", {"gateway": {"cut": {}}})
        draw(browser, url, folder / "dashboard-cut.png", "silent", viewport=DESK)
        browser.close()


if __name__ == "__main__":
    scratch = Path(tempfile.mkdtemp(prefix="pictures-"))
    running = Pipeline(Plan(scratch, scratch / "cdk.out", web_port=0, receipt_timeout_s=60))
    try:
        running.start()
        time.sleep(60 * float(sys.argv[1]))
        draw_all(running, Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "pictures")
    finally:
        running.close()
