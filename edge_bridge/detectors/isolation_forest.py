"""An isolation forest over one column of numbers: a detector hands it windows and values, it hands back scores.

Labels and scores are those of scikit-learn's IsolationForest(n_estimators=trees, random_state=…, contamination=…) on
the same machine, bit for bit; forest_kernel.py says how. scikit-learn is not imported. numpy is, for what must be
rounded as numpy rounds it (the last bit of 2^x and log depends on the processor), and for its random numbers.
"""
from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy
from numpy.typing import NDArray

from edge_bridge.detectors.compiler import Kernel, kernel

Floats = NDArray[numpy.float64]
Values = Sequence[float] | Floats

MOST_VALUES = 256  # with more scikit-learn grows each tree on a sample
AUTO_OFFSET = -0.5
_LARGEST_INT = 2147483647
_CONSTANT = numpy.float32(1e-7)  # a node whose values lie within this is a leaf
_TARGET_GAP = 1e-6


class Model:
    """A fitted forest; about 55 kB for a window of 100. offset: below which score a value is an anomaly."""

    def __init__(self, kernel: Kernel, trees: tuple[Any, Any, Any], expected: float) -> None:
        self._kernel, self._trees, self._expected = kernel, trees, expected
        self.offset = AUTO_OFFSET

    def scores(self, values: Values) -> Floats:
        """Of each value, scikit-learn's score_samples: from -1, abnormal, to 0. Raises ValueError for one that is not
        finite."""
        sums = self._kernel.room(len(values), float)
        self._kernel.add_paths(self._kernel.given(_column(values)), self._trees, sums)
        return self.scores_of(sums)

    def scores_of(self, sums: Any) -> Floats:
        """Scores from path sums."""
        column = numpy.asarray(sums, float)
        ratio = column / self._expected if self._expected else numpy.ones_like(column)
        scores: Floats = -(2 ** -ratio)
        return scores

    def decisions(self, values: Values) -> Floats:
        """Of each value, scikit-learn's decision_function: below 0 it is an anomaly."""
        return self.scores(values) - self.offset

    def score(self, value: float) -> float:
        """Of one value; many at once are much quicker."""
        return float(self.scores((value,))[0])

    def is_anomaly(self, value: float) -> bool:
        """As scikit-learn's predict says."""
        return self.score(value) - self.offset < 0


class Forest:
    """What all models of one kind share: settings, random numbers, tables. Safe to use from several threads.

    contamination: None is scikit-learn's "auto". most_values: the largest window that will come, at most 256.
    compiled: None takes the compiler where it is installed. Raises ValueError for what cannot be exact.
    """

    def __init__(self, *, trees: int = 100, random_state: int = 42, contamination: float | None = None,
                 most_values: int = MOST_VALUES, compiled: bool | None = None) -> None:
        if not 1 <= most_values <= MOST_VALUES:
            raise ValueError(f"most_values is {most_values}; expected 1 to {MOST_VALUES}")
        if contamination is not None and not 0 < contamination <= 0.5:
            raise ValueError(f"contamination is {contamination}; expected None or a share above 0, at most 0.5")
        _check_targets(random_state, most_values)
        self.trees, self.contamination, self.most_values = trees, contamination, most_values
        self.kernel: Kernel = kernel(compiled)
        self._average = average_path_lengths(most_values)
        per_tree = 2 * most_values
        depth_limits = numpy.array([max(1, (n - 1).bit_length()) for n in range(most_values + 1)])
        drawn, given = draws(random_state, trees, per_tree), self.kernel.given
        self._tables = (given(drawn), per_tree, given(self._average), given(depth_limits))

    def fit(self, window: Values) -> Model:
        """Fit on 1 to most_values numbers. Raises ValueError for another count, or for one that is not finite."""
        n, trees = len(window), self.trees
        if not 1 <= n <= self.most_values:
            raise ValueError(f"a window of {n} values; expected 1 to {self.most_values}")
        ordered = numpy.sort(_column(window))
        ceilings = (ordered.astype(numpy.float32) + _CONSTANT).astype(float)
        given, room = self.kernel.given, self.kernel.room
        bounds, thresholds, lengths = room(trees + 1, int), room(trees * n, float), room(trees * n, float)
        sums = room(n if self.contamination else 0, float)
        self.kernel.grow(given(ordered), given(ceilings), self._tables, (bounds, thresholds, lengths), sums,
                         room(3 * MOST_VALUES.bit_length(), float))
        placed = bounds[trees]
        used = (bounds, thresholds[:placed].copy(), lengths[:placed + trees].copy())
        model = Model(self.kernel, used, float(trees * self._average[n]))
        if self.contamination:
            model.offset = _percentile(model.scores_of(sums), self.contamination)
        return model


def _percentile(scores: Floats, share: float) -> float:
    """numpy's percentile, rounded as numpy rounds it, ten times as quick."""
    ordered = numpy.sort(scores).tolist()
    at = (len(ordered) - 1) * (100.0 * share / 100)
    low, high = ordered[int(at)], ordered[min(int(at) + 1, len(ordered) - 1)]
    part = at - int(at)
    return float(high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part)


def check_finite(values: Values) -> None:
    """Raises ValueError unless all of them are."""
    if not all(map(isfinite, values)):
        bad = [isfinite(value) for value in values].index(False)
        raise ValueError(f"value {bad} of {len(values)} is {values[bad]}; expected finite numbers: the contract "
                         "refuses others before they come to a detector")


def _column(values: Values) -> Floats:
    """Rounded to 32 bits, as scikit-learn takes them. Raises ValueError for one that is not finite."""
    check_finite(values)
    return numpy.array(array("f", values), float)  # beyond 3.4e38 scikit-learn goes on with infinity, and so does this


def average_path_lengths(most_values: int) -> Floats:
    """By the number of values: the mean length of an unsuccessful search in a binary search tree of so many."""
    n = numpy.arange(3, most_values + 1)
    long = 2.0 * (numpy.log(n - 1.0) + numpy.euler_gamma) - 2.0 * (n - 1.0) / n
    return numpy.concatenate(([0.0, 0.0, 1.0], long))[:most_values + 1]


def draws(random_state: int, trees: int, per_tree: int) -> Floats:
    """Each tree's random numbers, 0 to 2^31 - 1, one tree after the other: scikit-learn seeds a 32-bit xorshift for
    each tree through two generators of numpy's."""
    seeds = numpy.random.RandomState(random_state).randint(_LARGEST_INT, size=trees)
    starts = [numpy.random.RandomState(numpy.random.RandomState(seed).randint(_LARGEST_INT)).randint(_LARGEST_INT)
              for seed in seeds]
    state = numpy.maximum(numpy.array(starts, numpy.uint32), numpy.uint32(1))  # 0 would stay 0
    drawn = numpy.empty((per_tree, trees), numpy.uint32)
    for row in drawn:
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        row[:] = state
    return (drawn.T & numpy.uint32(_LARGEST_INT)).astype(float).ravel()


def _check_targets(random_state: int, most_values: int) -> None:
    """scikit-learn gives each row a random target; it would not split a node whose targets are equal to it."""
    targets = numpy.sort(numpy.random.RandomState(random_state).uniform(size=most_values))
    if most_values > 1 and numpy.diff(targets).min() < _TARGET_GAP:
        raise ValueError(f"random_state {random_state} makes scikit-learn stop early on some windows of {most_values} "
                         "values; expected one that does not: choose another, 42 is fine")
