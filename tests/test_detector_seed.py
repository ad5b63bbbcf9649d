"""The detector `seed` is the loop it stands for, however its readings are batched and whenever it is restarted."""
import random
from collections import deque

import numpy
import pytest
from sklearn.ensemble import IsolationForest

from edge_bridge import detectors
from edge_bridge.detectors.seed import SeedDetector


def stream(n: int, seed: int = 7) -> list[float]:
    chance = random.Random(seed)
    return [round(chance.gauss(0.5, 0.05) if chance.random() > 0.08 else chance.uniform(1, 2), 4) for _ in range(n)]


def plain_loop(values: list[float]) -> list[bool]:
    """As the specification says it, one reading at a time, with scikit-learn's own predict."""
    window: deque[float] = deque(maxlen=100)
    forest, labels = None, []
    for count, value in enumerate(values, 1):
        window.append(value)
        if count % 20 == 0:
            forest = IsolationForest(n_estimators=100, contamination="auto", random_state=42)
            forest.fit(numpy.array(window).reshape(-1, 1))
        labels.append(forest is not None and forest.predict(numpy.array([[value]]))[0] == -1)
    return labels


@pytest.fixture(scope="module")
def expected() -> list[bool]:
    return plain_loop(stream(130))


@pytest.mark.parametrize("batch", [1, 7, 130])
def test_labels_are_those_of_the_plain_loop(expected: list[bool], batch: int) -> None:
    values, detector, labels = stream(130), SeedDetector(), []
    for start in range(0, len(values), batch):
        labels += [v.anomaly for v in detector.update_many([(value, 0) for value in values[start:start + batch]])]
    assert labels == expected
    assert any(labels) and not any(labels[:19]), "nothing is an anomaly before the first fit"


def test_a_restart_changes_nothing(expected: list[bool]) -> None:
    values, first = stream(130), SeedDetector()
    labels = [first.update(value, 0).anomaly for value in values[:50]]
    second = SeedDetector()
    second.restore(first.state())
    labels += [v.anomaly for v in second.update_many([(value, 0) for value in values[50:]])]
    assert labels == expected


def test_a_restart_before_the_first_fit() -> None:
    first = SeedDetector()
    first.update_many([(0.5, 0)] * 10)
    second = SeedDetector()
    second.restore(first.state())
    verdicts = second.update_many([(0.5, 0)] * 10)
    assert [v.retrained for v in verdicts] == [False] * 9 + [True]
    assert [v.score is None for v in verdicts] == [True] * 9 + [False]


def test_the_registry_makes_it_and_knows_no_other() -> None:
    assert detectors.factory("seed") is SeedDetector
    with pytest.raises(KeyError):
        detectors.factory("oracle")
