"""What moves on a frame: background subtraction on a small copy; people.py looks for persons only there."""
from types import ModuleType

import numpy as np

from device.eyes.boxes import Box

ROWS = 360  # enough to see a person of 30 rows move, and 3 ms a frame
BACKGROUND_S = 50.0  # time constant; what stands still is background after a tenth of it (MOG2: 10 % of the weight)
FASTEST = 0.05  # of one frame's weight, however long the camera was away: people are no background after two frames
SMALLEST_SHARE = 1 / 2880  # of the frame; 60 of 480 x 360 pixels: a person of 30 rows has 200
CHANGED_LIGHT = 0.5  # more than this share of the frame does not walk: a lamp was switched, the camera was moved


class Motion:
    """The background as learnt so far (a mixture of Gaussians per pixel, MOG2), and what stands out from it."""

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2 = cv2
        self._background = cv2.createBackgroundSubtractorMOG2(detectShadows=True)
        self._opening = np.ones((2, 2), np.uint8)
        self._closing = np.ones((9, 5), np.uint8)  # higher than wide, as a person's parts are apart
        self._mask = np.zeros((1, 1), np.uint8)
        self._scale = 1.0

    def update(self, frame: np.ndarray, elapsed_s: float) -> list[Box]:
        """Learn this frame, `elapsed_s` after the one before; the boxes of what moves, in pixels of the frame."""
        cv2 = self._cv2
        self._scale = min(1.0, ROWS / frame.shape[0])
        small = frame if self._scale == 1.0 else cv2.resize(
            frame, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)
        marked = self._background.apply(small, learningRate=min(FASTEST, elapsed_s / BACKGROUND_S))
        mask = (marked == 255).astype(np.uint8)  # 127 is shadow
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, self._opening)
        self._mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._closing)
        if self._mask.mean() > CHANGED_LIGHT:
            self._mask[:] = 0
        _, _, found, _ = cv2.connectedComponentsWithStats(self._mask)
        smallest = SMALLEST_SHARE * self._mask.size
        return [Box(*(float(n) / self._scale for n in (x, y, width, height)))
                for x, y, width, height, area in found[1:] if area >= smallest]

    def share(self, box: Box) -> float:
        """Which share of a box moves, 0 to 1."""
        left, top = max(0, round(box.x * self._scale)), max(0, round(box.y * self._scale))
        right, bottom = round((box.x + box.width) * self._scale), round((box.y + box.height) * self._scale)
        inner = self._mask[top:max(top, bottom), left:max(left, right)]
        return float(inner.mean()) if inner.size else 0.0
