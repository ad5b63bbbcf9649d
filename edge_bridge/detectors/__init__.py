"""Detectors: the registry that judging.py makes them from; a detector is a module here and one row below.

A detector judges one field of one device: `update(value, at_ms) -> Verdict` for one reading, and, if it is quicker so,
`update_many([(value, at_ms), ...]) -> [Verdict, ...]` with the very same verdicts. `state()` is a JSON text from which
`restore(text)` makes the same detector again: the next verdicts are those that it would have given.
"""
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, Protocol

SPIKE, SHIFT, FLAT, UNUSUAL = REASONS = "spike", "shift", "flat", "unusual"


class Verdict(NamedTuple):
    """anomaly: is it one; score: below 0 is anomalous, None when there is no model yet; retrained: was one fitted;
    low, high: where a normal reading would have been, None when the detector cannot say; reason: of REASONS, for an
    anomaly (spike: a reading far off; shift: one of several; flat: it stands still; unusual: seldom seen like this);
    part: of several values judged together, the one that low and high are about."""

    anomaly: bool
    score: float | None = None
    retrained: bool = False
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    part: int = 0


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
    "context": ("edge_bridge.detectors.context", "ContextDetector"),
    "forest": ("edge_bridge.detectors.forest", "ForestDetector"),
    "seed": ("edge_bridge.detectors.seed", "SeedDetector"),
    "seed-sklearn": ("edge_bridge.detectors.seed_sklearn", "SklearnSeedDetector"),
}


def factory(name: str) -> Callable[[], Any]:
    """The class of a detector by its name, or by `module:name` for one of your own.

    Raises KeyError for an unknown one, ImportError or AttributeError for a module that has none.
    """
    module, attribute = name.split(":", 1) if ":" in name else REGISTRY[name]
    made: Callable[[], Any] = getattr(import_module(module), attribute)
    return made


def judged(detector: Any, readings: list[tuple[Any, int]]) -> list[Verdict]:
    """A verdict for each of (value, at_ms), in order; in one go where the detector can."""
    many: Callable[[list[tuple[Any, int]]], list[Verdict]] | None = getattr(detector, "update_many", None)
    return many(readings) if many else [detector.update(*reading) for reading in readings]


def together(width: int) -> Any:
    """A detector of so many fields judged together; its `update` takes a tuple of their values."""
    return import_module("edge_bridge.detectors.joint").JointDetector(width)
