"""The dashboard in a real browser, through the real sign-in: its numbers are the API's; states; keyboard."""
import itertools
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from deploy.processes import wait_until
from tests import mermaid_rig, web_rig
from tests.web_rig import OTHER, SITE, Visit, browser, dashboard, ended, visit

__all__ = ["browser", "ended"]

pytestmark = pytest.mark.skipif(mermaid_rig.missing() is not None, reason=str(mermaid_rig.missing()))
DEADLINE_S = web_rig.DEADLINE_S


@pytest.fixture
def desk(browser: Browser) -> Iterator[Visit]:
    """Somebody at a desk, signed in, who has seen no complaint of the browser when he leaves."""
    with visit(browser) as one:
        yield one.open()
        assert one.complaints == []


def figures(text: str) -> dict[str, str]:
    """{"Delivered": "980", ...} of a card's list."""
    lines = [line for line in text.splitlines() if line]
    return dict(zip(lines[::2], lines[1::2], strict=True))


def answered(body: dict[str, Any], route: Route) -> None:
    route.fulfill(json=body, headers={"access-control-allow-origin": "*"})


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def test_the_numbers_are_the_apis(desk: Visit) -> None:
    told = {one["site"]: one for one in dashboard().get("/status")["sites"]}
    assert set(told) == {SITE, OTHER}
    for site, ledger in told.items():
        card = desk.page.get_by_label(f"Site {site}")
        shown = figures(card.locator("dl").inner_text())
        assert number(shown["Delivered"]) == ledger["delivered"] == 980
        assert number(shown["Waiting"]) == sum(ledger["waiting"].values()) == 19
        assert number(shown["Dropped"]) == ledger["dropped"] and number(shown["Dead-lettered"]) == ledger[
            "dead_lettered"]
        rows = card.locator("tbody tr").all_inner_texts()
        assert [[cell for cell in re.split(r"\s+", row) if cell] for row in rows] == [
            [one["device"], *(str(one.get(name, 0)) for name in ("delivered", "waiting", "anomalies")),
             str(one["dropped"] + one["gaps"])] for one in ledger["devices"]]


def test_the_worst_site_comes_first_and_says_why(desk: Visit) -> None:
    cards = desk.page.locator("#sites article")
    assert [cards.nth(at).get_attribute("aria-label") for at in (0, 1)] == [f"Site {OTHER}", f"Site {SITE}"]
    assert "alarm" in cards.nth(0).inner_text() and "no receipt came" in cards.nth(0).inner_text()
    assert re.search(r"\bwell\b", cards.nth(1).inner_text())


def test_readings_anomalies_incident_and_persons(desk: Visit) -> None:
    wanted = dashboard().measured("pi-5", 60)
    readings = dashboard().get(f"/sites/{SITE}/devices/pi-5/readings?limit=1000")["readings"]
    assert [one["values"]["sensor2"] for one in reversed(readings)] == wanted
    desk.page.goto(f"{dashboard().page}/#site={SITE}&device=pi-5")
    desk.page.reload()  # it asks seldom which devices there are
    desk.says("#told", "sensor2: 60 readings, 1 anomaly")
    desk.page.get_by_text("The same as a table").click()
    shown = desk.page.locator("#as-table tbody tr")
    shown.first.wait_for()
    values = [Decimal(text.split("\t")[1]) for text in shown.all_inner_texts()]
    assert values == [one["values"]["sensor2"] for one in readings]
    assert [text.split("\t")[2] for text in shown.all_inner_texts()].count("anomaly") == 1
    (incident,) = dashboard().get("/incidents")["incidents"]
    told = desk.text("#incidents li")
    assert f"peak {incident['peak']}" in told and "normally 0.3 to 0.7" in told and "open" in told
    newest = max(dashboard().get("/data?limit=100"), key=lambda one: one["timestamp"])
    desk.says("#persons", f"{newest['persons_detected']} person")


