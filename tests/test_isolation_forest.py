"""The isolation forest is scikit-learn's, to the last bit, compiled and not; and what else detectors ask of it."""
import math
import os
import subprocess
import sys
from itertools import islice

import numpy
import pytest
from sklearn.ensemble import IsolationForest

from edge_bridge import settings
from edge_bridge.detectors import compiler
from edge_bridge.detectors.isolation_forest import Forest, _percentile, draws
from tests.exact import KINDS, TOLERANCE, cases, compare, forests_for

EVERY = 90  # a fit of scikit-learn's takes 0.1 s


def test_five_thousand_readings_are_judged_as_by_scikit_learn() -> None:
    forests = {contamination: forests_for(contamination) for contamination in (None, 0.08)}
    readings = 0
    for case in islice(cases(seed=7), len(KINDS)):
        found = compare(case, EVERY, forests[case.contamination])
        assert found.labels == 0 and found.score <= TOLERANCE, case.kind
        readings += found.readings
    assert readings >= 4_600


@pytest.mark.parametrize("n", [1, 2, 3, 64, 255, 256])
def test_every_size_of_window(n: int) -> None:
    window = numpy.random.default_rng(n).normal(size=n)
    values = numpy.append(window, numpy.linspace(-4, 4, 60))
    for contamination in (None, 0.08, 0.5):
        theirs = IsolationForest(contamination=contamination or "auto", random_state=42).fit(window.reshape(-1, 1))
        for forest in forests_for(contamination):
            model = forest.fit(window.tolist())
            assert (model.scores(values) == theirs.score_samples(values.reshape(-1, 1))).all()
            assert model.offset == theirs.offset_
        if n < 64:
            break  # the offset of so few is a matter of the same sums


@pytest.mark.parametrize(("random_state", "trees"), [(0, 100), (7, 30), (2 ** 32 - 1, 1)])
def test_other_random_states_and_numbers_of_trees(random_state: int, trees: int) -> None:
    window = numpy.random.default_rng(1).normal(size=80)
    theirs = IsolationForest(n_estimators=trees, random_state=random_state).fit(window.reshape(-1, 1))
    ours = Forest(trees=trees, random_state=random_state, most_values=80).fit(window.tolist())
    assert (ours.scores(window) == theirs.score_samples(window.reshape(-1, 1))).all()


def test_the_random_numbers_of_a_tree_are_those_that_scikit_learn_draws() -> None:
    tree = IsolationForest(n_estimators=3, random_state=42).fit([[0.0], [1.0]]).estimators_[1]
    assert tree.tree_.threshold[0] == draws(42, 3, 4)[1 * 4 + 1] / 2147483647


@pytest.mark.parametrize("share", [0.01, 0.08, 0.1, 0.3, 0.5])
def test_the_offset_is_numpys_percentile(share: float) -> None:
    chance = numpy.random.default_rng(4)
    for n in range(1, 60):
        scores = chance.normal(size=n).round(chance.integers(1, 17))
        assert _percentile(scores, share) == numpy.percentile(scores, 100.0 * share)


def test_one_value_many_values_and_the_label_agree() -> None:
    for forest in forests_for(0.08):
        model = forest.fit(numpy.random.default_rng(2).normal(size=100).tolist())
        values = [0.0, 0.9, 9.5, -3.0]
        assert [model.score(value) for value in values] == model.scores(values).tolist()
        assert [model.is_anomaly(value) for value in values] == (model.decisions(values) < 0).tolist() == [
            False, False, True, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    forest = forests_for(None)[0]
    with pytest.raises(ValueError, match=r"value 1 of 2 .* expected finite numbers"):
        forest.fit([1.0, bad])
    with pytest.raises(ValueError, match=r"value 0 of 1 .* expected finite numbers"):
        forest.fit([1.0, 2.0]).score(bad)


def test_what_cannot_be_exact_is_refused() -> None:
    for window in ([], [0.0] * 101):
        with pytest.raises(ValueError, match=f"a window of {len(window)} values; expected 1 to 100"):
            Forest(most_values=100, compiled=False).fit(window)
    with pytest.raises(ValueError, match="most_values is 257"):
        Forest(most_values=257)
    with pytest.raises(ValueError, match=r"contamination is 0.6"):
        Forest(contamination=0.6)
    with pytest.raises(ValueError, match=r"random_state 17 .* choose another"):
        Forest(random_state=17)


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True,
                          text=True)


@pytest.mark.parametrize("detector", [settings.default("DETECTOR"), "seed"])
def test_the_default_path_imports_neither_scikit_learn_nor_scipy(detector: str) -> None:
    ran = run("import sys\nimport edge_bridge.process\nfrom edge_bridge.detectors import factory, judged\n"
              "assert 'numpy' not in sys.modules\n"
              f"made = factory({detector!r})()\njudged(made, [(i % 7 / 7 + i // 39, i) for i in range(40)])\n"
              "print([name for name in sys.modules if name.split('.')[0] in ('sklearn', 'scipy', 'pandas')])\n"
              "import scipy.linalg")
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


def test_nothing_is_compiled_at_import() -> None:
    ran = run("import sys\nimport edge_bridge.detectors.seed\nprint('numba' in sys.modules)")
    assert (ran.returncode, ran.stdout) == (0, "False\n"), ran.stderr


@pytest.mark.parametrize("hide", ["sys.modules['numba'] = None", "os.environ['NUMBA_DISABLE_JIT'] = '1'"])
def test_without_the_compiler_it_runs_uncompiled_and_says_so(hide: str) -> None:
    ran = run(f"import logging, os, sys\nlogging.basicConfig(level='INFO')\n{hide}\n"
              "from edge_bridge.detectors import seed\nprint(seed.SeedDetector().update(0.5, 0).anomaly)\n"
              "print(seed.shared()[0].kernel.compiled)")
    assert (ran.returncode, ran.stdout) == (0, "False\nFalse\n"), ran.stderr
    assert "the isolation forest runs uncompiled" in ran.stderr


needs_compiler = pytest.mark.skipif(not compiler.kernel().compiled, reason="numba is not installed on this machine")


@needs_compiler
def test_compiled_code_is_kept_where_it_is_told(tmp_path: object) -> None:
    program = "from edge_bridge.detectors import seed, compiler; k = seed.shared()[0].kernel; print(k.compiled, " \
              "sum(k.grow.stats.cache_hits.values()), sum(k.grow.stats.cache_misses.values()))"
    said = [run(program, NUMBA_CACHE_DIR=str(tmp_path)).stdout for _ in range(2)]
    assert said == ["True 0 1\n", "True 1 0\n"]


@needs_compiler
def test_without_a_directory_for_compiled_code_it_compiles_and_says_so() -> None:
    ran = run("from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
              "from edge_bridge.detectors import seed\nprint(seed.shared()[0].kernel.compiled)")
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran.stderr
    assert "every start compiles" in ran.stderr and "NUMBA_CACHE_DIR" in ran.stderr
