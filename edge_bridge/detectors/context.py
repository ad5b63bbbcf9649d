"""The detector `context`: for streams with seasons, changes of regime and slow faults; made by judging.py.

Four things are looked at: the reading, how it differs from the same time on other days, the mean of the last 30, and
the shape of the last 24 beside all shapes before. Each is measured by how far out it is, as a share of the distance
that only few were out before (tails.py): ranks, so that no unit and no shape of distribution matters. It tells the
onset: a reading is an anomaly when it is stranger than the threshold, and than every one of the last 200.
"""
import json
from collections import deque
from typing import Any

import numpy

from edge_bridge.detectors import FLAT, SHIFT, SPIKE, UNUSUAL, Verdict
from edge_bridge.detectors.flatline import Flatline
from edge_bridge.detectors.season import Season
from edge_bridge.detectors.tails import Tail, packed, unpacked

HISTORY = 4000  # readings: 8 of them are beyond a share of 1 in 500, so the distance there is known
RARE = 1 / 500  # of single readings
RARE_STRETCH = 1 / 100  # of stretches: neighbours share most of their readings, so they count for fewer
STRETCH = 30  # readings in the mean
SHAPE = 24  # readings in a shape: a day of hours, two hours of five minutes
SHAPES = 2000  # that a shape is compared with, the newest
NEIGHBOUR = 5  # its distance is that to the 5th nearest: four odd ones may be there without making it usual
APART = 8  # the newest readings are left out: a shape is like itself
WARM_UP = 20  # readings before a flat line is thought of
POWER = 3  # of the mean over the four: one that is far out counts, two that are count more
THRESHOLD = 1.05  # farther out than rare on all four at once, or 1.7 times as far on one alone
ONSET = 200  # readings
STILL = 1e-6  # a run of repeats that chance brings more seldom is a flat line: few expect none at all
_SIGNALS = ("value", "season", "mean", "shape")


class ContextDetector:
    """See the module. About 90 kB of state for each field of a device."""

    def __init__(self) -> None:
        self._tails = {"value": Tail(HISTORY, RARE), "season": Tail(HISTORY, RARE),
                       "mean": Tail(HISTORY, RARE_STRETCH), "shape": Tail(HISTORY, RARE_STRETCH, from_zero=True)}
        self._season = Season()
        self._recent = numpy.zeros(SHAPES + SHAPE + APART)
        self._flatline = Flatline(STILL)
        self._count = 0
        self._records: deque[tuple[int, float]] = deque()  # (number, strangeness), falling: the first is the highest

    def update(self, value: float, at_ms: int) -> Verdict:
        """Take in one value and judge it. score: 0 at the threshold, below it an anomaly; 1 when there is no news."""
        self._flatline.note(bool(self._count) and value == self._recent[-1])
        self._recent[:-1] = self._recent[1:]
        self._recent[-1] = value
        self._count += 1
        usual = self._season.usual(at_ms)
        signals = {"value": value, "season": None if usual is None else value - usual,
                   "mean": float(self._recent[-min(self._count, STRETCH):].mean()), "shape": self._shape_distance()}
        low, high = self._band(usual)
        ratios = {name: self._tails[name].ratio(signal) for name, signal in signals.items() if signal is not None}
        for name, signal in signals.items():
            if signal is not None:
                self._tails[name].add(signal)
        self._season.add(value, at_ms)
        strangeness = (sum(ratio ** POWER for ratio in ratios.values()) / len(_SIGNALS)) ** (1 / POWER)
        suspicion = self._flatline.suspicion() if self._count > WARM_UP else 0.0
        if suspicion < 1:
            self._flatline.learn()
        else:
            strangeness = max(strangeness, THRESHOLD * 1.001)
        if not self._is_record(strangeness):
            return Verdict(False, 1.0, False, low, high)
        anomaly = strangeness > THRESHOLD
        return Verdict(anomaly, 1 - strangeness / THRESHOLD, False, low, high,
                       _reason(ratios, suspicion) if anomaly else None)

    def _band(self, usual: float | None) -> tuple[float | None, float | None]:
        """Where the value is not rare, nor rare for its time of day."""
        low, high = self._tails["value"].edges()
        if usual is None or low is None or high is None:
            return low, high
        below, above = self._tails["season"].edges()
        if below is None or above is None:
            return low, high
        return max(low, usual + below), min(high, usual + above)

    def _shape_distance(self) -> float | None:
        """From the last SHAPE readings to the NEIGHBOUR-th nearest of those before."""
        there = min(self._count, len(self._recent)) - SHAPE - APART
        if there < NEIGHBOUR:
            return None
        before = self._recent[-(there + SHAPE + APART):-APART]
        shapes = numpy.lib.stride_tricks.sliding_window_view(before, SHAPE)[:there]
        away = shapes - self._recent[-SHAPE:]
        squares = numpy.einsum("ij,ij->i", away, away)
        return float(numpy.float32(numpy.sqrt(numpy.partition(squares, NEIGHBOUR - 1)[NEIGHBOUR - 1])))

    def _is_record(self, strangeness: float) -> bool:
        """Is it stranger than the last ONSET readings?"""
        records = self._records
        while records and records[0][0] < self._count - ONSET:
            records.popleft()
        is_record = not records or strangeness > records[0][1]
        while records and records[-1][1] <= strangeness:
            records.pop()
        records.append((self._count, strangeness))
        return is_record

    def state(self) -> str:
        """All that later verdicts depend on."""
        return json.dumps({
            "count": self._count, "flatline": self._flatline.state(), "records": list(self._records),
            "recent": packed(self._recent), "season": self._season.state(),
            "tails": {name: tail.state() for name, tail in self._tails.items()}})

    def restore(self, state: str) -> None:
        """Become what `state` said."""
        members: dict[str, Any] = json.loads(state)
        self._count = members["count"]
        self._flatline.restore(members["flatline"])
        self._records = deque((number, strangeness) for number, strangeness in members["records"])
        self._recent = numpy.array(unpacked(members["recent"]))
        self._season.restore(members["season"])
        for name, tail in self._tails.items():
            tail.restore(members["tails"][name])


def _reason(ratios: dict[str, float], suspicion: float) -> str:
    """In one word. An odd time of day or an odd shape is unusual, unless the reading would be odd at any time."""
    if suspicion >= 1:
        return FLAT
    if max(ratios, key=lambda name: ratios[name]) == "mean":
        return SHIFT
    return SPIKE if ratios["value"] > 1 else UNUSUAL
