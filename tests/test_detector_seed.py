"""The detector `seed` is the loop it stands for, however its readings are batched, whenever it is restarted, and
whether its model is still in memory; by scikit-learn and by our own forest, compiled and not."""
import gc
import json
import math
import random
import threading
import tracemalloc
from collections import deque
from itertools import product
from typing import Any

import numpy
import pytest
from sklearn.ensemble import IsolationForest

from edge_bridge import detectors
from edge_bridge.detectors.compiler import kernel
from edge_bridge.detectors.isolation_forest import Forest
from edge_bridge.detectors.seed import Models, SeedDetector, shared
from edge_bridge.detectors.seed_sklearn import SklearnSeedDetector

LENGTH = 170


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
    return plain_loop(stream(LENGTH))


def uncompiled() -> SeedDetector:
    return SeedDetector(*shared(False))


def forgetful() -> SeedDetector:
    """Its models are forgotten at once."""
    return SeedDetector(shared()[0], Models(0))


WAYS: list[Any] = [SeedDetector, uncompiled, forgetful, SklearnSeedDetector]


def labels_of(detector: Any, values: list[float], batch: int) -> list[bool]:
    labels = []
    for start in range(0, len(values), batch):
        labels += [v.anomaly for v in detector.update_many([(value, 0) for value in values[start:start + batch]])]
    return labels


@pytest.mark.parametrize(("make", "batch"), [*product(WAYS[:3], [7, 20, LENGTH]), (SklearnSeedDetector, 33)])
def test_labels_are_those_of_the_plain_loop(expected: list[bool], make: Any, batch: int) -> None:
    assert labels_of(make(), stream(LENGTH), batch) == expected
    assert any(expected) and not any(expected[:19]), "nothing is an anomaly before the first fit"


@pytest.mark.parametrize("make", WAYS[:3])
def test_one_by_one_is_the_same(expected: list[bool], make: Any) -> None:
    detector = make()
    verdicts = [detector.update(value, 0) for value in stream(LENGTH)]
    assert [v.anomaly for v in verdicts] == expected
    assert [i for i, v in enumerate(verdicts, 1) if v.retrained] == list(range(20, LENGTH + 1, 20))
    assert [v.score is None for v in verdicts] == [True] * 19 + [False] * (LENGTH - 19)
    assert [v.anomaly for v in verdicts[19:]] == [v.score < 0 for v in verdicts[19:]]


@pytest.mark.parametrize(("before", "after"), [(SeedDetector, SeedDetector), (SklearnSeedDetector, SeedDetector),
                                               (SeedDetector, SklearnSeedDetector), (SeedDetector, uncompiled)])
@pytest.mark.parametrize("cut", [10, 130])
def test_a_restart_changes_nothing_nor_does_the_other_backend(expected: list[bool], before: Any, after: Any,
                                                              cut: int) -> None:
    values, first, second = stream(LENGTH), before(), after()
    labels = labels_of(first, values[:cut], cut)
    second.restore(first.state())
    assert second.state() == first.state()
    assert labels + labels_of(second, values[cut:], LENGTH) == expected


def test_the_state_is_the_text_that_outboxes_hold() -> None:
    detector = SeedDetector()
    detector.update_many([(value / 8, 0) for value in range(25)])
    assert json.loads(detector.state()) == {"count": 25, "window": [value / 8 for value in range(25)],
                                            "fitted_on": [value / 8 for value in range(20)]}
    detector.update_many([(0.1, 0)] * 100)
    state = json.loads(detector.state())
    assert (state["count"], state["window"], len(state["fitted_on"])) == (125, [0.1] * 100, 100)


def test_a_value_that_is_not_finite_is_refused_and_takes_nothing_with_it() -> None:
    detector = SeedDetector()
    detector.update_many([(value, 0) for value in stream(30)])
    before = detector.state()
    with pytest.raises(ValueError, match="value 1 of 2 is nan; expected finite numbers"):
        detector.update_many([(0.5, 0), (math.nan, 0)])
    assert detector.state() == before and detector.update(9.0, 0).anomaly


def test_detectors_that_share_do_not_disturb_each_other(expected: list[bool]) -> None:
    forest = shared()[0]
    models, streams = Models(2), [stream(LENGTH, seed) for seed in (7, 8, 9)]
    together = [SeedDetector(forest, models) for _ in streams]
    labels: list[list[bool]] = [[], [], []]
    for start in range(0, LENGTH, 9):
        for detector, values, found in zip(together, streams, labels, strict=True):
            found += labels_of(detector, values[start:start + 9], 9)
    assert labels[0] == expected
    assert labels[1:] == [labels_of(SeedDetector(), values, LENGTH) for values in streams[1:]]


def test_threads_may_share_a_forest(expected: list[bool]) -> None:
    found: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: found.append(labels_of(SeedDetector(), stream(LENGTH), 5)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 4


def test_a_device_takes_up_less_than_10_kb_besides_what_all_share() -> None:
    forest, models = shared()[0], Models(8)
    values = [(value, 0) for value in stream(120)]
    SeedDetector(forest, models).update_many(values)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [SeedDetector(forest, models) for _ in range(100)]
        for detector in kept:
            detector.update_many(values)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(kept) < 10_000


def test_it_calls_a_quarter_of_a_healthy_stream_anomalous() -> None:
    """What `seed` is known for; it is why another detector is the default."""
    chance = random.Random(1)
    detector = SeedDetector()
    verdicts = detector.update_many([(chance.gauss(0.5, 0.05), 0) for _ in range(2000)])
    assert 0.2 < sum(v.anomaly for v in verdicts) / len(verdicts) < 0.35


def test_the_registry_makes_both_and_knows_no_other() -> None:
    assert detectors.factory("seed") is SeedDetector
    assert detectors.factory("seed-sklearn") is SklearnSeedDetector
    with pytest.raises(KeyError):
        detectors.factory("oracle")


def test_compiled_where_there_is_a_compiler() -> None:
    assert shared()[0].kernel is kernel() and not shared(False)[0].kernel.compiled
    assert isinstance(shared()[0], Forest) and shared() is shared()
