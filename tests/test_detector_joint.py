"""Fields judged together: what is usual alone, but not beside the others."""
import random

import pytest

from edge_bridge.detectors import SPIKE, UNUSUAL, Verdict, judged, together


def pairs(seed: int, n: int) -> list[tuple[float, float]]:
    """sensor2 follows sensor1, each in its own unit."""
    chance, found = random.Random(seed), []
    for _ in range(n):
        load = chance.gauss(0, 1)
        found.append((round(20 + 2 * load + chance.gauss(0, 0.2), 3),
                      round(0.5 + 0.05 * load + chance.gauss(0, 0.005), 5)))
    return found


def judge(readings: list[tuple[float, ...]]) -> list[Verdict]:
    return judged(together(len(readings[0])), [(reading, 0) for reading in readings])


def test_a_healthy_stream_is_quiet() -> None:
    flags = [verdict.anomaly for seed in (1, 2) for verdict in judge(pairs(seed, 4000))]
    assert sum(flags) <= 0.0005 * len(flags)


def test_what_each_field_alone_would_hide_is_found_with_what_was_expected() -> None:
    *_, verdict = judge([*pairs(3, 600), (22.0, 0.45)])
    assert verdict.anomaly and verdict.reason == UNUSUAL
    low, high = verdict.low, verdict.high
    assert low is not None and high is not None
    if verdict.part:
        assert low < 0.55 < high, "beside 22 degrees 0.55 would have been normal"
    else:
        assert low < 18 < high


def test_a_spike_of_one_field_names_it() -> None:
    for part, reading in enumerate(((45.0, 0.5), (20.0, 1.9))):
        *_, verdict = judge([*pairs(3, 600), reading])
        assert (verdict.anomaly, verdict.reason, verdict.part) == (True, SPIKE, part)
        assert verdict.score is not None and verdict.score < -1


def test_most_broken_pairs_are_found_and_few_others() -> None:
    chance, readings, broken = random.Random(5), [], []
    for a, b in pairs(4, 4000):
        broken.append(chance.random() < 0.05)
        readings.append((a, round(1.0 - b, 5)) if broken[-1] and abs(b - 0.5) > 0.03 else (a, b))
        broken[-1] = broken[-1] and abs(b - 0.5) > 0.03
    said = [verdict.anomaly for verdict in judge(readings)]
    true = sum(s and b for s, b in zip(said, broken, strict=True))
    assert true >= 0.9 * sum(broken) and true >= 0.97 * sum(said)


def test_three_fields_of_which_two_are_the_same_and_one_stands_still() -> None:
    readings = [(a, a, 7.0) for a, _ in pairs(6, 500)]
    assert not any(verdict.anomaly for verdict in judge(readings))
    assert judge([*readings, (20.0, 24.0, 7.0)])[-1].anomaly


def test_another_normal_is_learned() -> None:
    readings = pairs(7, 500) + [(a + 30, b) for a, b in pairs(8, 300)]
    flags = [verdict.anomaly for verdict in judge(readings)]
    assert all(flags[500:520]) and not any(flags[-150:])


def test_a_restart_changes_nothing() -> None:
    readings = [*pairs(9, 120), (45.0, 0.5)]
    whole, detector, piecewise = judge(readings), together(2), []
    for start in range(0, len(readings), 17):
        state = detector.state()
        detector = together(2)
        detector.restore(state)
        piecewise += [detector.update(reading, 0) for reading in readings[start:start + 17]]
    assert piecewise == whole and whole[-1].anomaly


def test_the_width_is_part_of_it() -> None:
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        detector = together(2)
        judged(detector, [((1.0, float(i), 3.0), 0) for i in range(60)])
