"""Looks at a real source: its frames (sources.py) -> an eye -> one count per interval; next: an event in camera.py."""
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from device.eyes import preview
from device.eyes.boxes import Eye, Seen
from device.eyes.frames import Frame, Source
from device.eyes.onnx_eye import OnnxEye
from device.eyes.people import People


def new_eye(model: str | None, decoder: str | None, confidence: float) -> Eye:
    """The eye for these settings. Raises Unusable."""
    return OnnxEye(model, decoder, confidence) if model else People()


class Watch:
    """A source with an eye on it. every: frames per count; None: a live source counts at `rate` per second, any other
    at every frame; share: at which share of its frames a live source is looked at now. Raises Unusable."""

    def __init__(self, source: Source, eye: Eye, every: int | None, rate: float, preview_path: str | None,
                 share: Callable[[], float] = lambda: 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.source, self.eye, self._clock = source, eye, clock
        self._every = every or (None if self.source.live else 1)
        self._period_s = 1 / rate
        self._share = share if self.source.live else lambda: 1.0
        self._due_frames = 1.0
        self._preview = preview.Preview(preview_path) if preview_path else None
        self.frames = self.passed = 0
        self._looked_s = 0.0
        self._newest = Seen(0)

    def counts(self, stopping: threading.Event) -> Iterator[int | None]:
        """The median count of each interval; None when there is nothing to say, so that the caller can do its own work.

        An interval without any frame gives nothing: a lost camera has not seen nobody.
        """
        interval: list[int] = []
        due_s = self._clock()
        for frame in self.source.frames(stopping):
            if frame is not None and self._is_due():
                interval.append(self._look(frame).persons)
            now_s = self._clock()
            if interval and (len(interval) >= self._every if self._every else now_s >= due_s):
                yield _median(interval)
                interval = []
                due_s = max(due_s + self._period_s, now_s)
            else:
                yield None
        if interval:
            yield _median(interval)

    def _is_due(self) -> bool:
        """Is this frame one of the share that is looked at? Of the others nothing is taken."""
        share = self._share()
        self._due_frames = 1.0 if share >= 1.0 else self._due_frames + share
        if self._due_frames < 1.0:
            self.passed += 1
            return False
        self._due_frames -= 1.0
        return True

    def _look(self, frame: Frame) -> Seen:
        started_s = time.perf_counter()
        self._newest = self.eye.look(frame.image, frame.at_s)
        self._looked_s += time.perf_counter() - started_s
        self.frames += 1
        if self._preview:
            self._preview.show(frame.image, self._newest)
        return self._newest

    def details(self) -> dict[str, Any]:
        """The optional fields of an event, of the newest frame; boxes are [x, y, width, height] in pixels."""
        boxes = self._newest.boxes
        return {"model": self.eye.model, "frames_dropped": self.source.dropped,
                "boxes": [[round(n) for n in (box.x, box.y, box.width, box.height)] for box in boxes],
                "confidence": [Decimal(f"{box.confidence:.3f}") for box in boxes]}

    def summary(self) -> str:
        """What was done so far, in one line."""
        each_ms = 1000 * self._looked_s / self.frames if self.frames else 0.0
        passed = f"; {self.passed} passed over for the carbon intensity" if self.passed else ""
        return (f"looked at {self.frames} frames, {each_ms:.0f} ms each; {self.source.dropped} dropped, "
                f"{self.source.reconnects} reconnects{passed}")

    def close(self) -> None:
        """Write the last preview."""
        if self._preview:
            self._preview.flush()


def _median(counts: list[int]) -> int:
    return int(statistics.median(counts) + 0.5)