def test_carbon_is_what_the_bridge_told(desk: Visit) -> None:
    told = {one["site"]: one["carbon"] for one in dashboard().get("/status")["sites"]}
    assert len(told) == 2
    for carbon in told.values():
        desk.says("#carbon", f"{carbon['intensity_g_per_kwh']} gCO₂/kWh")
        desk.says("#carbon", f"{carbon['estimated_g']} gCO₂")
        desk.says("#carbon", carbon["source"])


def test_nothing_is_asked_of_anyone_but_page_api_and_sign_in(desk: Visit) -> None:
    addresses = dashboard().addresses
    assert {dashboard().page, addresses.api} <= desk.origins <= {dashboard().page, addresses.api, addresses.sign_in}
    refused = desk.page.evaluate("fetch('https://example.org').then(() => 'sent', error => String(error))")
    assert "Failed to fetch" in refused
    assert any("Content Security Policy" in one for one in desk.complaints)
    desk.complaints.clear()
    inline = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    desk.page.evaluate(inline)
    assert desk.page.evaluate("window.ran") is None and desk.complaints
    desk.complaints.clear()


def test_the_bridges_are_told_that_somebody_watches(desk: Visit) -> None:
    for thing in (SITE, OTHER):
        wait_until(f"live_until of {thing}", lambda thing=thing: "live_until" in dashboard().desired(thing), DEADLINE_S)
        assert 0 < dashboard().desired(thing)["live_until"] - time.time() <= 120


def test_the_address_holds_what_is_seen(desk: Visit) -> None:
    page = desk.page
    page.get_by_role("button", name="6 h").click()
    desk.says("#told", "sensor2 by minute: 480 readings, 1 anomaly")
    page.locator("#field").select_option("sensor1")
    desk.says("#told", "sensor1 by minute")
    assert "range=6h" in page.url and "field=sensor1" in page.url
    page.reload()
    desk.says("#told", "sensor1 by minute: 480 readings")
    page.go_back()
    desk.says("#told", "sensor2 by minute")


def test_zoom_with_the_mouse_and_back(desk: Visit) -> None:
    desk.page.get_by_role("button", name="1 h").click()
    desk.says("#told", "sensor2 by minute")
    box = desk.page.locator("#chart .u-over").bounding_box()
    assert box is not None
    desk.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    desk.page.mouse.down()
    desk.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 50, steps=5)
    desk.page.mouse.up()
    desk.page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    span_ms = [int(found) for found in re.findall(r"(?:from|to)=(\d+)", desk.page.url)]
    assert abs(span_ms[1] - span_ms[0] - 0.4 * 3_600_000) < 120_000
    desk.page.get_by_role("button", name="Zoom out").click()
    desk.page.wait_for_url(re.compile("range=1h$"))


def test_all_of_it_by_keyboard(desk: Visit) -> None:
    """Skip link, device, chart; and the focus stays where it is while figures change under it."""
    page = desk.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    device = page.locator("#sites").get_by_role("button", name="pi-1").first
    device.focus()
    before = dashboard().get("/status")["sites"][0]["age_s"]
    wait_until("another status on the page", lambda: dashboard().get("/status")["sites"][0]["age_s"] > before + 4,
               DEADLINE_S)
    assert page.evaluate("document.activeElement.textContent") == "pi-1"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("device=pi-1"))
    page.locator("#chart").focus()
    page.keyboard.press("-")
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    seen = page.url
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("before => location.href !== before", arg=seen)
    assert "arrow keys move" in (page.locator("#chart").get_attribute("aria-label") or "")


def test_everything_that_can_be_used_has_a_name(desk: Visit) -> None:
    nameless = desk.page.evaluate("""() => [...document.querySelectorAll('button, select, [role=img], section')]
        .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length
                         || one.getAttribute('aria-labelledby')))
        .map(one => one.outerHTML)""")
    assert nameless == []
    levels = desk.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(later - before <= 1 for before, later in itertools.pairwise(levels))


def test_a_phone_needs_no_scrolling_sideways(browser: Browser) -> None:
    with visit(browser, "phone", is_mobile=True, has_touch=True) as one:
        one.open()
        assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        wide = one.page.evaluate("""() => [...document.querySelectorAll('main *')].filter(one =>
            one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll'))
            .map(one => one.outerHTML.slice(0, 80))""")
        assert wide == [] and one.complaints == []


