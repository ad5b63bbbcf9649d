"""Labelled sensor streams for the detectors' tests: a bell curve around a level, spoiled in one way or another."""
import math
import random
from collections.abc import Callable
from typing import NamedTuple

LEVEL, SIGMA = 0.5, 0.05
SHARE = 0.08  # of the readings are spoiled


class Stream(NamedTuple):
    """values, and for each whether it is an anomaly."""

    values: list[float]
    anomalous: list[bool]


def _scattered(spoil: Callable[[random.Random, float], float], places: int = 4,
               move: Callable[[int], float] = lambda i: 0.0) -> Callable[[random.Random, int], Stream]:
    """Single readings are spoiled; move: what is added to every reading."""
    def make(chance: random.Random, n: int) -> Stream:
        values, anomalous = [], []
        for i in range(n):
            value = chance.gauss(LEVEL, SIGMA)
            is_bad = chance.random() < SHARE
            values.append(round((spoil(chance, value) if is_bad else value) + move(i), places))
            anomalous.append(is_bad)
        return Stream(values, anomalous)
    return make


def _off(low: float, high: float) -> Callable[[random.Random, float], float]:
    """To either side, by so many sigma."""
    return lambda chance, value: value + chance.choice((-1, 1)) * SIGMA * chance.uniform(low, high)


def _runs(spoil: Callable[[float, float], float]) -> Callable[[random.Random, int], Stream]:
    """Twenty readings in a row are spoiled, with about 230 between; spoil(value, the one before)."""
    def make(chance: random.Random, n: int) -> Stream:
        values, anomalous, bad_until, next_at = [], [], 0, 150
        for i in range(n):
            value = round(chance.gauss(LEVEL, SIGMA), 4)
            if i == next_at:
                bad_until, next_at = i + 20, i + 21 + int(chance.expovariate(1 / 230))
            values.append(round(spoil(value, values[-1]), 4) if i < bad_until else value)
            anomalous.append(i < bad_until)
        return Stream(values, anomalous)
    return make


CLEAN = _scattered(lambda chance, value: value)
KINDS = {
    "far": _scattered(_off(6, 30)),
    "high": _scattered(lambda chance, value: chance.uniform(0.8, 1.0)),
    "quantised": _scattered(_off(6, 30), places=2),
    "drift": _scattered(_off(6, 30), move=lambda i: 0.2 * math.sin(2 * math.pi * i / 2000)),
    "step": _scattered(_off(6, 30), move=lambda i: 0.3 * (i // 1500 % 2)),
    "uniform": _scattered(lambda chance, value: chance.uniform(0, 1)),
    "mid": _scattered(_off(3, 6)),
    "mild": _scattered(_off(2, 4)),
    "burst": _runs(lambda value, before: value + 4 * SIGMA),
    "stuck": _runs(lambda value, before: before),
}


def stream(kind: str, seed: int, n: int = 3000) -> Stream:
    """The same stream each time."""
    return KINDS[kind](random.Random(f"{kind} {seed}"), n)


def clean(seed: int, n: int = 3000) -> list[float]:
    """A healthy sensor."""
    return CLEAN(random.Random(f"clean {seed}"), n).values


def f1(said: list[bool], anomalous: list[bool]) -> float:
    """The harmonic mean of precision and recall."""
    true = sum(s and a for s, a in zip(said, anomalous, strict=True))
    return 2 * true / max(1, sum(said) + sum(anomalous))
