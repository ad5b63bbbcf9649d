"""Drawn people who walk through a drawn street: videos with known counts for the camera's tests and bench."""
from dataclasses import dataclass
from math import pi, sin
from pathlib import Path

import cv2
import numpy as np

FPS = 10
ROWS, COLUMNS = 360, 480


@dataclass(frozen=True)
class Walker:
    """A person: feet at (x, y) at frame 0, height in pixels, pixels per frame to the right; first and last frame."""

    x: float
    y: float
    height: float
    step: float
    first: int = 0
    last: int = 1 << 30

    def at(self, frame: int) -> float | None:
        """Where the feet are, from left; None when not there."""
        return self.x + self.step * (frame - self.first) if self.first <= frame <= self.last else None


def street(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """An empty street, a little uneven; the same each time."""
    rng = np.random.default_rng(7)
    coarse = rng.uniform(150, 190, (rows // 24, columns // 24, 3)).astype(np.float32)
    return cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def draw(picture: np.ndarray, feet_x: float, feet_y: float, height: float, phase: float) -> None:
    """One person, dark on light: head, coat, arms, legs in step."""
    h, big = height, 8  # drawn eight times as big, with OpenCV's sub-pixel shift
    def point(x: float, y: float) -> tuple[int, int]:
        return round((feet_x + x * h) * big), round((feet_y - y * h) * big)
    swing = 0.10 * sin(phase)
    legs, coat, skin = (70, 45, 40), (35, 30, 30), (110, 130, 175)
    for side in (1, -1):
        foot, hand = point(0.03 * side + side * swing, 0.02), point(0.13 * side - side * swing, 0.46)
        cv2.line(picture, point(0.02 * side, 0.48), foot, legs, max(2, round(0.10 * h)), cv2.LINE_AA, 3)
        cv2.line(picture, point(0.10 * side, 0.78), hand, coat, max(2, round(0.06 * h)), cv2.LINE_AA, 3)
    body = round(0.12 * h * big), round(0.20 * h * big)
    cv2.ellipse(picture, point(0, 0.64), body, 0, 0, 360, coat, -1, cv2.LINE_AA, 3)
    cv2.circle(picture, point(0, 0.91), round(0.065 * h * big), skin, -1, cv2.LINE_AA, 3)


def frame(walkers: list[Walker], number: int, background: np.ndarray, noise: float = 2.0) -> np.ndarray:
    """The picture at a frame number, nearer people in front, with a little noise of a sensor."""
    picture = background.copy()
    for walker in sorted(walkers, key=lambda walker: walker.y):
        x = walker.at(number)
        if x is not None:
            draw(picture, x, walker.y, walker.height, 2 * pi * number / 12)
    grain = np.random.default_rng(number).normal(0, noise, picture.shape)
    return (picture + grain).clip(0, 255).astype(np.uint8)


def count(walkers: list[Walker], number: int, columns: int = COLUMNS) -> int:
    """How many are wholly in the picture."""
    places = [(walker.at(number), walker) for walker in walkers]
    return sum(x is not None and 0.15 * walker.height <= x <= columns - 0.15 * walker.height for x, walker in places)


def write(path: Path, pictures: list[np.ndarray]) -> None:
    """A Motion-JPEG AVI."""
    rows, columns = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (columns, rows))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(picture)
    writer.release()


PARK = [Walker(-20, 200, 60, 5, 0), Walker(500, 260, 75, -6, 5), Walker(-20, 320, 95, 7, 20),
        Walker(500, 170, 48, -4, 30)]
