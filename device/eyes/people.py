"""The default eye, without any weights to install: frame -> what moves (motion.py) -> HOG there -> tracks -> a count.

People who never moved since the camera looks are not counted: nothing tells them from a poster. See docs/camera.md.
"""
import numpy as np

from device.eyes import opencv
from device.eyes.boxes import Box, Seen, intersection
from device.eyes.hog import Hog
from device.eyes.motion import Motion
from device.eyes.tracks import Tracks

WIDEST = 0.6  # of the frame: a wider moving region is wind, water or light
FIRST_ELAPSED_S = 0.1  # before the second frame nothing tells the rate
WASTE = 1.15  # two regions become one when that costs at most this much more area


class People:
    """Counts persons with motion-gated HOG and tracks. `look` at every frame of one camera, in order."""

    model = "hog"

    def __init__(self) -> None:
        cv2 = opencv.load("HOGDescriptor", "HOGDescriptor_getDefaultPeopleDetector", "createBackgroundSubtractorMOG2")
        self._motion, self._hog, self._tracks = Motion(cv2), Hog(cv2), Tracks()
        self._before_s: float | None = None

    def look(self, frame: np.ndarray, at_s: float) -> Seen:
        """The persons on this frame: BGR, uint8; at_s ascends."""
        elapsed_s = FIRST_ELAPSED_S if self._before_s is None else max(1e-3, at_s - self._before_s)
        self._before_s = at_s
        height, width = frame.shape[:2]
        moving = self._motion.update(frame, elapsed_s)
        self._tracks.predict(elapsed_s)
        found = self._hog.find(frame, self._regions(frame, moving))
        boxes = self._tracks.update(found, at_s, elapsed_s, self._motion.share, width, height)
        return Seen(len(boxes), tuple(boxes))

    def _regions(self, frame: np.ndarray, moving: list[Box]) -> list[Box]:
        """Where to look: around what moves, and around the tracks, since people stop."""
        wanted = [box for box in moving if box.width < WIDEST * frame.shape[1]]
        return joined([self._hog.region(frame, box) for box in [*wanted, *(track.box for track in self._tracks.all)]])


def joined(regions: list[Box]) -> list[Box]:
    """Regions that overlap become one, as long as that searches little more than both."""
    regions = list(regions)
    done: list[Box] = []
    while regions:
        one = regions.pop()
        other = next((other for other in regions if intersection(one, other) and _worth_joining(one, other)), None)
        if other is None:
            done.append(one)
        else:
            regions.remove(other)
            regions.append(_around(one, other))
    return done


def _around(a: Box, b: Box) -> Box:
    x, y = min(a.x, b.x), min(a.y, b.y)
    return Box(x, y, max(a.x + a.width, b.x + b.width) - x, max(a.y + a.height, b.y + b.height) - y)


def _worth_joining(a: Box, b: Box) -> bool:
    around = _around(a, b)
    return around.width * around.height <= WASTE * (a.width * a.height + b.width * b.height)
