"""A sensor that stands still: more equal readings in a row than chance would bring in this stream; forest, context."""
import math
from typing import Any

LEAST_REPEATS, MOST_REPEATS = 2, 100  # told from 3 equal readings on, for one window: then it is the new normal
FORGET_REPEATS = 5000.0  # readings after which half of what was learned has faded


class Flatline:
    """How often a reading equals the one before. improbable: a run that chance brings more seldom is a flat line."""

    def __init__(self, improbable: float) -> None:
        self._log_improbable = math.log(improbable)
        self.same = 0  # how many times in a row the newest reading has repeated
        self._repeats, self._chances = 0.5, 1.0

    def note(self, is_repeat: bool) -> None:
        """A reading came, equal to the one before or not."""
        self.same = self.same + 1 if is_repeat else 0

    def learn(self) -> None:
        """The newest reading is as it should be: it counts for how usual repeats are."""
        self._chances += 1
        self._repeats += self.same > 0
        if self._chances > FORGET_REPEATS:
            self._chances, self._repeats = self._chances / 2, self._repeats / 2

    def suspicion(self) -> float:
        """How far the run has come towards being one; from 1 on it is a flat line, until it has lasted for long."""
        if not LEAST_REPEATS <= self.same <= MOST_REPEATS:
            return 0.0
        needed = max(float(LEAST_REPEATS), self._log_improbable / math.log(self._repeats / self._chances))
        return self.same / needed

    def state(self) -> dict[str, Any]:
        """All members, for JSON."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` said."""
        vars(self).update(state)
