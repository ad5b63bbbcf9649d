"""docs/cost.md from the synthesized templates and the price file: `make cost` writes it, a test keeps it current.

The text is in cost_page.template.md; the figures and tables come from driving the code (cost_site.py and its like).
"""
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template

from deploy.cost_design import Design
from deploy.cost_messages import EVENTS_EVERY_S, STATUS_EVERY_S, one_alert, one_status, ten_minutes_of_events
from deploy.cost_meters import ALERTS, EVENTS, LINK, READINGS, RECEIPTS, STATUS, Lines, naive
from deploy.cost_scale import DEVICES_A_SITE, METRICS, SIZES, Quota, Size, size
from deploy.cost_site import Run, Site, drive, payload, rows
from local_cloud.cost.prices import MONTH_S, Prices

TEXT = Path(__file__).with_suffix(".template.md")
AGES_S, DEVICES = (1, 2, 5, 10, 30), (1, 3, 10)
LONG_S, SHORT_S = 600, 120
BAR, FIXED_BAR_USD = 50, 3
MILLION = 1e6
Row = Iterable[str]


def page(design: Design, full: Design, prices: Prices) -> str:
    """The whole page. full: the design with monitoring=full."""
    return Template(TEXT.read_text()).substitute(parts(design, full, prices, AGES_S))


