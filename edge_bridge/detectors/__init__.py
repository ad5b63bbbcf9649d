"""Detectors: the registry that anomaly.py makes them from; a detector is a module here and one row below.

A detector judges one field of one device: `update(value, at_ms) -> Verdict` for one reading, and, if it is quicker so,
`update_many([(value, at_ms), ...]) -> [Verdict, ...]` with the very same verdicts. `state()` is a JSON text from which
`restore(text)` makes the same detector again: the next verdicts are those that it would have given.
"""
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, Protocol


class Verdict(NamedTuple):
    """anomaly: is it one; score: below 0 is anomalous, None when there is no model yet; retrained: was one fitted."""

    anomaly: bool
    score: float | None = None
    retrained: bool = False


class Detector(Protocol):
    """One field of one device."""

    def update(self, value: float, at_ms: int) -> Verdict:
        """Take in one reading and judge it."""

    def state(self) -> str:
        """Everything that later verdicts depend on, as JSON."""

    def restore(self, state: str) -> None:
        """Become what `state` said."""


# name -> (module, class): imported only when chosen.
REGISTRY = {
    "seed": ("edge_bridge.detectors.seed", "SeedDetector"),
}


def factory(name: str) -> Callable[[], Any]:
    """The class of a detector by its name. Raises KeyError for an unknown one."""
    module, attribute = REGISTRY[name]
    made: Callable[[], Any] = getattr(import_module(module), attribute)
    return made
