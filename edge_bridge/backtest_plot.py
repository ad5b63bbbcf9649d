"""The picture of a back-test, drawn by backtest.py: readings, normal band, anomalies and incidents, a panel a mode."""
from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_bridge.backtest_input import BadInput
from edge_bridge.detectors import FLAT, SHIFT, SPIKE, UNUSUAL

if TYPE_CHECKING:
    from edge_bridge.backtest import Tested
    from edge_bridge.backtest_input import Reading

INK, BAND, INCIDENT = "#33475b", "#cfe3f1", "#f0a93b"
MARKS = {SPIKE: ("o", "#c0392b"), SHIFT: ("s", "#d35400"), FLAT: ("D", "#7d3c98"), UNUSUAL: ("^", "#117a65"),
         None: ("o", "#c0392b")}
WIDTH_IN, PANEL_IN, DPI = 13.0, 4.2, 110
CROWD = 60  # marks: of more, the white edges would hide the colour
SPARSE = 600  # readings: with more, dots would only be a cloud
MARGIN = 0.08
STRIP = 0.025  # of the height


def draw(path: Path, readings: Sequence[Reading], tested: Sequence[Tested], title: str) -> None:
    """Write the PNG. Raises BadInput where matplotlib is missing or the file cannot be written."""
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    except ImportError as error:
        raise BadInput(f"--plot needs matplotlib, which is not installed here ({error}); pip install matplotlib, or "
                       "leave --plot out") from error
    figure, panels = pyplot.subplots(len(tested), 1, figsize=(WIDTH_IN, 0.5 + PANEL_IN * len(tested)), sharex=True,
                                     squeeze=False, layout="constrained")
    at = [datetime.fromtimestamp(reading.at_ms / 1000, UTC) for reading in readings]
    for panel, one in zip(panels[:, 0], tested, strict=True):
        _panel(panel, at, readings, one)
    panels[0, 0].set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK)
    locator = AutoDateLocator()
    panels[-1, 0].xaxis.set_major_locator(locator)
    panels[-1, 0].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panels[-1, 0].set_xlabel("time (UTC)", color=INK)
    try:
        figure.savefig(path, dpi=DPI)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be written ({error})") from error
    finally:
        pyplot.close(figure)


def _panel(panel: Any, at: list[datetime], readings: Sequence[Reading], tested: Tested) -> None:
    parts = [verdict.part for verdict in tested.verdicts]
    values = [reading.values[part] for reading, part in zip(readings, parts, strict=True)]
    _incidents(panel, at, tested)
    low = [_or_nan(verdict.low) for verdict in tested.verdicts]
    high = [_or_nan(verdict.high) for verdict in tested.verdicts]
    if not all(map(math.isnan, low)):
        panel.fill_between(at, low, high, color=BAND, linewidth=0, step="mid", label="normal band", zorder=1)
    style = {"marker": ".", "markersize": 3} if len(values) <= SPARSE else {}
    panel.plot(at, values, color=INK, linewidth=0.7, label="reading", zorder=2, **style)
    _anomalies(panel, at, values, tested)
    span = (max(values) - min(values)) or 1.0
    panel.set_ylim(min(values) - MARGIN * span, max(values) + MARGIN * span)
    panel.set_xlim(at[0], at[-1])
    panel.set_ylabel(tested.mode, color=INK, fontsize=12)
    panel.text(1.0, 1.01, f"{tested.flagged} of {len(values)} readings anomalous ({tested.share_percent:.2g} %), "
               f"{tested.incidents_in_words}", transform=panel.transAxes, ha="right", va="bottom", color=INK)
    panel.grid(alpha=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.legend(loc="upper left", bbox_to_anchor=(1.005, 1.0), frameon=False, borderaxespad=0.0)


def _incidents(panel: Any, at: list[datetime], tested: Tested) -> None:
    """A strip along the bottom where one was open, at least as wide as can be seen, and a breath of it above."""
    least = (at[-1] - at[0]) / 400
    for index, (first, last) in enumerate(tested.incidents):
        start, end = at[first], max(at[last], at[first] + least)
        panel.axvspan(start, end, ymax=STRIP, color=INCIDENT, linewidth=0, zorder=4,
                      label=None if index else "incident")
        panel.axvspan(start, end, color=INCIDENT, alpha=0.08, linewidth=0, zorder=0)


def _anomalies(panel: Any, at: list[datetime], values: list[float], tested: Tested) -> None:
    for reason, (marker, color) in MARKS.items():
        indices = [i for i, verdict in enumerate(tested.verdicts) if verdict.anomaly and verdict.reason == reason]
        if indices:
            panel.scatter([at[i] for i in indices], [values[i] for i in indices], marker=marker, s=22, color=color,
                          edgecolors="white", linewidths=0.4 if len(indices) <= CROWD else 0, zorder=3,
                          label=f"{reason or 'anomaly'} ({len(indices)})")


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number
