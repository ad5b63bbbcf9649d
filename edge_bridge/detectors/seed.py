"""The detector `seed`: a rolling isolation forest over the last 100 values, label for label scikit-learn's; made by
judging.py.

Each value joins the window; at every 20th of the device a new forest is fitted on the window as it then is; if there is
a forest, it judges the value. Before the first fit nothing is an anomaly. seed_sklearn.py is the same by scikit-learn.

A device keeps its window and the window that its forest was fitted on: about 2 kB. The forests, 55 kB each (220 kB
where nothing is compiled), are kept for the devices that were heard last, in memory that all share; another device's
is fitted anew when its next value comes, and is the same to the last bit.
"""
import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any

from edge_bridge.detectors import Verdict
from edge_bridge.detectors.isolation_forest import Forest, Model, check_finite

WINDOW = 100
REFIT_EVERY = 20
TREES = 100
RANDOM_STATE = 42
MODELS_KEPT = 64  # 3.5 MB, 14 MB where nothing is compiled


class Models:
    """The models of the detectors that were used last, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[Any, Model] = OrderedDict()

    def take(self, key: Any) -> Model | None:
        """The model of this key, which is no longer kept."""
        with self._lock:
            return self._kept.pop(key, None)

    def keep(self, key: Any, model: Model) -> None:
        """Keep it as the newest; the oldest may go for it."""
        with self._lock:
            self._kept[key] = model
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


@cache
def shared(compiled: bool | None = None) -> tuple[Forest, Models]:
    """What all detectors of the process share; made, and compiled, when the first detector is."""
    forest = Forest(trees=TREES, random_state=RANDOM_STATE, most_values=WINDOW, compiled=compiled)
    forest.fit([0.0, 1.0]).score(0.5)
    return forest, Models(MODELS_KEPT)


class SeedDetector:
    """See the module. forest, models: the process's own, unless a test gives others."""

    __slots__ = ("_count", "_fitted_on", "_forest", "_models", "_window")

    def __init__(self, forest: Forest | None = None, models: Models | None = None) -> None:
        self._forest, self._models = (forest, models) if forest and models else shared()
        self._window, self._fitted_on = array("d"), array("d")
        self._count = 0

    def update(self, value: float, at_ms: int) -> Verdict:
        """Take in one value and judge it. Raises ValueError for one that is not finite, which it has not taken then."""
        return self.update_many([(value, at_ms)])[0]

    def update_many(self, readings: list[tuple[float, int]]) -> list[Verdict]:
        """Take in values in order and judge each with the forest that there is at its turn. Raises ValueError when one
        is not finite: it has taken none then."""
        values = array("d", [value for value, _ in readings])
        check_finite(values)
        history, known = self._window + values, len(self._window) + 1
        refits = range(-(self._count + 1) % REFIT_EVERY, len(values), REFIT_EVERY)
        before = values[:refits[0]] if refits else values
        model = self._model() if before else None
        verdicts = _judge(model, before)
        for start, end in pairwise((*refits, len(values))):
            self._fitted_on = history[max(0, start + known - WINDOW):start + known]
            model = self._forest.fit(self._fitted_on)
            first, *others = _judge(model, values[start:end])
            verdicts += [first._replace(retrained=True), *others]
        self._count += len(values)
        self._window = history[-WINDOW:]
        if model:
            self._models.keep(self, model)
        return verdicts

    def _model(self) -> Model | None:
        """The present forest, fitted again when it was not among the last used; not kept."""
        if not self._fitted_on:
            return None
        return self._models.take(self) or self._forest.fit(self._fitted_on)

    def state(self) -> str:
        """The window, the count, and the values that the present forest was fitted on."""
        return json.dumps({"count": self._count, "window": self._window.tolist(),
                           "fitted_on": self._fitted_on.tolist()})

    def restore(self, state: str) -> None:
        """The same forest is fitted again when it is needed: the random state is fixed."""
        members = json.loads(state)
        self._models.take(self)
        self._count = members["count"]
        self._window, self._fitted_on = array("d", members["window"]), array("d", members["fitted_on"])


def _judge(model: Model | None, values: Sequence[float]) -> list[Verdict]:
    if model is None:
        return [Verdict(False)] * len(values)
    return [Verdict(decision < 0, decision) for decision in model.decisions(values).tolist()]
