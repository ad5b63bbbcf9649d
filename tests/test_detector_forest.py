"""The detector `forest`: quiet on healthy streams, right on spoiled ones, the same after any restart."""
import math
import random
from itertools import pairwise
from typing import Any

import pytest

from edge_bridge.detectors import FLAT, SHIFT, SPIKE, UNUSUAL, Verdict, judged
from edge_bridge.detectors.band import RUNGS, Band, expected, tail
from edge_bridge.detectors.flatline import Flatline
from edge_bridge.detectors.forest import ForestDetector
from edge_bridge.detectors.isolation_forest import Forest
from edge_bridge.detectors.seed import REFIT_EVERY
from tests.streams import KINDS, LEVEL, SIGMA, clean, f1, stream

SEEDS = (11, 12)
LEARNING = 100


def judge(values: list[float]) -> list[Verdict]:
    return judged(ForestDetector(), [(value, 0) for value in values])


def said(values: list[float]) -> list[bool]:
    return [verdict.anomaly for verdict in judge(values)]


@pytest.fixture(scope="module")
def scores() -> dict[str, float]:
    """Mean F1 of each kind of spoiled stream, after the readings that it learns from."""
    found = {}
    for kind in KINDS:
        streams = [stream(kind, seed) for seed in SEEDS]
        found[kind] = sum(f1(said(s.values)[LEARNING:], s.anomalous[LEARNING:]) for s in streams) / len(SEEDS)
    return found


def test_a_healthy_stream_is_quiet() -> None:
    flags = [flag for seed in SEEDS for flag in said(clean(seed, 6000))]
    assert sum(flags) <= 0.0005 * len(flags)


def test_outliers_far_off_are_found_and_nothing_else(scores: dict[str, float]) -> None:
    assert scores["far"] >= 0.995 and scores["high"] >= 0.995
    assert scores["quantised"] >= 0.99 and scores["drift"] >= 0.99


def test_on_all_kinds_of_trouble_it_is_right_far_more_often_than_not(scores: dict[str, float]) -> None:
    assert sum(scores.values()) / len(scores) >= 0.88, scores
    least = {"step": 0.92, "uniform": 0.70, "mid": 0.83, "mild": 0.45, "burst": 0.85, "stuck": 0.95}
    assert all(scores[kind] >= bar for kind, bar in least.items()), scores


def odd_streams() -> dict[str, list[float]]:
    chance, n = random.Random(5), 6000
    walk = [0.0]
    for _ in range(n):
        walk.append(walk[-1] + chance.gauss(0, 1))
    return {
        "constant": [21.5] * n, "walk": walk, "uniform": [chance.random() for _ in range(n)],
        "laplace": [chance.choice((-1, 1)) * chance.expovariate(1) for _ in range(n)],
        "lopsided": [chance.expovariate(1) for _ in range(n)],
        "two levels": [chance.gauss(chance.choice((0, 20)), 1) for _ in range(n)],
        "whole numbers": [float(round(20 + 3 * math.sin(i / 1000))) for i in range(n)],
        "ramp": [0.1 * i + chance.gauss(0, 1) for i in range(n)],
        "sine": [math.sin(i / 50) + chance.gauss(0, 0.05) for i in range(n)],
        "huge": [1e9 + chance.gauss(0, 1) for _ in range(n)], "tiny": [1e-9 * chance.gauss(0, 1) for _ in range(n)],
    }


@pytest.mark.parametrize("kind", odd_streams())
def test_a_healthy_stream_of_another_shape_is_nearly_quiet(kind: str) -> None:
    flags = said(odd_streams()[kind])
    assert sum(flags) <= 0.03 * len(flags)


def test_the_first_change_of_a_constant_stream_is_no_anomaly_but_a_far_one_later_is() -> None:
    values = [21.5] * 300 + [21.6] * 30 + [21.5] * 300
    assert not any(verdict.reason == SPIKE for verdict in judge(values))
    assert judge([*values, 35.0])[-1].reason in (SPIKE, UNUSUAL)


def test_scale_and_offset_do_not_matter() -> None:
    values = stream("mid", 3).values
    assert said([1000 + 64 * value for value in values]) == said([1000 + 0.5 * value for value in values])


def test_nothing_is_said_while_it_warms_up() -> None:
    verdicts = judge(stream("far", 1).values[:40])
    assert verdicts[:20] == [Verdict(False)] * 20
    assert all(verdict.low is not None and verdict.score is not None for verdict in verdicts[20:])


class CountingForest:
    """The process's own forest, and how often it was grown."""

    def __init__(self, forest: Forest) -> None:
        self._forest, self.fits = forest, 0

    def fit(self, window: Any) -> Any:
        self.fits += 1
        return self._forest.fit(window)


def test_retrained_is_said_when_a_forest_was_grown_and_not_when_it_might_have_been() -> None:
    detector = ForestDetector()
    counting: Any = CountingForest(detector._forest)
    detector._forest = counting
    values = stream("mid", 2).values[:1000]
    verdicts = judged(detector, [(value, 0) for value in values])
    assert sum(verdict.retrained for verdict in verdicts) == counting.fits
    assert 10 < counting.fits < len(values) / REFIT_EVERY, "at most one a window, and only for a doubtful reading"


