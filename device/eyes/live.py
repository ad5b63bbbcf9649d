"""A camera that runs whether we keep up or not: a thread reads it; the newest frame goes on, the others are counted.

A lost camera is opened again, with back-off and full jitter, for as long as it takes.
"""
import logging
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from device.eyes import opencv
from device.eyes.frames import Frame, SourceError

TIMEOUT_MS = 10_000  # without an answer or a frame for so long a network camera is lost
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
IDLE_S = 0.2  # the longest that whoever takes the frames waits before it may do something else
log = logging.getLogger("camera")


class Capture(Protocol):
    """What is needed of cv2.VideoCapture."""

    def isOpened(self) -> bool:
        """Is there a camera?"""

    def read(self) -> tuple[bool, np.ndarray]:
        """The next frame; False: lost."""

    def release(self) -> None:
        """Let it go."""


class Live:
    """Frames of a camera. `open_capture` opens it; `must_open`: a first failure is an error, not an outage.

    dropped: frames that came while an older one was looked at. reconnects: times it came back.
    """

    live = True

    def __init__(self, name: str, open_capture: Callable[[], Capture], must_open: str = "") -> None:
        self.name = shown(name)
        self._open_capture, self._must_open = open_capture, must_open
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._number = self.dropped = self.reconnects = 0

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        """The newest frame each time, None when none came for a moment. Raises SourceError."""
        reader = threading.Thread(target=self._read, args=(stopping,), name="frames", daemon=True)
        reader.start()
        while not stopping.is_set():
            with self._changed:
                if self._newest is None and not self._ended:
                    self._changed.wait(IDLE_S)
                frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            yield frame

    def _read(self, stopping: threading.Event) -> None:
        try:
            self._keep_reading(stopping)
        except BaseException as error:  # raised again where the frames are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _keep_reading(self, stopping: threading.Event) -> None:
        failures, was_there = 0, False
        while not stopping.is_set():
            capture = self._open_capture()
            came = 0
            try:
                while not stopping.is_set() and capture.isOpened():
                    there, image = capture.read()
                    if not there:
                        break
                    came += 1
                    if came == 1:
                        self._is_there(was_there, failures)
                        failures, was_there = 0, True
                    self._hand_on(image)
            finally:
                capture.release()
            if not was_there and self._must_open:
                raise SourceError(f"camera {self.name} gives no picture; {self._must_open}")
            if failures == 0 and not stopping.is_set():
                log.warning("camera %s %s; it is tried again", self.name, "was lost" if came else "gives no picture")
            stopping.wait(random.uniform(0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures, 10))))
            failures += 1

    def _is_there(self, before: bool, failures: int) -> None:
        if before:
            self.reconnects += 1
        log.info("camera %s: there%s", self.name, f" again after {failures} attempts" if before else "")

    def _hand_on(self, image: np.ndarray) -> None:
        with self._changed:
            self._number += 1
            self.dropped += self._newest is not None
            self._newest = Frame(image, time.monotonic(), self._number)
            self._changed.notify()


def local_camera(index: int) -> Live:
    """A camera of this machine, by its number: 0 is the first."""
    cv2 = opencv.load("VideoCapture")
    hint = ("allow the terminal to use the camera: System Settings, Privacy & Security, Camera"
            if sys.platform == "darwin" else "is it plugged in, and may this user read /dev/video*?")
    return Live(str(index), lambda: cv2.VideoCapture(index), f"expected camera number {index} on this machine: {hint}")


def network_camera(address: str) -> Live:
    """A camera by its address: rtsp://, rtsps://, http:// or https://."""
    cv2 = opencv.load("VideoCapture", "CAP_FFMPEG", "CAP_PROP_OPEN_TIMEOUT_MSEC", "CAP_PROP_READ_TIMEOUT_MSEC")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    return Live(address, lambda: cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits))


def shown(address: str) -> str:
    """An address without its password, for the log."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", address)
