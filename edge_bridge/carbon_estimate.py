"""Estimated energy and gCO2 of bridge, network and cloud: what was measured here (CPU time, bytes, batches) times the
coefficients of one table; asked by carbon.py, told in the status. An estimate: its range is told beside it."""
import time
from collections.abc import Callable
from typing import NamedTuple

from edge_bridge.carbon_curve import DAY_S

DATED = "2026-11-22"
J_PER_KWH, BYTES_PER_GB = 3.6e6, 1e9


class Coefficient(NamedTuple):
    """value: what is reckoned with; lowest, highest: what may be true; source: where from, or that it is assumed."""

    value: float
    lowest: float
    highest: float
    unit: str
    source: str


TABLE = {
    "core_w": Coefficient(4.0, 1.0, 15.0, "W", "assumed: one busy core beyond idling, from a Raspberry Pi (1 to 1.5) "
                          "to a server (10 to 15); set CARBON_CORE_WATTS to what a power meter shows"),
    "idle_w": Coefficient(0.5, 0.0, 5.0, "W", "assumed: the bridge's share of a machine that idles at 3 to 10 W and "
                          "would mostly run without it; the range ends where the machine runs for it alone"),
    "network_kwh_per_gb": Coefficient(0.01, 0.001, 0.06, "kWh/GB", "Aslan et al. 2018, J. Industrial Ecology 22(4): "
                                      "fixed lines 0.06 in 2015, halving every two years: 0.001 to 0.002 today; "
                                      "mobile networks several times as much; as an average, not what one GB adds"),
    "pue": Coefficient(1.15, 1.07, 1.3, "", "AWS states a global power usage effectiveness of 1.15 for 2023"),
    "lambda_w_per_gb": Coefficient(1.6, 0.8, 2.4, "W/GB", "Cloud Carbon Footprint's coefficients for AWS: 0.74 to 3.5 "
                                   "W a vCPU, 0.39 W a GB; one vCPU per 1,769 MB"),
    "lambda_gb_s_per_batch": Coefficient(0.015, 0.005, 0.1, "GB-s", "assumed: persist and aggregate, 256 MB, 30 ms "
                                         "each, as docs/cost.md reckons; several batches share one invocation"),
    "services_j_per_batch": Coefficient(5.0, 0.5, 50.0, "J", "assumed: queue, table, stream, archive and rule of "
                                        "one batch, about ten requests; AWS states nothing for one"),
}


class Joules(NamedTuple):
    """Energy by where it is used; low and high bound the sum."""

    bridge: float
    network: float
    cloud: float
    low: float
    high: float


def joules(cpu_s: float, up_s: float, sent_bytes: float, batches: float, core_w: float | None = None) -> Joules:
    """Energy for so much CPU time, running time, traffic and messages. core_w: measured, in place of the table's."""
    def parts(pick: Callable[[Coefficient], float], watts: float | None) -> tuple[float, float, float]:
        c = {name: pick(row) for name, row in TABLE.items()}
        return (cpu_s * (c["core_w"] if watts is None else watts) + up_s * c["idle_w"],
                sent_bytes / BYTES_PER_GB * c["network_kwh_per_gb"] * J_PER_KWH,
                batches * c["pue"] * (c["lambda_gb_s_per_batch"] * c["lambda_w_per_gb"] + c["services_j_per_batch"]))

    is_set = core_w is not None and core_w != TABLE["core_w"].value
    return Joules(*parts(lambda row: row.value, core_w), sum(parts(lambda row: row.lowest, core_w if is_set else None)),
                  sum(parts(lambda row: row.highest, core_w if is_set else None)))


class Meter:
    """Adds up energy and gCO2 since midnight UTC, or since the start if that was later. traffic: (bytes, messages) that
    were published since the start; network electricity counts at the site's intensity."""

    def __init__(self, traffic: Callable[[], tuple[int, int]], core_w: float,
                 cpu_s: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic,
                 now_s: Callable[[], float] = time.time) -> None:
        self._traffic, self._core_w, self._cpu_s, self._clock, self._now_s = traffic, core_w, cpu_s, clock, now_s
        self._day = int(now_s() // DAY_S)
        self._before = self._read()
        self._told = dict.fromkeys(("bridge", "network", "cloud", "low", "high", "wh"), 0.0)

    def _read(self) -> tuple[float, float, float, float]:
        sent_bytes, messages = self._traffic()
        return self._cpu_s(), self._clock(), float(sent_bytes), float(messages)

    def add(self, site_g: float | None, cloud_g: float | None) -> None:
        """What was used since the last time was used at these intensities; None: not known, nothing is added up."""
        day = int(self._now_s() // DAY_S)
        if day != self._day:
            self._day, self._told = day, dict.fromkeys(self._told, 0.0)
        now = self._read()
        cpu_s, up_s, sent_bytes, messages = (b - a for a, b in zip(self._before, now, strict=True))
        used = joules(cpu_s, up_s, sent_bytes, messages, self._core_w)
        self._before = now
        if site_g is None:
            return
        grams = {"bridge": used.bridge * site_g, "network": used.network * site_g,
                 "cloud": used.cloud * (cloud_g or 0.0)}
        middle_j = used.bridge + used.network + used.cloud
        average_g = sum(grams.values()) / middle_j if middle_j else 0.0
        for name, value in {**grams, "low": used.low * average_g, "high": used.high * average_g}.items():
            self._told[name] += value / J_PER_KWH
        self._told["wh"] += middle_j / 3600

    def told(self) -> dict[str, float]:
        """For the status: gCO2 today and of what, its range, and the watt hours."""
        told = {name: round(value, 4) for name, value in self._told.items()}
        return {"estimated_g": round(sum(self._told[name] for name in ("bridge", "network", "cloud")), 4),
                "bridge_g": told["bridge"], "network_g": told["network"], "cloud_g": told["cloud"],
                "estimated_low_g": told["low"], "estimated_high_g": told["high"], "estimated_wh": told["wh"]}
