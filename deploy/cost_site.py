"""One site for some minutes, by the code that runs: readings are packed and sealed by the contract, stored and rolled
up by the handlers, and every hop is metered. No clock and no network: what it says is the same on every machine.
"""
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from contract import batch, numbers, payloads
from deploy.cost_cloud import Cloud, minutes
from deploy.cost_design import Design
from deploy.cost_meters import READINGS, RECEIPTS, Lines
from deploy.cost_tables import START_MS, tables
from lambdas import aggregate, hours, persist
from local_cloud.cost.prices import MONTH_S, Prices

OUTBOX, SPOOL = "0123456789abcdef01", "a1b2c3d4e5f60718"
FULL_BYTES = batch.MAX_BYTES // batch.METER_BYTES * batch.METER_BYTES


@dataclass(frozen=True)
class Site:
    """devices send `rate` readings a second each; live batches are sealed every batch_age_s."""

    devices: int = 1
    rate: float = 10
    batch_age_s: float = 10
    seconds: int = 600

    @property
    def readings(self) -> int:
        """How many there are in all."""
        return int(self.devices * self.rate * self.seconds)


@dataclass(frozen=True)
class Run:
    """What a site's time came to: quantities by line, and by function its invocations and the units it wrote."""

    site: Site
    lines: Lines
    batches: int
    batch_bytes: int
    invocations: dict[str, int]
    writes: dict[str, float]


def rows(device: str, index: int, count: int, first: int, rate: float) -> list[batch.Row]:
    """`count` readings of a device from its `first` on, as our publisher prints them and a bridge commits them."""
    found, chance = [], random.Random(index * 1_000_003 + first)
    for n in range(first, first + count):
        at_ms = START_MS + int(n * 1000 / rate) + chance.choice((0, 0, 0, 1))
        values = {"sensor1": Decimal(f"{chance.gauss(20, 0.3):.2f}"),
                  "sensor2": Decimal(f"{chance.gauss(0.5, 0.05):.4f}")}
        found.append(batch.Row(1795332240000000 + n, at_ms + chance.randint(2, 9), Decimal(at_ms) / 1000, at_ms,
                               n + 1, SPOOL, values, {}, None, None))
    return found


def payload(device: str, row: batch.Row) -> bytes:
    """The reading as one MQTT message of the plain design."""
    values = {name: row.values[name] for name in sorted(row.values)}
    return numbers.dumps({"device_id": device, **payloads.sensor_reading(row.timestamp, values)}).encode()


def sealed(site: Site) -> Iterator[tuple[float, bytes]]:
    """(second, bytes) of each batch of a site; one that would be too large is halved, as the packer does."""
    each = max(1, int(site.rate * site.batch_age_s))
    for start in range(0, int(site.rate * site.seconds), each):
        count = min(each, int(site.rate * site.seconds) - start)
        series = [(f"pi-{index}", rows(f"pi-{index}", index, count, start, site.rate))
                  for index in range(1, site.devices + 1)]
        yield from (((start + count) / site.rate, body) for body in _seal(series))


def _seal(series: list[tuple[str, list[batch.Row]]]) -> list[bytes]:
    texts = [batch.pack(device, found) for device, found in series]
    if sum(map(len, texts)) < FULL_BYTES or len(series) == 1:
        return [batch.seal_series("readings", OUTBOX, texts)[1]]
    half = len(series) // 2
    return _seal(series[:half]) + _seal(series[half:])


def drive(site: Site, design: Design, prices: Prices) -> Run:
    """Meter a site's readings through all that the design does with them."""
    lines = Lines()
    with tables(design.tables(), design.environment("persist", "aggregate", "hours")) as at:
        cloud = Cloud(READINGS, design, prices, at, lines=lines, line=READINGS, receipts=RECEIPTS)
        written = cloud.through("persist", persist.handler, sealed(site))
        counted = cloud.follow("aggregate", aggregate.handler, "readings", written, most=100)
        cloud.follow("hours", hours.handler, "rollups", minutes(counted), most=10_000)
    lines.add(READINGS, "s3.put", design.objects_a_month(READINGS) * site.seconds / MONTH_S)
    return Run(site, lines, cloud.messages, cloud.message_bytes, dict(cloud.invocations), dict(cloud.writes))
