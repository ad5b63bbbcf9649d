"""How usage grows with the number of devices, and which quota binds first; for cost_page.py.

Sites of ten devices, each with a bridge. Quotas: AWS's defaults in eu-north-1, several of them a tenth of those of the
large regions (https://docs.aws.amazon.com/general/latest/gr/iot-core.html and each service's page).
"""
import math
from dataclasses import dataclass

from deploy.cost_design import Design
from deploy.cost_messages import STATUS_EVERY_S, one_status
from deploy.cost_meters import LINK, READINGS, RECEIPTS, STANDING, STATUS
from deploy.cost_site import Run
from local_cloud.cost.prices import MONTH_S, Prices

DEVICES_A_SITE = 10
FUNCTION_GB = 0.5  # of the functions on the way of a reading
SIZES = (1, 100, 10_000, 1_000_000)
METRICS = {"basic": 1, "full": 4}  # custom metrics: of lambdas/watch.py, bridges_silent alone or all


@dataclass(frozen=True)
class Quota:
    """A default of eu-north-1: its value, what it is counted in, and what to do when it binds."""

    name: str
    value: float
    unit: str
    cure: str


IN, RULES, OUT, LINKS, RETAINED, STREAM, STREAM_CALLS, LAMBDA, WRITES, ONE_LINK = (
    Quota("inbound publishes", 2_000, "/s", "raise it: Service Quotas, AWS IoT Core (20,000/s in large regions)"),
    Quota("rule evaluations", 2_000, "/s", "raise it, together with the inbound publishes"),
    Quota("outbound publishes", 2_000, "/s", "raise it, together with the inbound publishes"),
    Quota("connections", 100_000, "", "raise it; beyond a million shard by account or region"),
    Quota("retained messages", 100_000, "", "raise it: each bridge retains its status"),
    Quota("Firehose of the route readings", 1, " MiB/s", "it grows under load; raise it before, or shard"),
    Quota("Firehose calls of the route readings", 1_000, "/s", "raise it, or shard"),
    Quota("concurrent Lambda invocations", 1_000, "", "raise it: Service Quotas, AWS Lambda"),
    Quota("write units of the readings table", 40_000, "/s", "raise it: Service Quotas, DynamoDB"),
    Quota("publishes of one connection", 100, "/s", "none: more bridges"))


@dataclass(frozen=True)
class Size:
    """A number of devices, 10 readings a second each: what it uses of each quota, and dollars a month by line."""

    devices: int
    sites: int
    usd: dict[str, float]
    used: dict[Quota, float]

    @property
    def binding(self) -> tuple[Quota, float]:
        """The quota of which most is used, and its share."""
        return max(((quota, use / quota.value) for quota, use in self.used.items()), key=lambda one: one[1])


def size(devices: int, run: Run, design: Design, prices: Prices) -> Size:
    """A deployment of that many devices, all of its sites as the one of this run."""
    each = run.site.devices
    sites = math.ceil(devices / each)
    month = MONTH_S / run.site.seconds * sites
    standing = design.standing(prices, METRICS["basic"])
    status = one_status(design, prices, each).usd(prices, STATUS)
    usd = {READINGS: run.lines.usd(prices, READINGS) * month, RECEIPTS: run.lines.usd(prices, RECEIPTS) * month,
           STATUS: status * MONTH_S / STATUS_EVERY_S * sites,
           LINK: prices.usd("iot.connection_minute", MONTH_S / 60) * sites,
           STANDING: sum(standing.usd(prices, line) for line in standing.by_line)}
    return Size(devices, sites, usd, _used(run, sites))


def _used(run: Run, sites: int) -> dict[Quota, float]:
    """What so many sites use of each quota; for Lambda as if no invocation took more than one bridge's batch."""
    seconds = run.site.seconds
    batches = run.batches / seconds * sites
    statuses = sites / STATUS_EVERY_S
    busy_s = run.lines.by_line[READINGS]["lambda.gb_s"] / FUNCTION_GB / seconds * sites
    return {
        IN: batches * 2 + statuses,  # the batch, and its receipt from the function
        RULES: batches + statuses, OUT: batches, LINKS: sites, RETAINED: sites,
        STREAM: run.batch_bytes / seconds * sites / 2 ** 20, STREAM_CALLS: batches, LAMBDA: busy_s,
        WRITES: run.writes["persist"] / seconds * sites, ONE_LINK: run.batches * 2 / seconds}
