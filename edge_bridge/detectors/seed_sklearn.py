"""The detector `seed-sklearn`: what `seed` does, by scikit-learn itself, 500 times as slow; made by judging.py.

The labels and the state are those of seed.py: DETECTOR may be changed from one to the other at any time.
"""
import json
from collections import deque
from typing import Any

from edge_bridge.detectors import Verdict
from edge_bridge.detectors.seed import RANDOM_STATE, REFIT_EVERY, TREES, WINDOW


class SklearnSeedDetector:
    """See the module. Predictions between two fits are made in one call: the labels are the same, the cost is not."""

    def __init__(self) -> None:
        import numpy  # 150 MB and seconds, with the next: only where this detector runs
        from sklearn.ensemble import IsolationForest

        self._array, self._make_forest = numpy.array, IsolationForest
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._count = 0
        self._fitted_on: list[float] = []
        self._forest: Any = None

    def update(self, value: float, at_ms: int) -> Verdict:
        """Take in one value and judge it."""
        return self.update_many([(value, at_ms)])[0]

    def update_many(self, readings: list[tuple[float, int]]) -> list[Verdict]:
        """Take in values in order and judge each with the forest that there is at its turn."""
        verdicts: list[Verdict] = []
        pending: list[float] = []
        for value, _ in readings:
            self._window.append(value)
            self._count += 1
            if self._count % REFIT_EVERY == 0:
                verdicts += self._judge(pending)
                self._fit(list(self._window))
                verdicts += [v._replace(retrained=True) for v in self._judge([value])]
                pending = []
            else:
                pending.append(value)
        return verdicts + self._judge(pending)

    def _fit(self, window: list[float]) -> None:
        self._fitted_on = window
        self._forest = self._make_forest(n_estimators=TREES, contamination="auto", random_state=RANDOM_STATE)
        self._forest.fit(self._column(window))

    def _judge(self, values: list[float]) -> list[Verdict]:
        if not values:
            return []
        if self._forest is None:
            return [Verdict(False)] * len(values)
        # predict() calls an observation an outlier where this is below 0.
        scores = self._forest.decision_function(self._column(values))
        return [Verdict(bool(score < 0), float(score)) for score in scores]

    def state(self) -> str:
        """The window, the count, and the values that the present forest was fitted on."""
        return json.dumps({"count": self._count, "window": list(self._window), "fitted_on": self._fitted_on})

    def restore(self, state: str) -> None:
        """Fit the same forest again: the random state is fixed."""
        members = json.loads(state)
        self._count = members["count"]
        self._window = deque(members["window"], maxlen=WINDOW)
        if members["fitted_on"]:
            self._fit(members["fitted_on"])

    def _column(self, values: list[float]) -> Any:
        return self._array(values, dtype=float).reshape(-1, 1)
