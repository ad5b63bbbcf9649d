"""Persons by their outline (Dalal and Triggs' HOG, OpenCV's built-in weights) in parts of a frame; next: people.py."""
from types import ModuleType

import numpy as np

from device.eyes.boxes import Box, best

WINDOW_ROWS, WINDOW_COLUMNS = 128, 64
PERSON_ROWS = 96  # of the window's 128; the rest is the margin that the detector was trained with
ROWS = 1080  # a frame is analysed as if it had so many: the smallest person found has 96 of them, 1/11
SMALLEST_OF_REGION = 0.25  # people stand behind each other; each has at least this part of the region's height
PYRAMID_STEP = 1.1
WEAK = -0.1  # margin of the classifier: below it nothing is reported


class Hog:
    """OpenCV's people detector over regions of a frame."""

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2 = cv2
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def find(self, frame: np.ndarray, regions: list[Box]) -> list[Box]:
        """The persons in these regions, each once; confidence is the classifier's margin, from WEAK up."""
        return best(box for region in regions for box in self._in_region(frame, region))

    def region(self, frame: np.ndarray, box: Box) -> Box:
        """The part of the frame to search for a person around `box`: with a margin, never smaller than a window."""
        rows, columns = frame.shape[:2]
        pixel = rows / ROWS
        width = max(box.width + 0.4 * box.height, 1.25 * WINDOW_COLUMNS * pixel)
        height = max(1.5 * box.height, 1.17 * WINDOW_ROWS * pixel)
        (x, y), width, height = box.centre, min(width, columns), min(height, rows)
        left = min(max(0.0, x - width / 2), columns - width)
        top = min(max(0.0, y - height / 2), rows - height)
        return Box(left, top, width, height)

    def _in_region(self, frame: np.ndarray, region: Box) -> list[Box]:
        cv2 = self._cv2
        left, top = int(region.x), int(region.y)
        part = frame[top:int(region.y + region.height), left:int(region.x + region.width)]
        scale = min(ROWS / frame.shape[0], 1.5 * PERSON_ROWS / (SMALLEST_OF_REGION * region.height))
        if part.shape[0] * scale < WINDOW_ROWS + 2 or part.shape[1] * scale < WINDOW_COLUMNS + 2:
            return []
        part = cv2.resize(part, None, fx=scale, fy=scale,
                          interpolation=cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA)
        windows, margins = self._hog.detectMultiScale(
            part, hitThreshold=WEAK, winStride=(8, 8), padding=(0, 0), scale=PYRAMID_STEP, groupThreshold=0)
        return [Box(left + (x + width / 4) / scale, top + (y + height / 8) / scale, width / 2 / scale,
                    height * 0.75 / scale, float(margin))
                for (x, y, width, height), margin in zip(windows, np.ravel(margins), strict=True)]
