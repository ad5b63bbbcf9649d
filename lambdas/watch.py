"""Every five minutes: silent incidents are closed, notices that are due go out, silent bridges are told of.

A schedule (infra/alerts.py) starts it; it reads the incidents and roll-ups tables and prints its figures as CloudWatch
metrics in the embedded format: one line of the log, no call.
"""
import json
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from lambdas import alert_incidents, alert_notices, table, watch_sites

NAMESPACE, DIMENSION = "EdgeCloud", "deployment"
ALWAYS = ("bridges_silent",)  # a metric of one's own costs 0.30 dollars a month: the others need MONITORING=full
log = logging.getLogger(__name__)


class Incomplete(Exception):
    """Some steps failed; the others were done. Lambda counts the error, and calls again."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Do all of it; answers with the figures. Raises Incomplete after the last step when one of them failed."""
    now_ms, failed = table.now_ms(), list[str]()
    sites = list(watch_sites.sites(now_ms))
    behind_ms = watch_sites.clocks(sites)
    going_on = [item for item in alert_incidents.open_ones() if not _done(
        failed, "an incident was not closed", item,
        lambda item: alert_incidents.close_silent(item, now_ms - behind_ms.get(item["site"], 0)))]
    for item in going_on:
        _done(failed, "no notice", item, _tell)
    _done(failed, "the held notices were not sent", {}, lambda _: alert_notices.release(now_ms))
    seen = [_done(failed, "a site was not watched", site, lambda site: watch_sites.watch(site, now_ms)) or site.seen
            for site in sites]
    found = figures(sites, seen, len(going_on), now_ms)
    emit(found, now_ms)
    if failed:
        raise Incomplete(f"{len(failed)} steps failed: {'; '.join(failed[:5])}; the log says more")
    return found


def _tell(item: table.Item) -> None:
    """A notice that is due and did not go out with its message; alert may be sending it at this moment."""
    try:
        alert_notices.tell(item)
    except alert_notices.InHand as other:
        log.info("%s", other)


def _done(failed: list[str], what: str, of: Any, step: Callable[[Any], Any]) -> Any:
    """The step's result; a failure is logged and noted, and does not keep the other steps from being done."""
    try:
        return step(of)
    except Exception as error:
        log.error("%s: %s", what, error, exc_info=True)
        failed.append(f"{what}: {error}")
        return None


def figures(sites: list[watch_sites.Site], seen: Iterable[table.Item], incidents_open: int,
            now_ms: int) -> dict[str, float]:
    """What is measured, by the metric's name. bridges_silent: sites not heard of; ledger_mismatch: sites whose ledger
    counted a loss within a day; certificate_days_left: of the certificate that ends first, if a site says."""
    days = [left for site in sites if (left := watch_sites.certificate_days(site.told)) is not None]
    found: dict[str, float] = {
        "bridges_silent": sum(site.silent_since(now_ms) is not None for site in sites),
        "ledger_mismatch": sum(watch_sites.mismatch(item, now_ms) for item in seen),
        "incidents_open": incidents_open}
    return found | ({"certificate_days_left": min(days)} if days else {})


def emit(found: dict[str, float], now_ms: int) -> None:
    """Print the figures in CloudWatch's embedded metric format; without MONITORING=full only those of ALWAYS."""
    full = os.environ.get("MONITORING", "basic") == "full"
    told = {name: value for name, value in found.items() if full or name in ALWAYS}
    units = [{"Name": name, "Unit": "Count"} if name != "certificate_days_left" else {"Name": name} for name in told]
    print(json.dumps({
        "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [
            {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": units}]},
        DIMENSION: os.environ.get("DEPLOYMENT", "edgecloud"), **told}), flush=True)
