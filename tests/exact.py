"""`python -m tests.exact [--readings N] [--seed N]`: is our isolation forest scikit-learn's, label for label?

Made streams go through a rolling forest of scikit-learn and through ours, compiled and not; exit 1 when one label
differs or one score by more than 1e-12. tests/test_isolation_forest.py does the same on fewer readings.
"""
import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from edge_bridge.detectors.compiler import kernel
from edge_bridge.detectors.isolation_forest import Forest
from edge_bridge.detectors.seed import RANDOM_STATE, REFIT_EVERY, TREES, WINDOW, SeedDetector

TOLERANCE = 1e-12
STREAM = 500
SELDOM = 100  # a fit of scikit-learn's takes 0.1 s: only with the bridge's own window is it as often as in the bridge

Floats = NDArray[numpy.float64]
Chance = numpy.random.Generator
# What judges: from a window the scores of values, and below which one a value is an anomaly.
Fit = Callable[[Floats], tuple[Callable[[Floats], Floats], Callable[[Floats], NDArray[numpy.bool_]]]]


def _spikes(chance: Chance, n: int) -> Floats:
    return numpy.where(chance.random(n) < 0.08, chance.uniform(1, 2, n), chance.normal(0.5, 0.05, n))


def _steps(chance: Chance, n: int) -> Floats:
    return numpy.repeat(chance.normal(0, 1, n // 10 + 1), 10)[:n] + chance.normal(0, 0.01, n)


KINDS: dict[str, Callable[[Chance, int], Floats]] = {
    "spikes": _spikes,
    "four decimals": lambda chance, n: _spikes(chance, n).round(4),
    "ties": lambda chance, n: chance.normal(0.5, 0.05, n).round(2),
    "few values": lambda chance, n: chance.integers(0, 3, n).astype(float),
    "two values": lambda chance, n: numpy.where(chance.random(n) < 0.02, 1.0, 0.0),
    "constant": lambda chance, n: numpy.full(n, chance.normal()),
    "constant for a while": lambda chance, n: numpy.repeat(chance.normal(size=n // 60 + 1), 60)[:n],
    "nearly constant": lambda chance, n: 1 + chance.normal(size=n) * 1e-7,
    "heavy tails": lambda chance, n: chance.standard_cauchy(n),
    "steps": _steps,
    "drift": lambda chance, n: numpy.arange(n) * 0.01 + chance.normal(0, 0.1, n),
    "tiny": lambda chance, n: chance.normal(size=n) * 10.0 ** chance.integers(-45, -5),
    "huge": lambda chance, n: chance.normal(size=n) * 10.0 ** chance.integers(5, 37),
    "beyond 32 bits": lambda chance, n: chance.normal(size=n) * 10.0 ** chance.integers(37, 45),
    "every scale": lambda chance, n: chance.normal(size=n) * 10.0 ** chance.integers(-12, 12, n),
}


class Case(NamedTuple):
    """A stream, and how it is judged. contamination: None is scikit-learn's "auto"."""

    kind: str
    values: Floats
    window: int
    contamination: float | None


def cases(seed: int, length: int = STREAM) -> Iterator[Case]:
    """Every kind in turn, without end; every third with the bridge's own window."""
    chance = numpy.random.default_rng(seed)
    number = 0
    while True:
        for kind, make in KINDS.items():
            window = WINDOW if number % 3 == 0 else int(chance.integers(2, 257))
            yield Case(kind, make(chance, length), window, None if number % 2 == 0 else 0.08)
            number += 1


def by_sklearn(contamination: float | None) -> Fit:
    """The oracle."""
    def fit(window: Floats) -> Any:
        forest = IsolationForest(n_estimators=TREES, random_state=RANDOM_STATE,
                                 contamination="auto" if contamination is None else contamination)
        forest.fit(window.reshape(-1, 1))
        return (lambda values: forest.score_samples(values.reshape(-1, 1)),
                lambda values: forest.predict(values.reshape(-1, 1)) == -1)
    return fit


def by_us(forest: Forest) -> Fit:
    """What is to be proved."""
    def fit(window: Floats) -> Any:
        model = forest.fit(window)
        return model.scores, lambda values: model.decisions(values) < 0
    return fit


def judge(case: Case, every: int, fit: Fit) -> tuple[Floats, NDArray[numpy.bool_]]:
    """Scores and labels of the readings after the first fit: at every `every`th a forest is fitted on the newest
    values, that reading among them, and judges from that reading on."""
    scores, labels = [], []
    for at in range(every, len(case.values) + 1, every):
        score, label = fit(case.values[max(0, at - case.window):at])
        judged = case.values[at - 1:at + every - 1]
        scores.append(score(judged))
        labels.append(label(judged))
    return numpy.concatenate(scores), numpy.concatenate(labels)


class Difference(NamedTuple):
    """readings compared; labels that differ; the greatest difference of scores."""

    readings: int
    labels: int
    score: float


def compare(case: Case, every: int, forests: list[Forest]) -> Difference:
    """Ours against scikit-learn's on one stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scikit-learn's, about values beyond 32 bits
        scores, labels = judge(case, every, by_sklearn(case.contamination))
    found = [judge(case, every, by_us(forest)) for forest in forests]
    if case.window == WINDOW and case.contamination is None and every == REFIT_EVERY:
        verdicts = SeedDetector().update_many([(value, 0) for value in case.values.tolist()])[every - 1:]
        found.append((numpy.array([verdict.score for verdict in verdicts]) - 0.5,
                      numpy.array([verdict.anomaly for verdict in verdicts])))
    return Difference(len(labels), sum(int((labels != ours).sum()) for _, ours in found),
                      max(float(abs(scores - ours).max()) for ours, _ in found))


def forests_for(contamination: float | None) -> list[Forest]:
    """Not compiled, and compiled where there is a compiler."""
    ways = [False, True] if kernel().compiled else [False]
    return [Forest(contamination=contamination, compiled=way) for way in ways]


def main(arguments: list[str]) -> int:
    """Returns 1 when something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.exact", description="Compares our forest to scikit-learn's.")
    parser.add_argument("--readings", type=int, default=100_000, help="how many to compare at least")
    parser.add_argument("--seed", type=int, default=1, help="of the made streams")
    chosen = parser.parse_args(arguments)
    began_s = time.monotonic()
    forests = {contamination: forests_for(contamination) for contamination in (None, 0.08)}
    readings = labels = 0
    score = 0.0
    for case in cases(chosen.seed):
        found = compare(case, REFIT_EVERY if case.window == WINDOW else SELDOM, forests[case.contamination])
        readings, labels, score = readings + found.readings, labels + found.labels, max(score, found.score)
        if found.labels or found.score > TOLERANCE:
            print(f"{case.kind}, window {case.window}, contamination {case.contamination}: {found.labels} labels "
                  f"differ, scores by {found.score:g}")
        if readings // 5000 > (readings - found.readings) // 5000:
            print(f"{readings} readings, {time.monotonic() - began_s:.0f} s …", file=sys.stderr, flush=True)
        if readings >= chosen.readings:
            break
    ways = ", ".join("compiled" if forest.kernel.compiled else "not compiled" for forest in forests[None])
    print(f"{readings} readings compared to scikit-learn ({ways}): {labels} labels differ, scores by {score:g} at "
          f"most; {time.monotonic() - began_s:.0f} s")
    return 1 if labels or score > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
