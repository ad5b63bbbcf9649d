"""The bench's rows: what was measured, against which target; printed as a table and written to bench.json."""
import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One figure, measured once or several times. at_least, at_most: its target; goal: what is wished beyond it."""

    name: str
    unit: str
    runs: list[float] = field(default_factory=list)
    at_least: float | None = None
    at_most: float | None = None
    goal: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The middle run; None when this machine could not tell."""
        return statistics.median(self.runs) if self.runs else None

    @property
    def passed(self) -> bool | None:
        """Does the median meet the target? None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        if self.median is None:
            return False
        return ((self.at_least is None or self.median >= self.at_least)
                and (self.at_most is None or self.median <= self.at_most))

    def as_json(self) -> dict[str, Any]:
        """For bench.json."""
        return {"name": self.name, "unit": self.unit, "min": min(self.runs, default=None), "median": self.median,
                "max": max(self.runs, default=None), "runs": self.runs, "at_least": self.at_least,
                "at_most": self.at_most, "goal": self.goal, "pass": self.passed, "note": self.note}


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'':44} {'min':>11} {'median':>11} {'max':>11}  {'unit':<12} target"]
    for row in rows:
        found = [min(row.runs, default=None), row.median, max(row.runs, default=None)]
        figures = " ".join(f"{_figure(one):>11}" for one in found)
        lines.append(f"{row.name:44} {figures}  {row.unit:<12} {_target(row)}".rstrip())
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _target(row: Row) -> str:
    if row.passed is None:
        return ""
    limits = [f"{sign} {_figure(limit)}" for sign, limit in (("≥", row.at_least), ("≤", row.at_most))
              if limit is not None]
    return f"{' '.join(limits)} {'met' if row.passed else 'MISSED'}"


def write(path: Path, rows: list[Row], asked: dict[str, Any]) -> None:
    """bench.json: when, on what, asked how, and every row."""
    path.write_text(json.dumps({
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "asked": asked,
        "machine": {"system": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version(),
                    "load_1_min": round(os.getloadavg()[0], 2)},
        "rows": [row.as_json() for row in rows]}, indent=1, ensure_ascii=False) + "\n")
