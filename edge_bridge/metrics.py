"""Metrics: the status of status.py and the latencies that the uplink measures, in Prometheus's format; health.py hands
them out. `python -m edge_bridge.metrics` prints the table of all of them (docs/metrics.md)."""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.carbon import STATES
from edge_bridge import alarms

PREFIX = "edgecloud_bridge_"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
PUBACK_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RECEIPT_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 3600)
DAY_S, HOUR_S = 24 * 3600, 3600


class Row(NamedTuple):
    """One metric: its name without the prefix, its kind, what it says, how it is read from the status (a number, or
    {label value: number}), its label; buckets in seconds for a histogram."""

    name: str
    kind: str
    sentence: str
    read: Callable[[dict[str, Any]], Any] = dict
    label: str = ""
    buckets: tuple[float, ...] = ()


def _field(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda status: status.get(name, 0)


def _carbon(status: dict[str, Any], names: dict[str, str]) -> dict[str, float]:
    """{label: value of this name} of the status's part on carbon; {} when there is none."""
    told = status.get("carbon") or {}
    return {label: told[name] for label, name in names.items() if name in told}


def _endless(name: str, unit: float = 1.0) -> Callable[[dict[str, Any]], float]:
    """null in the status is no end in sight."""
    return lambda status: float("inf") if status.get(name) is None else status[name] * unit


TABLE = (
    Row("info", GAUGE, "Always 1; the label is the bridge's version.", lambda s: {s["version"]: 1}, "version"),
    Row("received_total", COUNTER, "Messages taken from the sources.", _field("received")),
    Row("committed_total", COUNTER, "Readings and events put on disk, then acknowledged.", _field("committed")),
    Row("sent_total", COUNTER, "Readings and events that AWS accepted (PUBACK 0).", _field("sent")),
    Row("delivered_total", COUNTER, "Readings and events stored in the cloud, by its receipts.", _field("delivered")),
    Row("device_committed_total", COUNTER, "Readings and events put on disk, by device.",
        lambda s: {device: counts.get("committed", 0) for device, counts in s["devices"].items()}, "device"),
    Row("alerts_delivered_total", COUNTER, "Anomalies whose alert was stored.", _field("alerts_delivered")),
    Row("waiting_readings", GAUGE, "Readings, events and anomalies on disk, by lane; unreceipted: accepted, not yet "
        "known to be stored.", _field("waiting"), "lane"),
    Row("oldest_unsent_age_seconds", GAUGE, "Age of the oldest reading that AWS has not accepted; 0: none waits.",
        _field("oldest_unsent_s")),
    Row("stalled_seconds", GAUGE, "For how long the oldest unsent reading has been the same one.", _field("stalled_s")),
    Row("dropped_total", COUNTER, "Readings and events dropped by the retention limit, by reason.",
        _field("dropped_by_reason"), "reason"),
    Row("alerts_dropped_total", COUNTER, "Alerts dropped by the retention limit, by reason.",
        _field("alerts_dropped_by_reason"), "reason"),
    Row("dead_lettered_total", COUNTER, "Messages that could not be read, by reason; kept as dead letters.",
        _field("dead_lettered_by_reason"), "reason"),
    Row("repeats_total", COUNTER, "Messages known from before, dropped as repeats.", _field("repeats")),
    Row("possible_duplicates_total", COUNTER, "Messages equal to one before that nothing shows to be a repeat; kept.",
        _field("possible_duplicates")),
    Row("out_of_turn_total", COUNTER, "Readings ahead of their turn, left for the publisher to send again.",
        _field("out_of_turn")),
    Row("skipped_total", COUNTER, "Readings that a publisher dropped before the bridge got them.", _field("skipped")),
    Row("anomalies_total", COUNTER, "Readings found anomalous.", _field("anomalies")),
    Row("unclassified_total", COUNTER, "Readings that went on without a verdict.", _field("unclassified")),
    Row("clock_untrusted_total", COUNTER, "Readings whose timestamp is over 7 days before or 5 minutes after their "
        "receipt; the cloud counts them at the minute of receipt.", _field("clock_untrusted")),
    Row("replayed_total", COUNTER, "Dead letters taken in again by `deadletters replay`.", _field("replayed")),
    Row("dead_letters_dropped_total", COUNTER, "Dead letters that gave way to newer ones; they are counted, not kept.",
        _field("dead_letters_dropped")),
    Row("salvages_total", COUNTER, "Damaged outbox files that were set aside and recovered.", _field("salvages")),
    Row("lost_total", COUNTER, "Readings and events that could not be read from a damaged outbox.", _field("lost")),
    Row("publishes_total", COUNTER, "Messages published to AWS IoT since the start.", _field("publishes")),
    Row("published_bytes_total", COUNTER, "Their payloads' bytes.", _field("published_bytes")),
    Row("publishes_per_second", GAUGE, "Publish rate over the last minute.", _field("publishes_per_s")),
    Row("published_bytes_per_second", GAUGE, "Bytes published per second over the last minute.",
        _field("published_bytes_per_s")),
    Row("not_accepted_total", COUNTER, "Publishes that AWS refused or did not answer; they went again.",
        _field("not_accepted")),
    Row("resends_total", COUNTER, "Messages published again since no receipt came.", _field("resends")),
    Row("receipts_overdue", GAUGE, "Accepted messages without a receipt for longer than RECEIPT_TIMEOUT.",
        _field("receipts_overdue")),
    Row("connects_total", COUNTER, "Connections made to AWS IoT since the start.", _field("connects")),
    Row("takeovers_total", COUNTER, "Connections that another client with the same client id ended.",
        _field("takeovers")),
    Row("puback_seconds", HISTOGRAM, "From publish to PUBACK.", buckets=PUBACK_BUCKETS_S),
    Row("receipt_seconds", HISTOGRAM, "From the first publish to the receipt.", buckets=RECEIPT_BUCKETS_S),
    Row("scored_total", COUNTER, "Readings that went through a detector since the start.", _field("scored")),
    Row("detector_seconds_total", COUNTER, "Time that the detectors took for them.", _field("detector_s")),
    Row("retrains_total", COUNTER, "Models fitted anew since the start.", _field("retrains")),
    Row("remote_settings", GAUGE, "1 while the device shadow is answered; 0: it is off, or the status says why not.",
        lambda s: int(s["remote"]["state"] == "on")),
    Row("batch_age_seconds", GAUGE, "For how long a live reading usually waits at most to be sealed; while somebody "
        "watches it is less, the carbon policy may make it more; 0 with the shadow off.",
        lambda s: s["remote"].get("batch_age_s", 0)),
    Row("carbon_intensity_g_per_kwh", GAUGE, "Carbon intensity of electricity, gCO2/kWh, of site and cloud; none with "
        "CARBON=off.",
        lambda s: _carbon(s, {"site": "intensity_g_per_kwh", "cloud": "cloud_intensity_g_per_kwh"}), "place"),
    Row("carbon_state", GAUGE, "1 for the state that the carbon policy is in: low, normal, high.",
        lambda s: {state: int(s["carbon"]["state"] == state) for state in STATES} if s.get("carbon") else {}, "state"),
    Row("carbon_measured", GAUGE, "1: the site's intensity is a provider's or a file's; 0: it is assumed, or off.",
        lambda s: int(bool(s.get("carbon") and s["carbon"]["measured"]))),
    Row("carbon_backlog_share", GAUGE, "Share of its pace that the backlog goes at; 1 but while the state is high.",
        lambda s: s["carbon"]["terms"]["backfill"] if s.get("carbon") else 1),
    Row("carbon_grams_today", GAUGE, "Estimated gCO2 since midnight UTC, or since the start; docs/carbon.md says how "
        "far it may be off.", lambda s: _carbon(s, {"bridge": "bridge_g", "network": "network_g", "cloud": "cloud_g"}),
        "part"),
    Row("energy_wh_today", GAUGE, "The energy that this is reckoned from, in Wh.",
        lambda s: s["carbon"]["estimated_wh"] if s.get("carbon") else 0),
    Row("connected", GAUGE, "1 while there is a connection, by link: cloud, mqtt, kafka.",
        lambda s: {link: int(up) for link, up in s["connected"].items()}, "link"),
    Row("alarm", GAUGE, "1 while this alarm is up; the log and the status say what to do.",
        lambda s: {alarm: int(alarm in s["alarms"]) for alarm in alarms.ALL}, "alarm"),
    Row("certificate_left_seconds", GAUGE, "Until the device certificate ends; below 0: it has ended.",
        lambda s: (s["certificate_days"] or 0) * DAY_S),
    Row("outbox_bytes", GAUGE, "Bytes in use in the outbox file.", _field("outbox_bytes")),
    Row("outage_budget_seconds", GAUGE, "How long the cloud may stay away until the outbox is full, at the present "
        "rate.", _endless("outage_budget_h", HOUR_S)),
    Row("drain_eta_seconds", GAUGE, "Until the backlog is gone, at the present net rate; +Inf: it does not shrink.",
        _endless("drain_eta_s")),
)
_FAMILIES = {COUNTER: CounterMetricFamily, GAUGE: GaugeMetricFamily}


class Metrics(Collector):
    """A registry of its own: what `latest` returns (a status; {} before the first), and the histograms."""

    def __init__(self, latest: Callable[[], dict[str, Any]]) -> None:
        self._latest = latest
        self.registry = CollectorRegistry(auto_describe=False)
        self._histograms = {
            row.name.removesuffix("_seconds"): Histogram(PREFIX + row.name, row.sentence, buckets=row.buckets,
                                                         registry=self.registry)
            for row in TABLE if row.kind == HISTOGRAM}
        self.registry.register(self)

    def observe(self, what: str, seconds: float) -> None:
        """One PUBACK ("puback") or receipt ("receipt") took so long."""
        self._histograms[what].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Asked by the registry at each scrape."""
        status = self._latest()
        for row in TABLE if status else ():
            if row.kind == HISTOGRAM:
                continue
            family = _FAMILIES[row.kind](PREFIX + row.name, row.sentence, labels=[row.label] if row.label else [])
            found = row.read(status)
            for label, value in (found or {}).items() if row.label else (((), found),):
                family.add_metric([label] if row.label else [], value)
            yield family


def table() -> str:
    """Every metric as a table in Markdown."""
    lines = ["# Metrics", "", "`GET /metrics` on `METRICS_PORT`. Made by `python -m edge_bridge.metrics`.", "",
             "| Name | Kind | Label | What it says |", "|---|---|---|---|"]
    lines += [f"| `{PREFIX}{row.name}` | {row.kind} | {row.label} | {row.sentence} |" for row in TABLE]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
