"""The band that a stream's readings normally stay in: level, spread and how far out is too far; used by forest.py.

All of it is learned from the stream, in units of its own spread (sigma) or in ranks; nothing is in the sensor's units.
Level and spread follow the stream slowly and are pulled by no outlier (Huber's estimates, with forgetting).
"""
import math
from statistics import median
from typing import Any

LEVEL_RATE = 1 / 32  # the level is 0.12 sigma unsure, and lags behind a drift by 32 readings of it
SPREAD_RATE = 1 / 256  # the spread is 4 % unsure: at 4 sigma that is little beside the tail of the bell curve
CLIP_SIGMA = 2.0  # a reading pulls at level and spread as if it were no farther out than this: 95 % are not
MEMORY = 1500.0  # readings: at 8 % outliers it holds 120, so their share is known to a tenth of itself
RUNGS = tuple(round(2.2 + 0.1 * step, 1) for step in range(19))  # 2.2 sigma: 1 in 36 beyond; 4.0 sigma: 1 in 16,000
EARLY = 10.0  # after n readings limits are 1 + 10/n wider: Student's t for the spread of so few, roughly
SURE_SIGMA = 1.5  # of what lies beyond a limit, so many standard errors are put down to chance
FEWEST = 5.0  # surplus readings beyond a limit before it is believed
WORTH = 0.5  # the F1 that a nearer limit must promise: below it, most of what it flags would be false
GAIN = 0.003  # and how much more than the next farther one
NORMAL_SHARE = 0.95  # of the readings are taken to be normal
CORE_SIGMA, MIDDLE_SIGMA = 0.5, 1.25  # the middle of the bell, where outliers do not reach
UNLIKE_ERRORS, UNLIKE_CORE, UNLIKE_SIDE = 3.5, 0.01, 0.05  # standard errors, and the margin for slow drift
WIDE_RUNGS = (4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
WIDE_SHARE = 0.002  # a stream that is no bell curve is judged by rank: at most 1 in 500 was beyond the limit
LOOK_EVERY = 20  # readings, as often as the forest is grown


def tail(sigma: float) -> float:
    """The share of a bell curve that lies farther out than so many sigma, on both sides together."""
    return math.erfc(sigma / math.sqrt(2))


def _within(sigma: float) -> float:
    """The integral of z² over a bell curve from -sigma to sigma."""
    return 1 - tail(sigma) - 2 * sigma * math.exp(-sigma * sigma / 2) / math.sqrt(2 * math.pi)


def expected(limit: float) -> float:
    """The mean of z², clipped, over a bell curve cut off at the limit."""
    return (_within(CLIP_SIGMA) + CLIP_SIGMA ** 2 * (tail(CLIP_SIGMA) - tail(limit))) / (1 - tail(limit))


_TAILS = tuple(tail(rung) for rung in RUNGS)
_EXPECTED = tuple(expected(rung) for rung in RUNGS)
_CORE_SHARE = (1 - tail(CORE_SIGMA)) / (1 - tail(MIDDLE_SIGMA))


class Band:
    """level +- limit * spread. step: the smallest change ever seen, the sensor's own resolution."""

    def __init__(self) -> None:
        self.level = self.spread = self.step = 0.0
        self.limit = RUNGS[-1]
        self.unlike = False  # is the stream no bell curve?
        self._rung = len(RUNGS) - 1
        self._taken = 0
        self._weight = 1.0  # of the next reading: it grows where others would be made smaller
        self._total = self._core = self._middle = self._right = self._left = 0.0
        self._beyond = [0.0] * len(RUNGS)
        self._far_beyond = [0.0] * len(WIDE_RUNGS)

    def settle(self, values: list[float]) -> None:
        """Begin anew at these readings: their median, and their spread (MAD) if it is no smaller than the old one; a
        few readings of a stream that wanders look narrower than they are."""
        self.level = median(values)
        self.spread = max(self.spread, 1.4826 * median(abs(value - self.level) for value in values))
        self._floor()
        self._taken = max(self._taken, len(values))

    def settle_wide(self, values: list[float]) -> None:
        """Begin anew where a median and its MAD have failed, as they do when a stream goes to and fro between levels:
        so wide that nine in ten of these readings are within 1.645 sigma, as on a bell curve."""
        self.level = median(values)
        self.spread = sorted(abs(value - self.level) for value in values)[len(values) * 9 // 10] / 1.645
        self._floor()

    def seen(self, change: float) -> None:
        """A reading differed from the last one by so much (not 0)."""
        if not self.step or change < self.step:
            self.step = change

    def widening(self) -> float:
        """How much wider the limit is for being learned from few readings."""
        return 1 + EARLY / self._taken

    def follow(self, z: float) -> None:
        """Take in a normal reading, z spreads from the level."""
        self._taken += 1
        clipped = max(-CLIP_SIGMA, min(CLIP_SIGMA, z))
        self.level += max(LEVEL_RATE, 1 / self._taken) * self.spread * clipped
        pull = clipped * clipped / _EXPECTED[self._rung] - 1
        self.spread *= math.sqrt(1 + max(SPREAD_RATE, 1 / self._taken) * pull)
        self._floor()

    def _floor(self) -> None:
        """Never finer than the sensor's own step; above 0 for a stream that has not moved yet."""
        self.spread = max(self.spread, self.step, abs(self.level) * 1e-12, 1e-300)

    def count(self, z: float) -> None:
        """Take note of how far out a reading was, normal or not: of this the limit is made."""
        self._weight *= 1 / (1 - 1 / MEMORY)
        weight, distance = self._weight, abs(z)
        self._total += weight
        if distance < MIDDLE_SIGMA:
            self._middle += weight
            if distance < CORE_SIGMA:
                self._core += weight
            elif z > 0:
                self._right += weight
            else:
                self._left += weight
        elif distance > RUNGS[0]:
            for counts, rungs in ((self._beyond, RUNGS), (self._far_beyond, WIDE_RUNGS)):
                for index, rung in enumerate(rungs):
                    if distance <= rung:
                        break
                    counts[index] += weight
        if weight > 1e6:
            self._shrink()

    def _shrink(self) -> None:
        for name in ("_total", "_core", "_middle", "_right", "_left"):
            setattr(self, name, getattr(self, name) / self._weight)
        self._beyond = [count / self._weight for count in self._beyond]
        self._far_beyond = [count / self._weight for count in self._far_beyond]
        self._weight = 1.0

    def look(self) -> None:
        """Set the limit by what has been counted."""
        self._rung = self._best_rung()
        self.unlike = self._is_unlike()
        self.limit = self._limit_by_rank() if self.unlike else RUNGS[self._rung]

    def _best_rung(self) -> int:
        """The limit that would have served best: of those beyond it, how many are more than a bell curve has there?

        Few outliers or none: 4 sigma. Many that are near: nearer, because there a reading is more likely one than not.
        """
        surplus = []
        for count, share in zip(self._beyond, _TAILS, strict=True):
            by_chance = self._total * NORMAL_SHARE * share / self._weight
            surplus.append(max(0.0, count / self._weight - by_chance - SURE_SIGMA * math.sqrt(by_chance)))
        best, chosen, outliers = WORTH, len(RUNGS) - 1, max(surplus)
        for rung in range(len(RUNGS) - 1, -1, -1):
            if surplus[rung] >= FEWEST:
                f1 = 2 * surplus[rung] / (self._beyond[rung] / self._weight + outliers)
                if f1 > best + GAIN:
                    best, chosen = f1, rung
        return chosen

    def _is_unlike(self) -> bool:
        """Is the middle more peaked than a bell's, or lopsided? Then its tails are no bell's either."""
        middle, sides = self._middle / self._weight, (self._right + self._left) / self._weight
        if not middle:
            return False
        error = math.sqrt(_CORE_SHARE * (1 - _CORE_SHARE) / middle)
        peaked = self._core / self._middle - _CORE_SHARE > UNLIKE_ERRORS * error + UNLIKE_CORE
        lean = abs(self._right - self._left) / self._weight
        return peaked or lean > UNLIKE_ERRORS * math.sqrt(sides + 1) + UNLIKE_SIDE * sides

    def _limit_by_rank(self) -> float:
        for rung, count in zip(WIDE_RUNGS, self._far_beyond, strict=True):
            if count <= WIDE_SHARE * self._total:
                return rung
        return WIDE_RUNGS[-1]

    def state(self) -> dict[str, Any]:
        """All members, for JSON."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` said."""
        vars(self).update(state)
