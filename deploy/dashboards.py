"""The Grafana dashboards: the tables below become deploy/grafana/dashboards/*.json, which Grafana reads at its start.

`python -m deploy.dashboards` writes them; a test compares, and looks up every metric in edge_bridge/metrics.py.
"""
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from deploy.processes import ROOT

OUT = ROOT / "deploy" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
STAT, LINES = "stat", "timeseries"
HEIGHT = {STAT: 4, LINES: 8}
B = "edgecloud_bridge_"
ME = '{instance=~"$instance"}'


class Panel(NamedTuple):
    """One panel. queries: (PromQL, legend); unit: Grafana's name for it; steps: {from this value on: colour}."""

    title: str
    kind: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 12
    steps: dict[float, str] | None = None
    names: dict[str, str] | None = None
    stacked: bool = False


def rate(name: str, by: str = "") -> str:
    """A counter as a rate per second, summed over what is not asked for."""
    return f"sum{f' by ({by})' if by else ''} (rate({B}{name}{ME}[$__rate_interval]))"


def quantile(q: float, name: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, sum by (le) (rate({B}{name}_bucket{ME}[$__rate_interval])))"


def link(name: str) -> str:
    """Is there a connection? 0 or 1."""
    return f'min({B}connected{{instance=~"$instance", link="{name}"}})'