def test_an_anomaly_has_a_score_a_band_and_a_reason() -> None:
    values = clean(4, 400)
    *_, verdict = judge([*values, LEVEL + 10 * SIGMA])
    assert verdict.anomaly and verdict.reason == SPIKE
    assert verdict.low == pytest.approx(LEVEL - 4 * SIGMA, abs=SIGMA)
    assert verdict.high == pytest.approx(LEVEL + 4 * SIGMA, abs=SIGMA)
    assert verdict.score == pytest.approx(-1.5, abs=0.6), "10 sigma is two and a half times the way to the edge"


def test_score_and_flag_agree_and_only_anomalies_have_a_reason() -> None:
    for kind in ("uniform", "burst", "stuck"):
        for verdict in judge(stream(kind, 1).values)[20:]:
            assert verdict.score is not None and verdict.anomaly == (verdict.score < 0) == bool(verdict.reason)


def test_a_shift_is_told_until_it_is_the_new_normal() -> None:
    verdicts = judge(clean(4, 400) + [value + 8 * SIGMA for value in clean(5, 400)])
    shifted = [verdict.reason for verdict in verdicts[400:]]
    assert shifted[:3] == [SPIKE, SPIKE, SHIFT] and shifted.count(SHIFT) <= 25
    assert not any(shifted[30:])


def test_a_level_that_was_normal_before_is_recognised() -> None:
    up = [value + 8 * SIGMA for value in clean(5, 400)]
    verdicts = judge(clean(4, 400) + up + clean(6, 400))
    assert sum(verdict.anomaly for verdict in verdicts[800:]) <= 8 < sum(v.anomaly for v in verdicts[400:800])


def test_a_flat_line_is_told_from_the_third_equal_reading_for_one_window() -> None:
    values = clean(4, 400)
    reasons = [verdict.reason for verdict in judge(values + [values[-1]] * 300 + clean(5, 50))]
    assert reasons[400:402] == [None, FLAT] and reasons.count(FLAT) == 99
    assert not any(reasons[700:])


def test_where_repeats_are_usual_it_takes_more_of_them() -> None:
    values = [round(value, 2) for value in clean(4, 1500)]
    assert any(a == b for a, b in pairwise(values)) and not any(verdict.reason == FLAT for verdict in judge(values))
    assert judge(values + [values[-1]] * 12)[-1].reason == FLAT


def test_a_stream_that_is_no_bell_curve_is_judged_by_rank() -> None:
    chance = random.Random(3)
    values = [chance.expovariate(1) for _ in range(2000)]
    assert judge([*values, 60.0])[-1].reason == UNUSUAL


def test_a_forest_is_asked_about_what_is_just_outside() -> None:
    class Lenient:
        def is_anomaly(self, value: float) -> bool:
            return False

    detector = ForestDetector()
    judged(detector, [(value, 0) for value in clean(4, 405)])
    detector._models.keep(detector, Lenient())  # type: ignore[arg-type]
    assert not detector.update(LEVEL + 5 * SIGMA, 0).anomaly, "the forest does not agree"
    detector._models.keep(detector, Lenient())  # type: ignore[arg-type]
    assert detector.update(LEVEL + 12 * SIGMA, 0).anomaly, "so far out it is not asked"


def test_one_by_one_and_after_restarts_the_verdicts_are_the_same() -> None:
    values = stream("step", 2, 1700).values + stream("stuck", 2, 500).values
    whole = judge(values)
    detector, piecewise = ForestDetector(), []
    for start in range(0, len(values), 130):
        state = detector.state()
        detector = ForestDetector()
        detector.restore(state)
        piecewise += [detector.update(value, 0) for value in values[start:start + 130]]
    assert piecewise == whole


def test_a_sensor_that_repeated_itself_once_is_not_excused_for_ever() -> None:
    flatline = Flatline(1e-4)
    for reading in range(50_000):
        flatline.note(reading < 5_000)
        flatline.learn()
    for _ in range(3):
        flatline.note(True)
    assert flatline.suspicion() >= 1, "one in ten readings was a repeat, but long ago"


def test_the_counts_of_a_band_are_made_smaller_in_time_and_say_the_same() -> None:
    band, chance = Band(), random.Random(5)
    for _ in range(22_000):  # their weights grow to 2 million
        band.count(chance.gauss(0, 1) * (3 if chance.random() < 0.1 else 1))
    assert 1 <= band._weight < 1e6
    band.look()
    before = band.limit, band.unlike
    band._shrink()
    band.look()
    assert band._weight == 1 and (band.limit, band.unlike) == before and band.limit < RUNGS[-1]


def test_the_state_of_a_device_is_small() -> None:
    detector = ForestDetector()
    judged(detector, [(value * 1.0000001, 0) for value in stream("uniform", 1).values])
    assert len(detector.state()) <= 10_000


def test_the_counts_survive_being_scaled_down() -> None:
    """Weights grow without end; every few thousand readings all are divided."""
    band = Band()
    band.settle(clean(1, 20))
    chance = random.Random(1)
    for _ in range(30_000):
        band.count(chance.gauss(0, 1))
    band.look()
    assert band.limit == RUNGS[-1] and not band.unlike
    for _ in range(3000):
        band.count(chance.gauss(0, 1) if chance.random() > SIGMA else 3.2)
    band.look()
    assert band.limit < 3.2


def test_the_constants_of_the_bell_curve() -> None:
    assert tail(1.959964) == pytest.approx(0.05, rel=1e-6)
    chance = random.Random(2)
    z = [value for value in (chance.gauss(0, 1) for _ in range(200_000)) if abs(value) < 3]
    assert expected(3.0) == pytest.approx(sum(min(v * v, 4.0) for v in z) / len(z), rel=0.01)
