"""Boxes around persons, in pixels of the frame: made by hog.py and decoders.py, thinned out here; next: tracks.py."""
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SAME_PERSON = 0.4  # intersection over union; the usual value for pedestrians, who do stand close together
INSIDE = 0.7  # share of the smaller box: a torso found within a person is that person


@dataclass(frozen=True)
class Box:
    """Left and top edge, width and height in pixels; confidence as its detector gives it (not a probability)."""

    x: float
    y: float
    width: float
    height: float
    confidence: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Seen:
    """What an eye says of one frame: how many persons, and where."""

    persons: int
    boxes: tuple[Box, ...] = ()


class Eye(Protocol):
    """Looks at frames (rows x columns x BGR, uint8) one after the other, at ascending times in seconds."""

    model: str

    def look(self, frame: np.ndarray, at_s: float) -> Seen:
        """How many persons there are on this frame."""


def intersection(a: Box, b: Box) -> float:
    """Area that two boxes share, in square pixels."""
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return across * down if across > 0 and down > 0 else 0.0


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1."""
    shared = intersection(a, b)
    return shared / (a.width * a.height + b.width * b.height - shared) if shared else 0.0


def best(boxes: Iterable[Box], same: float = SAME_PERSON) -> list[Box]:
    """Non-maximum suppression: of boxes that show the same person the most confident one stays."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.confidence):
        if not any(overlap(box, other) > same or _inside(box, other) for other in kept):
            kept.append(box)
    return kept


def _inside(a: Box, b: Box) -> bool:
    return intersection(a, b) > INSIDE * min(a.width * a.height, b.width * b.height)