def parts(design: Design, full: Design, prices: Prices, ages_s: tuple[int, ...]) -> dict[str, str]:
    """The page's figures and tables by their names in the text; the table of batch ages has a row for each of ages_s,
    10 among them."""
    runs = {(age_s, devices): drive(_site(age_s, devices), design, prices) for age_s in ages_s for devices in DEVICES}
    plain, run = plain_each(prices), runs[10, 1]
    ours = {meter: usd / run.site.readings for meter, usd in run.lines.parts(prices, READINGS).items()}
    each, plain_usd = sum(ours.values()), sum(plain.values())
    sizes = [size(devices, run if devices == 1 else runs[10, DEVICES_A_SITE], design, prices) for devices in SIZES]
    return {
        "as_of": prices.as_of, "region": prices.region, "bar": str(BAR), "fixed_bar": str(FIXED_BAR_USD),
        "devices_a_site": str(DEVICES_A_SITE), "reading_usd": f"{each * MILLION:.4f}",
        "reading_share": f"{plain_usd / each:.0f}", "plain_usd": f"{plain_usd * MILLION:.2f}",
        "readings_a_batch": str(run.site.readings // run.batches),
        "rollup_window_s": str(design.function("aggregate").window_s), "reading_table": _reading(ours, plain),
        "age_table": _ages(runs, ages_s, plain_usd, prices), "beside_table": _beside(design, prices),
        "link_usd": f"{prices.usd('iot.connection_minute', MONTH_S / 60):.4f}",
        "standing_table": _standing(standing(design, "basic", run, prices), standing(full, "full", run, prices)),
        "money_table": _money(sizes), "quota_table": _quotas(sizes), "assumption_table": _table(
            ("assumption", "value", "why"),
            [(name, f"{value:g}", prices.reasons[name]) for name, value in prices.assumptions.items()])}


def _site(age_s: int, devices: int) -> Site:
    """A site for as long as the figures need: where many readings go into little time, less of it serves."""
    long_s = LONG_S if devices == 1 else LONG_S // 3
    return Site(devices=devices, batch_age_s=age_s, seconds=SHORT_S if age_s < 5 else long_s)


def plain_each(prices: Prices) -> dict[str, float]:
    """What a reading costs in the plain design, dollars by meter."""
    count = 600
    lines = naive(prices, (payload("pi-1", row) for row in rows("pi-1", 1, count, 0, 10)))
    return {meter: usd / count for meter, usd in lines.parts(prices, READINGS).items()}


def standing(design: Design, monitoring: str, run: Run, prices: Prices) -> dict[str, float]:
    """Dollars each month that do not depend on how many readings come, by what they are paid for."""
    lines = design.standing(prices, METRICS[monitoring])
    found = {line: lines.usd(prices, line) for line in lines.by_line}
    found[f"status every {STATUS_EVERY_S} s, one bridge"] = (
        one_status(design, prices, 3).usd(prices, STATUS) * MONTH_S / STATUS_EVERY_S
        + prices.usd("s3.put", design.objects_a_month(STATUS)))
    found["receipts of a batch every 10 s"] = run.lines.usd(prices, RECEIPTS) * MONTH_S / run.site.seconds
    found["the bridge's connection"] = prices.usd("iot.connection_minute", MONTH_S / 60)
    return found


def bars(design: Design, prices: Prices) -> tuple[float, float]:
    """What is held against the bars: a reading's share of the plain design's cost, and the fixed dollars a month."""
    run = drive(Site(), design, prices)
    each = run.lines.usd(prices, READINGS) / run.site.readings
    return each / sum(plain_each(prices).values()), sum(standing(design, "basic", run, prices).values())


def _table(head: Row, body: Iterable[Row]) -> str:
    lines = [tuple(head), *map(tuple, body)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _reading(ours: dict[str, float], plain: dict[str, float]) -> str:
    """Where each cent of a reading goes."""
    meters = sorted({*ours, *plain}, key=lambda meter: (-ours.get(meter, 0), -plain.get(meter, 0)))
    body = [(meter, _millionth(ours.get(meter, 0)), _millionth(plain.get(meter, 0))) for meter in meters]
    body.append(("**in all**", _bold(_millionth(sum(ours.values()))), _bold(_millionth(sum(plain.values())))))
    return _table(("meter", "ours, $ per million", "plain, $ per million"), body)


def _ages(runs: dict[tuple[int, int], Run], ages_s: tuple[int, ...], plain_usd: float, prices: Prices) -> str:
    def cell(run: Run) -> str:
        each = run.lines.usd(prices, READINGS) / run.site.readings
        return f"1/{plain_usd / each:.0f} ({each * MILLION:.4f})"

    return _table(("batch age", *(f"{n} device{'s' if n > 1 else ''}" for n in DEVICES)), [
        (f"{age} s", *(cell(runs[age, devices]) for devices in DEVICES)) for age in ages_s])


def _beside(design: Design, prices: Prices) -> str:
    def row(what: str, lines: Lines, line: str, count: int) -> Row:
        return (what, f"{lines.usd(prices, line) / count * MILLION:.2f}",
                ", ".join(list(lines.parts(prices, line))[:3]))

    return _table(("what", "$ per million", "the most of it"), [
        row("alerts, a message each, with incident, e-mail and receipt", one_alert(design, prices), ALERTS, 1),
        row(f"camera events, sealed every {EVENTS_EVERY_S} s, an item each", ten_minutes_of_events(design, prices),
            EVENTS, 600),
        ("requests to the API, without what they read", f"{prices.usd('api.request', MILLION):.2f}", "api.request")])


def _standing(basic: dict[str, float], full: dict[str, float]) -> str:
    names = sorted({*basic, *full}, key=lambda name: (-basic.get(name, 0), -full.get(name, 0)))
    body = [(name, _cents(basic.get(name, 0)), _cents(full.get(name, 0))) for name in names]
    body.append(("**in all**", _bold(_cents(sum(basic.values()))), _bold(_cents(sum(full.values())))))
    return _table(("what", "$ a month by default", "$ a month, monitoring=full"), body)


def _money(sizes: list[Size]) -> str:
    def row(one: Size) -> Iterator[str]:
        total = sum(one.usd.values())
        yield from (f"{one.devices:,}", f"{one.sites:,}")
        yield from map(_dollars, (*(one.usd[line] for line in (READINGS, RECEIPTS, STATUS, LINK)), total))
        yield f"{total / one.devices:.2f}"

    return _table(("devices", "bridges", "readings", "receipts", "status", "connections", "in all", "a device"),
                  map(row, sizes))


def _quotas(sizes: list[Size]) -> str:
    def row(one: Size) -> Row:
        quota, share = one.binding
        return (f"{one.devices:,}", quota.name, f"{_percent(share)} of {quota.value:,.0f}{quota.unit}",
                _others(one.used), quota.cure)

    return _table(("devices", "binds first", "used", "also above half", "what to do"), map(row, sizes))


def _others(used: dict[Quota, float]) -> str:
    shares = sorted(((use / quota.value, quota.name) for quota, use in used.items()), reverse=True)
    return ", ".join(f"{name} {_percent(share)}" for share, name in shares[1:] if share > 0.5) or "none"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share > 0.01 else f"{share:.2%}"


def _bold(text: str) -> str:
    return f"**{text}**"


def _millionth(value: float) -> str:
    return f"{value * MILLION:.4f}" if value else "-"


def _cents(value: float) -> str:
    return f"{value:.2f}" if value else "-"


def _dollars(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