UP = {"0": "away", "1": "connected"}
Steps = dict[float, str]
GOOD_FROM_1: Steps = {0: "red", 1: "green"}
BAD_FROM_1: Steps = {0: "green", 1: "red"}
BUDGET: Steps = {0: "red", 6 * 3600: "yellow", 24 * 3600: "green"}
CERTIFICATE: Steps = {0: "red", 7 * 86400: "yellow", 30 * 86400: "green"}
AGE: Steps = {0: "green", 60: "yellow", 600: "red"}

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "edge": ("EdgeCloud: the site", (
        Panel("Cloud", STAT, ((link("cloud"), ""),), width=4, steps=GOOD_FROM_1, names=UP),
        Panel("LAN broker", STAT, ((link("mqtt"), ""),), width=4, steps=GOOD_FROM_1, names=UP),
        Panel("Kafka", STAT, ((link("kafka"), ""),), width=4, steps=GOOD_FROM_1, names=UP),
        Panel("Oldest unsent reading", STAT, ((f"max({B}oldest_unsent_age_seconds{ME})", ""),), "s", 4, AGE),
        Panel("Outage budget", STAT, ((f"min({B}outage_budget_seconds{ME})", ""),), "s", 4, BUDGET),
        Panel("Certificate ends in", STAT, ((f"min({B}certificate_left_seconds{ME})", ""),), "s", 4, CERTIFICATE),
        Panel("Readings and events per second", LINES, tuple(
            (rate(f"{step}_total"), step) for step in ("received", "committed", "sent", "delivered")), "reqps"),
        Panel("Waiting on disk, by lane", LINES, ((f"sum by (lane) ({B}waiting_readings{ME})", "{{lane}}"),),
              stacked=True),
        Panel("Dropped, lost, dead letters (in all)", LINES, (
            (f"sum by (reason) ({B}dropped_total{ME})", "dropped: {{reason}}"),
            (f"sum by (reason) ({B}alerts_dropped_total{ME})", "alerts dropped: {{reason}}"),
            (f"sum({B}lost_total{ME})", "lost: damaged outbox"),
            (f"sum by (reason) ({B}dead_lettered_total{ME})", "dead letter: {{reason}}"))),
        Panel("Repeats and turns (in all)", LINES, tuple(
            (f"sum({B}{name}_total{ME})", name.replace("_", " "))
            for name in ("repeats", "possible_duplicates", "out_of_turn", "skipped", "clock_untrusted"))),
        Panel("Alarms", LINES, ((f"max by (alarm) ({B}alarm{ME})", "{{alarm}}"),), steps=BAD_FROM_1),
        Panel("Outbox", LINES, ((f"sum({B}outbox_bytes{ME})", "in use"),), "bytes"),
    )),
    "uplink": ("EdgeCloud: uplink", (
        Panel("Cloud", STAT, ((link("cloud"), ""),), width=4, steps=GOOD_FROM_1, names=UP),
        Panel("Publishes per second", STAT, ((f"sum({B}publishes_per_second{ME})", ""),), "reqps", 4,
              {0: "green", 80: "yellow", 100: "red"}),
        Panel("Bytes per second", STAT, ((f"sum({B}published_bytes_per_second{ME})", ""),), "Bps", 4,
              {0: "green", 400_000: "yellow", 512_000: "red"}),
        Panel("Receipts overdue", STAT, ((f"sum({B}receipts_overdue{ME})", ""),), width=4, steps=BAD_FROM_1),
        Panel("Backlog gone in", STAT, ((f"max({B}drain_eta_seconds{ME})", ""),), "s", 4, AGE),
        Panel("Stalled for", STAT, ((f"max({B}stalled_seconds{ME})", ""),), "s", 4, AGE),
        Panel("From publish to PUBACK", LINES, tuple(
            (quantile(q, "puback_seconds"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)), "s"),
        Panel("From the first publish to the receipt: stored in the cloud", LINES, tuple(
            (quantile(q, "receipt_seconds"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)), "s"),
        Panel("Messages per second", LINES, ((rate("publishes_total"), "published"),
                                             (rate("resends_total"), "sent again: no receipt"),
                                             (rate("not_accepted_total"), "not accepted")), "reqps"),
        Panel("Readings and events in a message", LINES, (
            (f"{rate('sent_total')} / {rate('publishes_total')}", "readings a message"),)),
        Panel("Bytes per second", LINES, ((rate("published_bytes_total"), "published"),), "Bps"),
        Panel("Connects (in all)", LINES, ((f"sum by (instance) ({B}connects_total{ME})", "{{instance}}"),)),
    )),
    "detector": ("EdgeCloud: detector", (
        Panel("Anomalies in an hour", STAT, ((f"sum(increase({B}anomalies_total{ME}[1h]))", ""),), width=6),
        Panel("Share of readings found anomalous", STAT, (
            (f"sum(rate({B}anomalies_total{ME}[1h])) / sum(rate({B}scored_total{ME}[1h]))", ""),), "percentunit", 6,
            {0: "green", 0.05: "yellow", 0.2: "red"}),
        Panel("Time for a reading", STAT, (
            (f"sum(rate({B}detector_seconds_total{ME}[5m])) / sum(rate({B}scored_total{ME}[5m]))", ""),), "s", 6),
        Panel("Without a verdict (in all)", STAT, ((f"sum({B}unclassified_total{ME})", ""),), width=6,
              steps=BAD_FROM_1),
        Panel("Scored per second", LINES, ((rate("scored_total"), "scored"), (rate("committed_total"), "committed")),
              "reqps"),
        Panel("Anomalies per second", LINES, ((rate("anomalies_total"), "found"),
                                              (rate("alerts_delivered_total"), "alert stored in the cloud")), "reqps"),
        Panel("The detectors' share of one core", LINES, ((rate("detector_seconds_total"), "share"),), "percentunit"),
        Panel("Models fitted anew per second", LINES, ((rate("retrains_total"), "retrained"),), "reqps"),
    )),
    "camera": ("EdgeCloud: cameras", (
        Panel("Kafka", STAT, ((link("kafka"), ""),), width=6, steps=GOOD_FROM_1, names=UP),
        Panel("Kafka lost in a day", STAT, (
            (f'sum(resets({B}connected{{instance=~"$instance", link="kafka"}}[1d]))', ""),), width=6,
            steps={0: "green", 1: "yellow", 10: "red"}),
        Panel("Taken from all sources per second", STAT, ((rate("received_total"), ""),), "reqps", 6),
        Panel("Dead letters in a day", STAT, (
            (f"sum(increase({B}dead_lettered_total{ME}[1d])) or vector(0)", ""),), width=6, steps=BAD_FROM_1),
        Panel("Link to Kafka", LINES, ((f'max by (instance) ({B}connected{{instance=~"$instance", link="kafka"}})',
                                        "{{instance}}"),)),
        Panel("Put on disk per second, by device", LINES, ((rate("device_committed_total", "device"), "{{device}}"),),
              "reqps"),
        Panel("Readings and events per second", LINES, tuple(
            (rate(f"{step}_total"), step) for step in ("received", "committed", "delivered")), "reqps"),
        Panel("What breaks the contract, by reason (in all)", LINES, (
            (f"sum by (reason) ({B}dead_lettered_total{ME})", "{{reason}}"),)),
    )),
}


def panel(number: int, made: Panel, x: int, y: int) -> dict[str, Any]:
    """One panel as Grafana stores it."""
    steps = [{"color": colour, "value": None if start == 0 else start} for start, colour in (made.steps or {}).items()]
    defaults: dict[str, Any] = {
        "unit": made.unit, "min": 0,
        "color": {"mode": "thresholds" if made.kind == STAT and made.steps else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps or [{"color": "green", "value": None}]}}
    if made.names:
        defaults["mappings"] = [{"type": "value", "options": {
            value: {"text": text} for value, text in made.names.items()}}]
    if made.kind == LINES:
        defaults["custom"] = {"fillOpacity": 30 if made.stacked else 5, "lineWidth": 2, "showPoints": "never",
                              "stacking": {"mode": "normal" if made.stacked else "none"}}
        options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"},
                                   "tooltip": {"mode": "multi"}}
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "none"}
    return {
        "id": number, "title": made.title, "type": made.kind, "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": made.width, "h": HEIGHT[made.kind]},
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options,
        "targets": [{"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query,
                     "legendFormat": legend or "__auto", "instant": made.kind == STAT, "range": made.kind == LINES}
                    for index, (query, legend) in enumerate(made.queries)],
    }


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard: its panels from left to right, row after row."""
    title, chosen = DASHBOARDS[name]
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, made in enumerate(chosen, start=1):
        if x + made.width > COLUMNS:
            x, y = 0, y + panels[-1]["gridPos"]["h"]
        panels.append(panel(number, made, x, y))
        x += made.width
    instance = {"name": "instance", "label": "Bridge", "type": "query", "datasource": SOURCE, "refresh": 2,
                "query": f"label_values({B}info, instance)", "includeAll": True, "multi": True,
                "current": {"text": "All", "value": "$__all"}}
    return {"uid": f"edgecloud-{name}", "title": title, "tags": ["edgecloud"], "schemaVersion": 39, "version": 1,
            "editable": False, "refresh": "15s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "templating": {"list": [instance]}, "panels": panels,
            "links": [{"type": "dashboards", "tags": ["edgecloud"], "title": "EdgeCloud", "asDropdown": False}]}


def text(name: str) -> str:
    """The file of one dashboard."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def main(out: Path = OUT) -> int:
    """Write every file."""
    out.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (out / f"{name}.json").write_text(text(name))
        print(out / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
