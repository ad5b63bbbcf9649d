"""The dashboard's page when something is wrong: the API, the session, this machine's clock; and with much to show."""
import json
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Route

from deploy.processes import wait_until
from tests import mermaid_rig, web_rig
from tests.web_rig import CORS, SITE, Visit, answers, browser, dashboard, ended, one, sites, visit

__all__ = ["browser", "ended", "one"]
pytestmark = pytest.mark.skipif(mermaid_rig.missing() is not None, reason=str(mermaid_rig.missing()))
HOUR_S = 3600


def refuses(page: Page, pattern: str, status: int, detail: str) -> None:
    page.route(pattern, lambda route: route.fulfill(status=status, json={"detail": detail}, headers=CORS))


def priced(page: Page) -> None:
    """As after a deployment that knows what readings cost."""
    cost = {"usd_per_million_readings": 1, "fixed_usd_per_month": 2, "prices_of": "2026-11-22"}
    page.route("**/config.json", lambda route: route.fulfill(response=(answer := route.fetch()),
                                                             json={**answer.json(), "cost": cost}))


def once(status: int) -> Callable[[Route], None]:
    """Refuses the first request, and lets the others through."""
    refused: list[str] = []

    def handle(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=status, json={"message": "no"}, headers=CORS)
    return handle


def test_in_short_no_news_is_not_good_news(one: Visit) -> None:
    one.page.clock.install()
    one.open()
    one.page.context.set_offline(True)
    for _ in range(4):
        one.page.clock.run_for(10_000)
    one.says("#summary", "Not up to date")
    one.says("#summary", "What is below is as of")
    assert one.page.locator("#summary").get_by_text("Nothing unusual").count() == 0
    one.page.context.set_offline(False)
    one.says("#summary", "1 open incident")


def test_what_the_api_refuses_keeps_nothing_else(one: Visit) -> None:
    refuses(one.page, f"{dashboard().api}/incidents*", 503, "The tables are busy; try again in a second.")
    one.signed_in()
    one.page.goto(f"{dashboard().page}/#range=1h")
    one.says("#link", "The tables are busy")
    one.says("#sites", "no receipt came")
    one.says("#told", "480 readings")
    assert "loading" in one.text("#incidents") and "None is open" not in one.text("#incidents")


def test_an_api_that_fails_is_asked_less_and_less_often(one: Visit) -> None:
    one.page.clock.install()
    one.open()
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url) if "/status" in request.url else None)
    refuses(one.page, f"{dashboard().api}/**", 500, "This is our fault, not yours.")
    one.says("#link", "This is our fault")
    asked.clear()
    for _ in range(60):
        one.page.clock.run_for(1000)
        one.page.evaluate("fetch('config.json').then((answer) => answer.text())")  # a turn's answers are in
    assert 1 <= len(asked) <= 10, "in a minute"
    one.page.unroute_all()
    one.page.evaluate("dispatchEvent(new Event('online'))")
    one.drawn()


def test_a_page_that_cannot_be_told_where_the_api_is_asks_again(one: Visit) -> None:
    one.page.route("**/config.json", once(503))
    one.open()


def test_a_session_is_kept_while_the_sign_in_page_is_not_there(one: Visit) -> None:
    one.open()
    kept = json.loads(dashboard().session)
    one.page.route("**/oauth2/token", lambda route: route.abort())
    one.page.add_init_script(f"sessionStorage.setItem('edgecloud.token', '{json.dumps({**kept, 'until': 0})}')")
    one.page.reload()
    one.says("#link", "the sign-in page cannot be reached")
    assert one.page.locator("#sign-in").is_hidden()
    one.page.unroute_all()
    one.drawn()
    assert one.page.evaluate("JSON.parse(sessionStorage.getItem('edgecloud.token')).until") > 0


def test_a_token_that_ended_early_is_renewed_before_anyone_is_asked(one: Visit) -> None:
    renewed: list[str] = []
    one.page.on("request", lambda request: renewed.append(request.url) if "/oauth2/token" in request.url else None)
    one.page.route(f"{dashboard().api}/status*", once(401))
    one.open()
    assert len(renewed) == 1 and one.page.locator("#sign-in").is_hidden()


@pytest.mark.parametrize(("off_s", "told"), [(HOUR_S, "60 min fast"), (-HOUR_S, "60 min slow")])
def test_a_clock_that_is_wrong_by_an_hour_is_told_and_does_not_hide_what_is_new(
        one: Visit, off_s: int, told: str) -> None:
    one.page.clock.install(time=time.time() + off_s)
    one.open(f"#site={SITE}&device=pi-1&range=1h")
    one.says("#told", "480 readings")
    one.says("#link", f"this machine's clock is {told}")
    assert dashboard().newest_ms - 60_000 <= int(one.page.locator("#chart").get_attribute("data-newest") or 0)


def test_two_hundred_devices(browser: Browser) -> None:
    """On a phone; what the month costs is asked for one by one, with pauses, so that the rest comes at once."""
    names = [f"pi-{n:03d}" for n in range(200)]
    devices = [{"device": name, "delivered": 5, "waiting": 0, "dropped": 0} for name in names]
    asked: list[str] = []
    with visit(browser, "phone", is_mobile=True, has_touch=True) as one:
        one.page.clock.install()
        priced(one.page)
        answers(one.page, "status*", lambda: sites(devices=devices))
        answers(one.page, "devices", lambda: {"devices": [
            {"site": SITE, "device": name, "kinds": ["readings"]} for name in ["pi-1", *names]]})
        one.page.on("request", lambda request: asked.append(request.url) if "resolution=day" in request.url else None)
        one.open()
        assert one.page.locator("#sites tbody tr").count() == 200
        assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        one.says("#cost", "More than 200 devices are not added up here")
        assert asked == []


def test_the_month_is_added_up_with_pauses(one: Visit) -> None:
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url) if "/rollups?" in request.url
                and "resolution=auto" not in request.url else None)
    priced(one.page)
    answers(one.page, "devices", lambda: {"devices": [{"site": SITE, "device": "pi-1", "kinds": ["readings"]}]})
    one.page.clock.install()
    one.page.clock.pause_at(time.time() + 1)
    one.open()
    wait_until("the first question", lambda: bool(one.page.title()) and len(asked) > 0, web_rig.DEADLINE_S)
    for _ in range(5):
        one.page.evaluate("fetch('config.json').then((answer) => answer.text())")
    assert len(asked) == 1
    one.page.clock.resume()
    one.says("#cost", "Fixed, a month")
    answers_given = [dashboard().get(url.removeprefix(dashboard().api))["rollups"] for url in asked]
    assert len(asked) >= 1 and one.text("#cost dd") == str(sum(
        row["fields"]["sensor2"]["n"] for rows in answers_given for row in rows))
