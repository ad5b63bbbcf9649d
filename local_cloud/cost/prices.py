"""Prices and assumptions from prices.json, which the user may edit; bill.py and the cost pages price with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "prices.json"
MONTH_S = 2_628_000  # a twelfth of a year
_FIELDS = {"usd", "per", "unit", "region", "dated", "evidence", "source", "free_per_month"}


class PriceFault(ValueError):
    """A price file that does not hold together: what was got, what was expected."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit of a meter costs, what a unit is, and how much of it AWS gives away each month."""

    usd_each: float
    unit: str
    free_per_month: float
    described: Mapping[str, Any]


@dataclass(frozen=True)
class Prices:
    """A price file: `usd` prices a quantity; assumptions are what the meter cannot see from here."""

    as_of: str
    region: str
    table: Mapping[str, Price]
    assumptions: Mapping[str, float]
    reasons: Mapping[str, str]

    def usd(self, meter: str, quantity: float) -> float:
        """What a quantity costs before any free tier; PriceFault for a meter without a price."""
        if meter not in self.table:
            raise PriceFault(f"no price for {meter!r}; add it to {FILE.name}; it has {', '.join(sorted(self.table))}")
        return quantity * self.table[meter].usd_each

    def free(self, meter: str) -> float:
        """How many units AWS gives every account each month."""
        return self.table[meter].free_per_month if meter in self.table else 0.0

    def lambda_ms(self, *, invocations: float, event_bytes: float, calls: float, publishes: float,
                  memory_mb: int) -> float:
        """The time that warm invocations would take on AWS; not measured: a laptop is neither as slow nor as near."""
        assumed = self.assumptions
        share = min(1.0, memory_mb / assumed["mb_per_vcpu"])
        return (invocations * assumed["invocation_ms"] + calls * assumed["call_ms"]
                + publishes * assumed["publish_ms"] + event_bytes / 1024 * assumed["cpu_ms_per_kb"] / share)


def load(path: Path = FILE) -> Prices:
    """Read a price file; PriceFault names every row that does not hold together."""
    try:
        given = json.loads(path.read_text())
        rows, assumed = given["prices"], given["assumptions"]
    except (ValueError, KeyError, TypeError) as fault:
        what = f"{type(fault).__name__}: {fault}"
        raise PriceFault(f"{path}: {what}; expected JSON with prices and assumptions") from None
    faults = [f"{meter}: {wrong}" for meter, row in rows.items() if (wrong := _fault(row))]
    if faults:
        raise PriceFault(f"{path}: " + "; ".join(faults))
    table = {meter: Price(row["usd"] / row["per"], row["unit"], row.get("free_per_month", 0), row)
             for meter, row in rows.items()}
    return Prices(given["as_of"], given["region"], table, {name: float(one["value"]) for name, one in assumed.items()},
                  {name: one["why"] for name, one in assumed.items()})


def _fault(row: Mapping[str, Any]) -> str | None:
    missing = sorted(_FIELDS - {"free_per_month"} - set(row))
    if missing:
        return f"missing {', '.join(missing)}"
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        return f"unknown {', '.join(unknown)}"
    if not isinstance(row["usd"], int | float) or row["usd"] < 0:
        return f"usd is {row['usd']!r}, expected a number from 0 on"
    if not isinstance(row["per"], int | float) or row["per"] <= 0:
        return f"per is {row['per']!r}, expected a number above 0"
    return None
