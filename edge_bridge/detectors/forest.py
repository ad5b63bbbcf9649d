"""The detector `forest`: an isolation forest's verdict, kept honest by robust statistics; made by judging.py.

A reading is an anomaly when it leaves the band (band.py) and, unless it is very far out or one of a run, the forest
that `seed` would have agrees; when it repeats the last one too often for this stream; or while a run outside lasts
that is no new normal yet. Forests are grown only when one is asked, so a healthy stream costs next to nothing.
"""
import json
import math
from array import array
from collections import deque
from statistics import median
from typing import Any

from edge_bridge.detectors import FLAT, SHIFT, SPIKE, UNUSUAL, Verdict
from edge_bridge.detectors.band import LOOK_EVERY, Band
from edge_bridge.detectors.flatline import Flatline
from edge_bridge.detectors.seed import REFIT_EVERY, WINDOW, shared

WARM_UP = REFIT_EVERY  # readings, as many as the first forest is grown on
FAR = 1.5  # times the limit: 6 sigma, where the forest is not asked: it gets used to outliers that its window holds
RUN = WINDOW // 4  # that many readings on, most of them outside, are a new normal: a forest would have learned it too
RUN_OUTSIDE = 23  # of RUN: 9 in 10
OFTEN, OFTEN_RATE = 0.3, 1 / 256  # outside, over some 256 readings: no anomaly is so common (8 % are in a bad stream)
SHIFTED = 3  # so many in a row on one side: a shift and no spike (by chance 1 in 150 at 8 % outliers on both sides)
LASTING = 0.9  # how likely such a run goes on: it is at least 10 long
NEAREST = 1.0  # sigma: within a run no limit is nearer
RECOGNISED, OF_LAST, KNOWN_LEVELS = 5, 6, 4  # readings at a level that was normal before; levels remembered
FAMILIAR_SIGMA = 2.5
ESTABLISHED = WINDOW  # readings at a level before it is remembered
IMPROBABLE = 1e-4  # for a flat line: as improbable as a reading at 4 sigma
FORGET_RUNS = 200.0  # readings outside, after which half of what was learned of runs has faded
_NOT_STATE = ("_forest", "_models", "_grew")


