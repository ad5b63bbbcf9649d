"""The matrix: every fault registers here with its name and how often it runs; rows_*.py have them, run.py runs them."""
from collections.abc import Callable
from dataclasses import dataclass

from tests.scorecard.site import Site


@dataclass(frozen=True)
class Fault:
    """act: makes the site run and the fault happen, and returns when the fault is over.

    runs, full_runs: how often it is run in the short and in the full matrix. control: it must lose. absent: says why
    the fault cannot be made on this machine, or None. slow_s: about how long one run takes; long ones begin first.
    """

    name: str
    act: Callable[[Site], None]
    runs: int = 1
    full_runs: int = 3
    control: bool = False
    absent: Callable[[], str | None] = lambda: None
    slow_s: float = 25.0


MATRIX: dict[str, Fault] = {}


def fault(name: str, runs: int = 1, full_runs: int = 3, control: bool = False,
          absent: Callable[[], str | None] = lambda: None, slow_s: float = 25.0,
          ) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
    """Register a function as a row of the matrix."""
    def register(act: Callable[[Site], None]) -> Callable[[Site], None]:
        if name in MATRIX:
            raise ValueError(f"two faults are named {name!r}")
        MATRIX[name] = Fault(name, act, runs, full_runs, control, absent, slow_s)
        return act
    return register
