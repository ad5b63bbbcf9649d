"""An annotated picture on this machine's own disk (`--preview out.jpg`): what the eye sees. It goes nowhere else."""
import logging
import os
import time

import numpy as np

from device.eyes import opencv
from device.eyes.boxes import Seen

EVERY_S = 1.0
_GREEN, _BLACK = (0, 220, 0), (0, 0, 0)
log = logging.getLogger("camera")


class Preview:
    """Writes the newest frame with its boxes and count, at most once a second, and the last one at the end."""

    def __init__(self, path: str) -> None:
        self._cv2 = opencv.load("imencode", "rectangle", "putText")
        self._path, self._kind = path, os.path.splitext(path)[1].lower()
        if self._kind not in (".jpg", ".jpeg", ".png"):
            raise opencv.Unusable(f"--preview {path}: expected a name that ends in .jpg or .png")
        directory = os.path.dirname(os.path.abspath(path))
        if not os.access(directory, os.W_OK):
            raise opencv.Unusable(f"--preview {path}: got a directory {directory} that is not there or may not be "
                                  "written; expected one that may")
        self._waiting: tuple[np.ndarray, Seen] | None = None
        self._written_at_s = float("-inf")
        self._complained = False

    def show(self, frame: np.ndarray, seen: Seen) -> None:
        """The newest frame."""
        self._waiting = frame, seen
        if time.monotonic() >= self._written_at_s + EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write the newest frame if it is not written yet."""
        if self._waiting is None:
            return
        picture = annotated(*self._waiting)
        self._waiting, self._written_at_s = None, time.monotonic()
        done, encoded = self._cv2.imencode(self._kind, picture)
        assert done, "OpenCV writes every kind that __init__ lets pass"
        try:
            with open(self._path + ".part", "wb") as file:
                file.write(encoded.tobytes())
            os.replace(self._path + ".part", self._path)  # whoever looks sees a whole picture
        except OSError as error:
            log.log(logging.DEBUG if self._complained else logging.WARNING, "no preview: %s", error)
            self._complained = True


def annotated(frame: np.ndarray, seen: Seen) -> np.ndarray:
    """A copy of the frame with a box around each person and the count in a corner."""
    cv2 = opencv.load("rectangle", "putText")
    picture = frame.copy()
    thickness = max(1, frame.shape[0] // 360)
    for box in seen.boxes:
        corner = round(box.x), round(box.y)
        cv2.rectangle(picture, corner, (round(box.x + box.width), round(box.y + box.height)), _GREEN, thickness)
    text, size = f"{seen.persons} person{'' if seen.persons == 1 else 's'}", frame.shape[0] / 600
    place = 4 * thickness, int(30 * size)
    for colour, width in ((_BLACK, 4 * thickness), (_GREEN, thickness)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
    return picture
