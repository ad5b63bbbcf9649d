"""The dashboards' queries, asked of a running Prometheus and drawn by matplotlib to docs/pictures: not Grafana's own
rendering, but its panels, places, titles and data.

    python -m tests.pictures.dashboards http://127.0.0.1:9090 MINUTES [END, in seconds since 1970]
"""
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

from deploy import dashboards
from tests.compose_model import ROOT

matplotlib.use("Agg")
from matplotlib import pyplot

OUT = ROOT / "docs" / "pictures"
COLOURS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}
UNITS = {"reqps": "/s", "s": " s", "Bps": " B/s", "bytes": " B", "percentunit": "", "short": ""}
STEPS = 120


def ask(address: str, path: str, **parameters: str | float) -> list[dict[str, Any]]:
    """The series that Prometheus answers with."""
    query = str(parameters["query"]).replace("$instance", ".+").replace("$__rate_interval", "20s")
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode({**parameters, 'query': query})}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return list(json.load(answer)["data"]["result"])


def named(legend: str, metric: dict[str, str]) -> str:
    """A legend with the labels put in."""
    for label, value in metric.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def text(panel: dashboards.Panel, value: float) -> str:
    """A value as a tile shows it."""
    if panel.names:
        return panel.names.get(f"{value:g}", f"{value:g}")
    if math.isinf(value):
        return "∞"
    if panel.unit == "percentunit":
        return f"{value * 100:.1f} %"
    if panel.unit == "s":
        for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
            if value >= 2 * size:
                return f"{value / size:.1f} {unit}"
        return f"{value:.2f} s" if value >= 0.01 or value == 0 else f"{value * 1e6:.0f} µs"
    return f"{value:,.0f}{UNITS[panel.unit]}" if value >= 10 else f"{value:.2g}{UNITS[panel.unit]}"


def draw_tile(axes: Any, panel: dashboards.Panel, address: str, now_s: float) -> None:
    """One number on the colour of its step."""
    found = ask(address, "query", query=panel.queries[0][0], time=now_s)
    value = float(found[0]["value"][1]) if found else math.nan
    colour = "#3274d9"
    for start, name in (panel.steps or {}).items():
        colour = COLOURS[name] if value >= start else colour
    axes.set_facecolor(colour)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.45, text(panel, value) if found else "no data", ha="center", va="center", fontsize=15,
              color="white", weight="bold", transform=axes.transAxes)


def draw_lines(axes: Any, panel: dashboards.Panel, address: str, start_s: float, now_s: float) -> None:
    """The series over the time."""
    lines = []
    for query, legend in panel.queries:
        step_s = (now_s - start_s) / STEPS
        for series in ask(address, "query_range", query=query, start=start_s, end=now_s, step=step_s):
            points = [(float(at) - now_s, float(value)) for at, value in series["values"]]
            lines.append((named(legend, series["metric"]), points))
    for label, points in lines:
        axes.plot([at for at, _ in points], [value for _, value in points], label=label, linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("seconds before now", fontsize=7)
    axes.grid(alpha=0.25)
    if lines:
        axes.legend(fontsize=6.5, loc="upper left", ncols=2, framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no such event", ha="center", va="center", fontsize=10, transform=axes.transAxes)


def draw(name: str, address: str, minutes: float, now_s: float, out: Path) -> Path:
    """One dashboard as a PNG."""
    title, chosen = dashboards.DASHBOARDS[name]
    places = [panel["gridPos"] for panel in dashboards.dashboard(name)["panels"]]
    rows = max(place["y"] + place["h"] for place in places)
    figure = pyplot.figure(figsize=(16, rows * 0.36 + 0.7))
    figure.suptitle(title, fontsize=15)
    for panel, place in zip(chosen, places, strict=True):
        left, foot, head = 0.035 if panel.kind == dashboards.LINES else 0.01, 0.75 / rows, 1.0 / rows
        axes = figure.add_axes((
            place["x"] / 24 * 0.98 + left + 0.005, (1 - (place["y"] + place["h"]) / rows) * 0.92 + foot + 0.012,
            place["w"] / 24 * 0.98 - left - 0.01, place["h"] / rows * 0.92 - head - foot))
        axes.set_title(panel.title, fontsize=9, pad=3)
        if panel.kind == dashboards.STAT:
            draw_tile(axes, panel, address, now_s)
        else:
            draw_lines(axes, panel, address, now_s - minutes * 60, now_s)
    path = out / f"dashboard-{name}.png"
    figure.savefig(path, dpi=75)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    end_s = float(sys.argv[3]) if len(sys.argv) > 3 else time.time()
    for one in dashboards.DASHBOARDS:
        print(draw(one, sys.argv[1].rstrip("/"), float(sys.argv[2]), end_s, OUT))
