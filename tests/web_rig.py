"""The dashboard's page as a person has it: the real template in a local cloud, the page put there by deploy/web.py,
data that the real functions stored, and a real browser.

One cloud for all tests of the page, in a loop of its own; any port.
"""
import asyncio
import json
import re
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from contract import alerts, batch, numbers
from deploy import web
from deploy.processes import wait_until
from deploy.users import users_of
from local_cloud.cloud import LocalCloud, Options
from tests.mermaid_rig import QUIET, chromium
from tests.messages import EXAMPLES, OUTBOX, by_rule
from tests.synthesized import assembly

SITE, OTHER = "EdgeCloudAWS", "SiteB"
DEADLINE_S = 120
CONTEXT = (("things", f"{SITE},{OTHER}"),)
CORS = {"access-control-allow-origin": "*"}
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
T = TypeVar("T")


class Dashboard:
    """The running cloud: `page` and `api` are addresses; `stored` gives bodies of a queue to a function."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="web-rig-"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cloud = LocalCloud(Options(assembly(*CONTEXT), state=self._directory / "state", gateway_port=0, api_port=0,
                                        web_port=0, quotas=False))
        self.run(self.cloud.start())
        self.ready = self.cloud.endpoints()
        web.publish(self.client("s3"), self.parameter("web-bucket"), self.addresses)
        self.page = str(self.ready["endpoints"]["pages"][self.parameter("web-url")])
        self.api = self.addresses.api
        self.session = ""  # of the first who signed in
        self.newest_ms = 0  # when the newest reading was

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the cloud's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def close(self) -> None:
        self.run(self.cloud.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def addresses(self) -> web.Addresses:
        return web.local_addresses(self.ready, self.parameter)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.ready["endpoints"]["aws"], region_name=self.ready["region"],
                            aws_access_key_id="local", aws_secret_access_key="local")

    def parameter(self, what: str) -> str:
        return str(self.client("ssm").get_parameter(Name=f"/edgecloud/{what}")["Parameter"]["Value"])

    def stored(self, function: str, *bodies: str) -> None:
        """Have a function take these bodies, as from its queue."""
        records = [{"messageId": str(number), "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
                   for number, body in enumerate(bodies)]
        answer = self.client("lambda").invoke(FunctionName=self.parameter(f"{function}-function"),
                                              Payload=json.dumps({"Records": records}).encode())
        told = json.loads(answer["Payload"].read())
        assert told == {"batchItemFailures": []}, told

    def heard(self) -> None:
        """Both bridges tell how they are, now: one site is well, one is not."""
        now_ms = int(time.time() * 1000)
        well = {"alarms": {}, "dropped": 0, "lost": 0, "dead_lettered": 0, "connected": {"cloud": True}}
        self.stored("status", status(SITE, at=now_ms, **well), status(OTHER, at=now_ms))

    def measured(self, device: str, count: int) -> list[Decimal]:
        """So many readings a second apart until now, the middle one an anomaly; the values of sensor2."""
        now_ms, middle = int(time.time() * 1000), count // 2
        values = [Decimal("1.9") if n == middle else Decimal(f"0.5{n % 10}") for n in range(count)]
        self.stored("persist", by_rule(_sealed("readings", {device: [
            _row(now_ms - 1000 * (count - n), {"sensor2": str(value)}, "anomaly" if n == middle else None)
            for n, value in enumerate(values)]})))
        return values

    def get(self, path: str) -> Any:
        """What the API answers, without a token: this machine is its owner's."""
        with urllib.request.urlopen(self.api + path, timeout=DEADLINE_S) as answer:
            return numbers.loads(answer.read())

    def desired(self, thing: str) -> dict[str, Any]:
        """What the shadow `bridge` of a thing asks for; {} when there is none."""
        try:
            found = self.client("iot-data").get_thing_shadow(thingName=thing, shadowName="bridge")
        except self.client("iot-data").exceptions.ResourceNotFoundException:
            return {}
        return dict(json.loads(found["payload"].read())["state"].get("desired", {}))

    def user(self, email: str, password: str) -> None:
        """Somebody who may sign in with a temporary password."""
        users_of(self.parameter, self.client("cognito-idp")).create(email, password)


@cache
def dashboard() -> Dashboard:
    """Running, with data in it, until `ended`."""
    made = Dashboard()
    fill(made, int(time.time() * 1000))
    return made


@pytest.fixture(scope="session")
def ended() -> Iterator[None]:
    """The cloud is that of all modules that ask for this; it stops with the last."""
    yield
    if dashboard.cache_info().currsize:
        dashboard().close()
        dashboard.cache_clear()