class ForestDetector:
    """See the module."""

    def __init__(self) -> None:
        self._forest, self._models = shared()
        self._band = Band()
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._grown_on = array("d")
        self._count = 0
        self._outside: deque[bool] = deque(maxlen=RUN)
        self._share_outside = 0.0
        self._run, self._run_distance, self._run_side = 0, 0.0, 0
        self._stayed, self._left = 1.0, 3.0  # of readings outside: was the next one, on the same side? (1 in 4 so far)
        self._known: list[float] = []
        self._since_new = 0
        self._flatline = Flatline(IMPROBABLE)
        self._grew = False  # was a forest grown for this reading?

    def update(self, value: float, at_ms: int) -> Verdict:
        """Take in one value and judge it. score: 0 at the band's edge, -1 at twice its distance, and so on."""
        self._count += 1
        change = abs(value - self._window[-1]) if self._window else math.inf
        self._flatline.note(not change)
        if 0 < change < math.inf:
            self._band.seen(change)
        self._window.append(value)
        if self._count % REFIT_EVERY == 0:
            self._grown_on = array("d", self._window)
            self._models.take(self)
        if self._count <= WARM_UP:
            self._outside.append(False)
            self._flatline.learn()
            if self._count == WARM_UP:
                self._band.settle(list(self._window))
            return Verdict(False)
        self._grew = False
        verdict = self._judge(value)
        if self._count % LOOK_EVERY == 0:
            self._band.look()
        return verdict._replace(retrained=True) if self._grew else verdict

    def _judge(self, value: float) -> Verdict:
        band = self._band
        z, widening = (value - band.level) / max(band.spread, band.step), band.widening()
        distance, side = abs(z), 1 if z > 0 else -1
        limit = band.limit * widening
        in_run = self._run > 0 and side == self._run_side
        near = self._limit_in_run(limit) if in_run else limit
        outside = distance > near and (near < limit or distance > FAR * limit or self._agrees(value))
        suspicion = self._flatline.suspicion()
        flat = suspicion >= 1
        verdict = self._verdict(outside, suspicion, z, near if outside else limit, side)
        self._follow_run(outside, in_run, distance, side)
        if not flat:
            self._flatline.learn()
            band.count(z / widening)
        if outside:
            self._look_for_new_normal()
        elif not flat:
            self._since_new += 1
            band.follow(z)
        return verdict

    def _verdict(self, outside: bool, suspicion: float, z: float, limit: float, side: int) -> Verdict:
        level, reach = self._band.level, limit * max(self._band.spread, self._band.step)
        low, high = level - reach, level + reach
        if not outside and suspicion < 1:
            return Verdict(False, max(0.0, 1 - abs(z) / limit), False, low, high)
        if not outside:
            return Verdict(True, min(-1e-6, 1 - suspicion), False, low, high, FLAT)
        run = self._run + 1 if side == self._run_side else 1
        reason = SHIFT if run >= SHIFTED else UNUSUAL if self._band.unlike else SPIKE
        return Verdict(True, min(-1e-6, 1 - abs(z) / limit), False, low, high, reason)

    def _agrees(self, value: float) -> bool:
        """Does the forest call it an outlier too?"""
        model = self._models.take(self)
        if model is None:
            self._grew, model = True, self._forest.fit(self._grown_on)
        self._models.keep(self, model)
        return model.is_anomaly(value)

    def _limit_in_run(self, limit: float) -> float:
        """After readings outside, on their side: where a reading is as likely one more of them as a normal one."""
        stays = self._stayed / (self._stayed + self._left)
        if self._run >= SHIFTED:
            stays = max(stays, LASTING)
        elif stays <= 0.5:
            return limit
        middle = self._run_distance / 2 - math.log(stays / (1 - stays)) / self._run_distance
        return min(limit, max(NEAREST, middle))

    def _follow_run(self, outside: bool, in_run: bool, distance: float, side: int) -> None:
        self._outside.append(outside)
        self._share_outside += OFTEN_RATE * (outside - self._share_outside)
        if self._run:
            if outside and in_run:
                self._stayed += 1
            else:
                self._left += 1
            if self._stayed + self._left > FORGET_RUNS:
                self._stayed, self._left = self._stayed / 2, self._left / 2
        if not outside:
            self._run = 0
        elif in_run:
            self._run += 1
            self._run_distance += (distance - self._run_distance) / self._run
        else:
            self._run, self._run_distance, self._run_side = 1, distance, side

    def _look_for_new_normal(self) -> None:
        """When most lie outside it is the band that is wrong: it moves to them, or back to a level it knows."""
        if self._share_outside > OFTEN:
            self._band.settle_wide(list(self._window))
            self._share_outside = 0.0
            self._begin_anew()
        elif sum(self._outside) >= RUN_OUTSIDE:
            self._remember_level()
            self._band.settle(list(self._window)[-RUN:])
            self._begin_anew()
        elif self._run >= RECOGNISED:
            near_sigma = FAMILIAR_SIGMA * self._band.spread
            last = list(self._window)[-OF_LAST:]
            for level in self._known:
                if sum(abs(value - level) < near_sigma for value in last) >= RECOGNISED:
                    self._known.remove(level)
                    self._remember_level()
                    self._band.level = median([level, *last])
                    self._begin_anew()
                    return

    def _remember_level(self) -> None:
        if self._since_new >= ESTABLISHED:
            self._known = [self._band.level, *self._known][:KNOWN_LEVELS]

    def _begin_anew(self) -> None:
        self._since_new = self._run = 0
        self._outside.clear()

    def state(self) -> str:
        """All that later verdicts depend on; the forest is grown again when it is needed."""
        members = {name: value for name, value in vars(self).items() if name not in _NOT_STATE}
        members.update(_window=list(self._window), _outside=list(self._outside), _grown_on=self._grown_on.tolist(),
                       _band=self._band.state(), _flatline=self._flatline.state())
        return json.dumps(members)

    def restore(self, state: str) -> None:
        """Become what `state` said."""
        members: dict[str, Any] = json.loads(state)
        self._band.restore(members.pop("_band"))
        self._flatline.restore(members.pop("_flatline"))
        members["_window"] = deque(members["_window"], maxlen=WINDOW)
        members["_outside"] = deque(members["_outside"], maxlen=RUN)
        members["_grown_on"] = array("d", members["_grown_on"])
        self._models.take(self)
        vars(self).update(members)
