"""The carbon policy at work: an intensity and the day's curve become a state, with hysteresis, and the state terms;
asked by carbon.py. The table that can be edited is contract/carbon.py's."""
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contract.carbon import ALWAYS, HIGH, LOW, MEASURED, NORMAL

LONGEST_BATCH_AGE_S = 45.0  # below a stall of 60 s, which the health check takes for one
ROOM_SHARE = 0.5  # of the outbox's limit: fuller than this, the backlog goes at full pace whatever the electricity
FEWEST_POINTS = 8  # of a day: fewer have no quantiles
FLAT = 0.2  # a day whose 10th and 90th percentiles differ by less than this share of its median has no high hours


class Terms(NamedTuple):
    """How the bridge works now: times the batch age; shares of the backlog's pace and of a camera's frames; is heavy
    work put off. Alerts have no place here: nothing delays them."""

    batch: float = 1.0
    backfill: float = 1.0
    frames: float = 1.0
    postpone: bool = False


USUAL = Terms()


class Limits(NamedTuple):
    """From `high` on the state is high, up to `low` it is low, in gCO2/kWh."""

    high: float
    low: float


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies, in line between neighbours. values: at least one."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def limits(policy: dict[str, Any], day: Sequence[float]) -> Limits | None:
    """The policy's limits for a day of these intensities; None when it has quantiles and the day is short or flat."""
    by_quantile = [name for name in (HIGH, LOW) if isinstance(policy[name], tuple)]
    if by_quantile:
        if len(day) < FEWEST_POINTS:
            return None
        if quantile(day, 0.9) - quantile(day, 0.1) < FLAT * quantile(day, 0.5):
            return None
    high, low = (quantile(day, policy[name][1]) if name in by_quantile else policy[name] for name in (HIGH, LOW))
    return Limits(high, low) if high > low else None


class States:
    """The state through time. Hysteresis: it is left only beyond a margin, and not before it has lasted its while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.state, self._since_s = NORMAL, float("-inf")

    def look(self, policy: dict[str, Any], now_g: float | None, day: Sequence[float]) -> str:
        """The state at this intensity; without one, or without limits, it is normal at once."""
        found = limits(policy, day)
        if now_g is None or found is None:
            return self._be(NORMAL)
        margin = policy["margin"] / 100
        high = found.high * (1 - margin) if self.state == HIGH else found.high
        low = found.low * (1 + margin) if self.state == LOW else found.low
        wanted = HIGH if now_g >= high else LOW if now_g <= low else NORMAL
        if wanted != self.state and self.lasted_s() < policy["dwell_min"] * 60:
            return self.state
        return self._be(wanted)

    def lasted_s(self) -> float:
        """For how long the state has been the same."""
        return self._clock() - self._since_s

    def _be(self, state: str) -> str:
        if state != self.state:
            self.state, self._since_s = state, self._clock()
        return state


def terms(policy: dict[str, Any], state: str, lasted_s: float, *, measured: bool, watched: bool,
          crowded: bool) -> Terms:
    """What holds in this state. measured: not by the built-in schedule; watched: somebody looks at the dashboard;
    crowded: the outbox fills up. The last two come before the carbon, and what was put off has its bound."""
    adapts = policy["adapt"] == ALWAYS or (policy["adapt"] == MEASURED and measured)
    if not adapts or state != HIGH or watched:
        return USUAL
    in_time = lasted_s < policy["postpone_h"] * 3600
    return Terms(policy["batch"], policy["backfill"] if in_time and not crowded else 1.0, policy["frames"], in_time)


def batch_age_s(usual_s: float, times: float) -> float:
    """The batch age that holds, from the one that is set: longer, but not beyond what the health check allows."""
    return max(usual_s, min(usual_s * times, LONGEST_BATCH_AGE_S))
