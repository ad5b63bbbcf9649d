"""Frames of a video file or of a directory of images, one after the other (cameras: live.py); next: an eye."""
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from device.eyes import opencv

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
UNKNOWN_FPS = 10.0  # of a directory, or of a file that does not say
ENDED_EARLY = 0.98  # of the frames that the file's header promises; some containers only estimate it


class SourceError(Exception):
    """The source cannot be read (any further): what, got, expected, and the next step."""


@dataclass(frozen=True)
class Frame:
    """One picture (rows x columns x BGR, uint8), its time in seconds on the source's clock, its number from 1."""

    image: np.ndarray
    at_s: float
    number: int


class Source(Protocol):
    """Where frames come from. live: it runs whether we keep up or not; dropped: frames that came too soon; reconnects:
    times it came back."""

    live: bool
    dropped: int
    reconnects: int

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        """One frame after the other; None: none for a moment. Raises SourceError."""


class VideoFile:
    """Every frame of a video file, as fast as they are taken: a file drops none."""

    live = False
    dropped = reconnects = 0

    def __init__(self, path: str) -> None:
        self._path = path
        if not os.path.isfile(path):
            raise SourceError(f"no file {path}: expected a video file, a directory of images, an address such as "
                              "rtsp://host/stream, a camera's number, or simulated")

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        """All frames. Raises SourceError when it is no video, or ends before its header says."""
        cv2 = opencv.load("VideoCapture", "CAP_FFMPEG")
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise SourceError(f"{self._path} cannot be read as a video: {_beginning(self._path)}; expected what "
                                  "FFmpeg knows (mp4, avi, mkv ...): does it play elsewhere? If not, fetch it again")
            fps = capture.get(cv2.CAP_PROP_FPS)
            fps = fps if 0.01 <= fps <= 1000 else UNKNOWN_FPS
            number = 0
            while not stopping.is_set():
                there, image = capture.read()
                if not there:
                    self._check_end(number, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
                    return
                number += 1
                yield Frame(image, number / fps, number)
        finally:
            capture.release()

    def _check_end(self, number: int, promised: int) -> None:
        if number == 0 or number < ENDED_EARLY * promised:
            raise SourceError(f"{self._path} is damaged: got {number} frames, expected {max(promised, 1)} by its "
                              "header; what was read is counted and sent; copy the file anew")


class Directory:
    """The images of a directory, in the order of their names."""

    live = False
    dropped = reconnects = 0

    def __init__(self, path: str) -> None:
        self._names = sorted(os.path.join(path, name) for name in os.listdir(path) if name.lower().endswith(IMAGES))
        if not self._names:
            raise SourceError(f"no image in {path}: got {len(os.listdir(path))} other files, expected names that "
                              "end in " + ", ".join(IMAGES))

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        """All images. Raises SourceError at one that cannot be read."""
        cv2 = opencv.load("imread")
        for number, name in enumerate(self._names, 1):
            if stopping.is_set():
                return
            image = cv2.imread(name, cv2.IMREAD_COLOR)
            if image is None:
                raise SourceError(f"{name} cannot be read as an image: {_beginning(name)}; take it out or fetch it "
                                  f"again; the {number - 1} before it are counted and sent")
            yield Frame(image, number / UNKNOWN_FPS, number)


def _beginning(path: str) -> str:
    with open(path, "rb") as file:
        return f"got {os.path.getsize(path)} bytes beginning with {file.read(12)!r}"