def fill(made: Dashboard, now_ms: int) -> None:
    """Eight minutes of readings and events that end now, an incident, and two ledgers."""
    made.newest_ms = now_ms - 1000
    rows = [_row(now_ms - 1000 * ago, {"sensor1": "20.25", "sensor2": "1.9" if ago == 60 else f"0.5{ago % 10}"},
                 "anomaly" if ago == 60 else None) for ago in range(480, 0, -1)]
    persons = [_row(now_ms - 10_000 * ago, {"persons_detected": str(ago % 4)}, None)._replace(
        kafka=("edge-data", 0, 48 - ago, now_ms - 10_000 * ago)) for ago in range(48, 0, -1)]
    made.stored("persist", *(by_rule(_sealed("readings", {"pi-1": rows[at:at + 120]})) for at in range(0, 480, 120)),
                by_rule(_sealed("readings", {"pi-9": rows[:3]}), OTHER),
                by_rule(_sealed("events", {"camera-01": persons})))
    said = alerts.incident("pi-1", "sensor2", rows[420].number, "open", now_ms - 60_000, 1, Decimal("1.9"), "spike")
    told = alerts.Classified(rows[420].number, rows[420].received_ms, rows[420].timestamp, rows[420].at_ms, "sensor2",
                             Decimal("1.9"), Decimal("1.9"), True, Decimal("-0.6"), Decimal("0.3"), Decimal("0.7"),
                             "spike", said)
    made.stored("alert", by_rule(alerts.seal(OUTBOX, "pi-1", [told])[1]))
    made.heard()
    made.run(made.cloud.flush(DEADLINE_S))  # the roll-ups' window is 25 s
    path = f"/sites/{SITE}/devices/pi-1/rollups?from={now_ms / 1000 - 600:.3f}"
    wait_until("the roll-ups", lambda: sum(int(row["fields"]["sensor2"]["n"]) for row in made.get(path)["rollups"])
               == 480, DEADLINE_S, every_s=0.5)


def _row(at_ms: int, values: dict[str, str], mark: str | None) -> batch.Row:
    return batch.Row(at_ms * 1000, at_ms + 20, Decimal(at_ms) / 1000, at_ms, None, None,
                     {name: Decimal(value) for name, value in values.items()}, {}, mark, None)


def _sealed(kind: str, devices: dict[str, list[batch.Row]]) -> bytes:
    return batch.seal_series(kind, OUTBOX, [batch.pack(device, rows) for device, rows in devices.items()])[1]


def status(site: str, **fields: Any) -> str:
    """The golden status as the rule hands it on, with some fields different."""
    return numbers.dumps({**numbers.loads((EXAMPLES / "status.json").read_bytes()), **fields, "site": site,
                          "thing": site})


class Visit:
    """One person's browser: `page`; what it asked for and what it complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.origins: set[str] = set()
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning")
                     else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(asked.url))))

    def open(self, where: str = "") -> "Visit":
        """Go to the page, signed in, and wait until all of it is drawn. The first visit signs in with a click; later
        ones begin with its token, as a tab does that was reloaded."""
        dashboard().heard()
        if dashboard().session:
            self.signed_in()
        self.page.goto(f"{dashboard().page}/{where}")
        if not dashboard().session:
            self.page.get_by_role("button", name="Sign in").click()
            self.page.get_by_role("button", name="Go on as").click()
            self.page.wait_for_url(f"{dashboard().page}/{where}")
        self.drawn()
        dashboard().session = self.page.evaluate("sessionStorage.getItem('edgecloud.token')")
        return self

    def signed_in(self) -> None:
        """From the next page on: with the token of the first visit, which there must have been."""
        self.page.add_init_script(f"if (!sessionStorage.length && location.origin === '{dashboard().page}') "
                                  f"sessionStorage.setItem('edgecloud.token', {json.dumps(dashboard().session)})")

    def drawn(self) -> None:
        self.says("#link", re.compile("up to date|no reading since"))

    def says(self, where: str, text: str | re.Pattern[str]) -> None:
        """Wait until an element has this text somewhere."""
        self.page.locator(where).filter(has_text=text).first.wait_for(timeout=DEADLINE_S * 1000)

    def text(self, where: str) -> str:
        return self.page.locator(where).first.inner_text()


@pytest.fixture(scope="module")
def browser(ended: None) -> Iterator[Browser]:
    """Chromium, in which somebody has signed in before."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        try:
            with visit(made) as first:
                first.open()
            yield made
        finally:
            made.close()


@contextmanager
def visit(made: Browser, size: str = "desk", **options: Any) -> Iterator[Visit]:
    """A browser of its own for one person."""
    context = made.new_context(viewport=SIZES[size], locale="en-GB", timezone_id="UTC", **options)
    context.set_default_timeout(DEADLINE_S * 1000)
    try:
        yield Visit(context)
    finally:
        context.close()


@pytest.fixture
def one(browser: Browser) -> Iterator[Visit]:
    """Somebody at a desk, who has not gone to the page yet."""
    with visit(browser) as somebody:
        yield somebody


def answers(page: Page, path: str, body: Callable[[], Any]) -> None:
    """From now on the API answers this, as far as the page can tell."""
    page.route(f"{dashboard().api}/{path}", lambda route: route.fulfill(
        body=numbers.dumps(body()), headers={**CORS, "content-type": "application/json"}))


def sites(**changes: Any) -> dict[str, Any]:
    """What GET /status answers, of the site that is well alone."""
    well = next(site for site in dashboard().get("/status")["sites"] if site["site"] == SITE)
    return {"sites": [{**well, **changes}], "next": None}
