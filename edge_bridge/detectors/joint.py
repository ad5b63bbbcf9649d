"""The detector for fields judged together (`sensor1+sensor2` in SCORED_FIELDS); made by judging.py.

Each field is foretold from the others of the same reading, by the correlations that the stream has shown, and compared
with what it is: a reading whose every field is usual, but not beside the others, is found. Which field stands out most,
and where it would have been normal given the others, is in the verdict.
"""
import json
from typing import Any

import numpy

from edge_bridge.detectors import SPIKE, UNUSUAL, Verdict
from edge_bridge.detectors.band import CLIP_SIGMA, EARLY, expected

WARM_UP = 40  # readings: the correlation of two fields is known to 0.16 then
LIMIT_SIGMA = 4.0  # as in band.py: by chance 1 in 16,000, and nobody is told of many outliers here
RATE = 1 / 256  # of the spread's and the correlations' following; the level's is 1/32
LEVEL_RATE = 1 / 32
RIDGE = 1e-3  # added to the diagonal: fields that say the same differ by 3 % of their spread at least
CLIPPED = expected(LIMIT_SIGMA)  # the mean of z², clipped: 0.92 where it would be 1
RUN = 25  # readings in a row outside are a new normal: everything is learned anew


class JointDetector:
    """count: how many values each reading has."""

    def __init__(self, count: int) -> None:
        self._width = count
        self._begin()

    def _begin(self) -> None:
        self._first: list[list[float]] = []
        self._taken = self._run = 0
        self._level = self._spread = numpy.zeros(self._width)
        self._step = numpy.zeros(self._width)
        self._together = numpy.eye(self._width)

    def update(self, values: tuple[float, ...], at_ms: int) -> Verdict:
        """Take in one reading's values and judge them. score: 0 at the band's edge, -1 at twice its distance."""
        row = numpy.array(values, float)
        self._taken += 1
        if self._taken <= WARM_UP:
            self._first.append(row.tolist())
            if self._taken == WARM_UP:
                self._settle()
            return Verdict(False)
        return self._judge(row)

    def _settle(self) -> None:
        first = numpy.array(self._first)
        self._level = numpy.median(first, axis=0)
        steps = abs(numpy.diff(first, axis=0))
        self._step = numpy.array([column[column > 0].min(initial=numpy.inf) for column in steps.T])
        self._step[~numpy.isfinite(self._step)] = 0
        self._spread = numpy.maximum(1.4826 * numpy.median(abs(first - self._level), axis=0), self._least())
        clipped = numpy.clip((first - self._level) / self._spread, -CLIP_SIGMA, CLIP_SIGMA)
        self._together = clipped.T @ clipped / len(first) / CLIPPED + RIDGE * numpy.eye(self._width)
        self._first = []

    def _least(self) -> Any:
        """No spread is finer than the sensor's own step, none is 0."""
        return numpy.maximum(self._step, abs(self._level) * 1e-12 + 1e-300)

    def _judge(self, row: Any) -> Verdict:
        z = (row - self._level) / self._spread
        inverse = numpy.linalg.inv(self._together)
        error = 1 / numpy.sqrt(numpy.diag(inverse))  # of foretelling each from the others
        foretold = z - (inverse @ z) / numpy.diag(inverse)
        limit = LIMIT_SIGMA * (1 + EARLY / self._taken)
        distances = abs(z - foretold) / error
        part = int(distances.argmax())
        distance = float(distances[part])
        low, high = (float(self._level[part] + self._spread[part] * (foretold[part] + side * limit * error[part]))
                     for side in (-1, 1))
        if distance <= limit:
            self._run = 0
            self._follow(z)
            return Verdict(False, 1 - distance / limit, False, low, high, None, part)
        self._run += 1
        if self._run >= RUN:
            self._begin()
        reason = SPIKE if abs(z[part]) > limit * float(numpy.sqrt(self._together[part, part])) else UNUSUAL
        return Verdict(True, 1 - distance / limit, False, low, high, reason, part)

    def _follow(self, z: Any) -> None:
        rate = max(RATE, 1 / self._taken)
        clipped = numpy.clip(z, -CLIP_SIGMA, CLIP_SIGMA)
        self._level = self._level + max(LEVEL_RATE, 1 / self._taken) * self._spread * clipped
        self._spread = numpy.maximum(self._spread, self._least())
        ridge = RIDGE * numpy.eye(self._width)
        self._together += rate * (numpy.outer(clipped, clipped) / CLIPPED + ridge - self._together)

    def state(self) -> str:
        """All that later verdicts depend on."""
        return json.dumps({name: value.tolist() if isinstance(value, numpy.ndarray) else value
                           for name, value in vars(self).items()})

    def restore(self, state: str) -> None:
        """Become what `state` said."""
        members: dict[str, Any] = json.loads(state)
        for name in ("_level", "_spread", "_step", "_together"):
            members[name] = numpy.array(members[name])
        vars(self).update(members)