def colours(one: Visit) -> list[Any]:
    return list(one.page.evaluate("""() => { const { backgroundColor, color } = getComputedStyle(document.body);
        return [backgroundColor, color]; }"""))


def test_light_dark_and_a_choice_that_is_kept(browser: Browser) -> None:
    with visit(browser, color_scheme="dark") as one:
        one.open()
        dark = colours(one)
        one.page.get_by_role("button", name="Colours").click()
        light = colours(one)
        assert light != dark
        one.page.reload()
        one.drawn()
        assert colours(one) == light


def test_offline_it_says_of_when_it_is_and_comes_back(browser: Browser) -> None:
    with visit(browser) as one:
        one.open()
        one.page.context.set_offline(True)
        one.says("#link", "this machine is offline · as of")
        assert one.page.locator("#sites article").count() == 2
        one.page.context.set_offline(False)
        one.drawn()


def test_an_error_of_the_api_is_told_in_its_own_words(browser: Browser) -> None:
    with visit(browser) as one:
        one.open()
        one.page.route(f"{dashboard().api}/status*", lambda route: route.fulfill(
            status=503, json={"detail": "The tables are busy; try again in a second."},
            headers={"access-control-allow-origin": "*"}))
        one.says("#link", "The tables are busy")
        one.page.unroute(f"{dashboard().api}/status*")
        one.drawn()


def test_a_session_that_has_ended_leads_to_the_sign_in(browser: Browser) -> None:
    with visit(browser) as one:
        one.open()
        one.page.route(f"{dashboard().api}/status*", lambda route: route.fulfill(
            status=401, json={"message": "Unauthorized"}, headers={"access-control-allow-origin": "*"}))
        one.says("#sign-in", "the session has ended")
        assert one.page.locator("#content").is_hidden()


def test_before_there_is_anything_it_says_what_to_do(browser: Browser) -> None:
    with visit(browser) as one:
        for pattern, empty in (("status*", {"sites": [], "next": None}), ("devices", {"devices": []}),
                               ("incidents*", {"incidents": [], "next": None})):
            one.page.route(f"{dashboard().api}/{pattern}", partial(answered, empty))
        one.open()
        one.says("#summary", "No site yet")
        one.says("#sites", "No site has told anything yet")
        one.says("#chart-state", "No device has sent readings yet.")
        one.says("#persons", "No camera has sent anything yet")
        one.says("#incidents", "None is open")


def test_nothing_in_this_time_is_said_not_drawn_empty(desk: Visit) -> None:
    old_ms = int(time.time() * 1000) - 86_400_000
    desk.page.goto(f"{dashboard().page}/#site={SITE}&device=pi-1&from={old_ms}&to={old_ms + 3_600_000}")
    desk.says("#chart-state", "There is no reading of this time. The newest is of")


def test_somebody_else_signs_in_with_a_password_and_out_again(browser: Browser) -> None:
    dashboard().user("ann@example.org", "Temporary-Password-1!")
    with visit(browser) as one:
        page = one.page
        page.goto(dashboard().page)
        page.get_by_role("button", name="Sign in").click()
        for password, told in (("Wrong-Password-1!", "Incorrect username or password"),
                               ("Temporary-Password-1!", "Choose a password of your own")):
            page.get_by_label("E-mail").fill("ann@example.org")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()
            one.says("[role=alert]", told)
        page.get_by_label("New password").fill("Her-Own-Password-1!")
        page.get_by_role("button", name="Sign in").click()
        one.drawn()
        page.get_by_role("button", name="Sign out").click()
        one.says("#sign-in", "Sign in to see your sites")
        assert page.evaluate("sessionStorage.length") == 0


def test_an_answer_to_someone_elses_sign_in_is_not_taken(browser: Browser) -> None:
    with visit(browser) as one:
        one.page.goto(f"{dashboard().page}/?code=stolen&state=other")
        one.says("#sign-in", "this sign-in was not begun in this tab")
        assert "code=" not in one.page.url
