"""The detector `context`: streams with a daily rhythm; one alert at the onset of what is strange, quiet otherwise."""
import math
import random

import numpy
import pytest

from edge_bridge.detectors import FLAT, SHIFT, SPIKE, UNUSUAL, Verdict, judged, tails
from edge_bridge.detectors.context import ONSET, SHAPE, SHAPES, ContextDetector
from edge_bridge.detectors.season import DAY_MS, Season
from edge_bridge.detectors.tails import Tail

STEP_MS = 600_000
DAY = DAY_MS // STEP_MS  # readings
SEEDS = (1, 2, 3)


def day_and_night(seed: int, n: int = 9 * DAY) -> list[float]:
    """A temperature: 20 degrees by day, 14 by night, half a degree of noise."""
    chance = random.Random(seed)
    return [17 + 3 * math.sin(2 * math.pi * i / DAY) + chance.gauss(0, 0.5) for i in range(n)]


def judge(values: list[float]) -> list[Verdict]:
    return judged(ContextDetector(), [(value, i * STEP_MS) for i, value in enumerate(values)])


def spiked(values: list[float]) -> None:
    values[7 * DAY] += 9


def raised(values: list[float]) -> None:
    values[7 * DAY:] = [value + 4 for value in values[7 * DAY:]]


def night_by_day(values: list[float]) -> None:
    """No night: every value is a usual one, but not at its time."""
    chance = random.Random(9)
    values[7 * DAY:8 * DAY] = [20 + chance.gauss(0, 0.5) for _ in range(DAY)]


def still(values: list[float]) -> None:
    values[7 * DAY:8 * DAY] = [values[7 * DAY]] * DAY


FAULTS = {"spike": (spiked, {SPIKE}), "raised": (raised, {SHIFT, UNUSUAL, SPIKE}),
          "no night": (night_by_day, {UNUSUAL}), "still": (still, {UNUSUAL, FLAT})}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_at_its_onset_and_not_again_and_again(fault: str) -> None:
    spoil, reasons = FAULTS[fault]
    found = 0
    for seed in SEEDS:
        values = day_and_night(seed)
        spoil(values)
        told = [i for i, verdict in enumerate(judge(values)) if verdict.anomaly and i >= 2 * DAY]
        found += any(7 * DAY <= i < 8 * DAY for i in told)
        assert len([i for i in told if i < 7 * DAY]) <= 2 and len(told) <= 12
        verdicts = judge(values)
        assert {verdicts[i].reason for i in told if i >= 7 * DAY} & reasons or not told
    assert found == len(SEEDS)


def test_day_and_night_are_no_anomalies() -> None:
    flags = [verdict.anomaly for seed in SEEDS for verdict in judge(day_and_night(seed))[2 * DAY:]]
    assert sum(flags) <= 0.002 * len(flags)


def test_score_flag_and_reason_agree() -> None:
    values = day_and_night(1)
    raised(values)
    for verdict in judge(values):
        assert verdict.score is not None and verdict.anomaly == (verdict.score < 0) == bool(verdict.reason)


def test_the_band_follows_the_day() -> None:
    verdicts = judge(day_and_night(1))
    noon, midnight = verdicts[7 * DAY + DAY // 4], verdicts[7 * DAY + 3 * DAY // 4]
    assert noon.low is not None and midnight.low is not None and noon.low > midnight.low + 2


def test_one_by_one_and_after_restarts_the_verdicts_are_the_same() -> None:
    values = day_and_night(2, 3 * DAY)
    values[2 * DAY] += 8
    whole, detector, piecewise = judge(values), ContextDetector(), []
    for start in range(0, len(values), 70):
        state = detector.state()
        detector = ContextDetector()
        detector.restore(state)
        piecewise += [detector.update(value, (start + i) * STEP_MS) for i, value in enumerate(values[start:start + 70])]
    assert piecewise == whole and any(verdict.anomaly for verdict in whole)


def test_only_a_record_of_the_last_readings_is_news() -> None:
    detector = ContextDetector()
    news = []
    for number, strangeness in enumerate([1.0, 3.0, 2.0, 3.0, 4.0] + [0.0] * ONSET + [2.0], 1):
        detector._count = number
        news.append(detector._is_record(strangeness))
    assert news[:5] == [True, True, False, False, True] and news[-1], "after a while it is news again"


def test_a_side_that_nothing_was_on_yet_is_thin_and_not_nothing() -> None:
    tail = Tail(200, 1 / 50)
    for number in range(100):
        tail.add(max(0, number - 50))
    assert 0 < tail.ratio(-0.5) < 1 < tail.ratio(-2)


def test_the_shape_is_compared_with_all_before_it() -> None:
    values = [math.sin(i / 4) for i in range(500)]
    detector = ContextDetector()
    judged(detector, [(value, i * STEP_MS) for i, value in enumerate(values)])
    shapes = numpy.lib.stride_tricks.sliding_window_view(values[:-8], SHAPE)[:500 - SHAPE - 8]
    away = numpy.sort(((shapes - numpy.array(values[-SHAPE:])) ** 2).sum(axis=1))
    assert detector._shape_distance() == pytest.approx(math.sqrt(away[4]), rel=1e-5)
    assert len(detector._recent) >= SHAPES


def test_a_tail_is_a_rank_on_each_side() -> None:
    tail = Tail(1000, 0.01)
    assert [tail.ratio(5.0), *tail.edges()] == [0.0, None, None]
    for number in range(1001):
        tail.add(float(number if number <= 500 else 500 + 3 * (number - 500)))
    low, high = tail.edges()
    assert low == pytest.approx(10, abs=2) and high == pytest.approx(1970, abs=8)
    assert tail.ratio(high or 0) == pytest.approx(1.0) and tail.ratio(low or 0) == pytest.approx(1.0)
    assert tail.ratio(500 + 2 * ((high or 0) - 500)) == pytest.approx(2.0, abs=0.01)


def test_a_tail_forgets_what_has_left_its_window() -> None:
    tail = Tail(60, 0.1)
    for number in [1000.0] * 60 + [float(n) for n in range(60)]:
        tail.add(number)
    assert tail.edges()[1] == pytest.approx(53, abs=1)
    again = Tail(60, 0.1)
    again.restore(tail.state())
    assert again.edges() == tail.edges()


def test_numbers_are_packed_exactly() -> None:
    numbers = [0.1, -1e300, 5e-324, 7.0]
    assert tails.unpacked(tails.packed(numbers)) == numbers


def test_the_season_is_the_median_of_other_days() -> None:
    season = Season()
    assert season.usual(0) is None
    for day, value in enumerate((10.0, 30.0, 20.0)):
        season.add(value - 1, day * DAY_MS)
        season.add(value + 1, day * DAY_MS + 60_000)
    assert season.usual(3 * DAY_MS) == 20.0 and season.usual(2 * DAY_MS) == 20.0, "today is not another day"
    assert season.usual(3 * DAY_MS + 3_600_000) is None
    for day in range(3, 20):
        season.add(50.0, day * DAY_MS)
    assert season.usual(20 * DAY_MS) == 50.0 and len(season.state()[0][1]) <= 8
