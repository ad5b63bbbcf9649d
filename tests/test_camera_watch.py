"""From frames to events without Kafka: intervals, medians, rates, details, and the summary line."""
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import camera
from device.eyes import sources
from device.eyes.boxes import Box, Seen
from device.eyes.frames import Frame, SourceError
from device.eyes.outlet import Outlet
from device.eyes.watch import Watch, new_eye
from device.spool import Spool
from tests.test_camera_outlet import Belt


class Reader:
    """An eye that reads the count off the frame's brightness."""

    model = "brightness"

    def look(self, frame: np.ndarray, at_s: float) -> Seen:
        persons = round(frame.mean() / 10)
        return Seen(persons, tuple(Box(1.4, 2, 3, 4, 0.5) for _ in range(persons)))


class Reel:
    """A live source of these values; None: a moment without a frame; a text: it fails."""

    live, dropped, reconnects = True, 3, 1

    def __init__(self, *values: int | str | None) -> None:
        self._values = values

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        for number, value in enumerate(self._values, 1):
            if isinstance(value, str):
                raise SourceError(value)
            yield None if value is None else Frame(np.full((4, 4, 3), 10 * value, np.uint8), number / 10, number)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, persons in enumerate((0, 1, 5, 2, 2, 3, 4)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), 10 * persons, np.uint8))
    return tmp_path


def counts(watch: Watch) -> list[int]:
    return [count for count in watch.counts(threading.Event()) if count is not None]


def test_a_file_or_directory_gives_a_count_per_frame_or_per_so_many(images: Path) -> None:
    assert counts(Watch(str(images), Reader(), None, 1, None)) == [0, 1, 5, 2, 2, 3, 4]
    assert counts(Watch(str(images), Reader(), 3, 1, None)) == [1, 2, 4], "medians; of the last frame alone"
    assert counts(Watch(str(images), Reader(), 2, 1, None)) == [1, 4, 3, 4], "halves are rounded up"


def live(monkeypatch: pytest.MonkeyPatch, reel: Reel, every: int | None, rate: float) -> Watch:
    monkeypatch.setattr(sources, "opened", lambda source: reel)
    return Watch("0", Reader(), every, rate, None)


def test_a_live_source_counts_by_rate_and_is_silent_without_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(live(monkeypatch, Reel(None, None, 2, 3, 3, 4), None, 1e-6)) == [2, 3], "the first, and at the end"
    assert counts(live(monkeypatch, Reel(None, 2, None, None, 3), None, 1e6)) == [2, 3]
    assert counts(live(monkeypatch, Reel(None, None), None, 1e6)) == [], "nobody was looked for, so nobody is counted"
    assert counts(live(monkeypatch, Reel(1, 1, 2, None, 2, 2), 3, 1e6)) == [1, 2]


def test_events_carry_details_when_asked_and_the_log_a_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(camera, "SUMMARY_S", 0.0)
    belt, record = Belt(), tmp_path / "made"
    outlet = Outlet(belt, "t", "gate", Spool(":memory:"))  # type: ignore[arg-type]
    made = camera.Camera(outlet, "gate", threading.Event(), str(record))
    with caplog.at_level("INFO"):
        made.watch(live(monkeypatch, Reel(2, 0), 1, 1), None, details=True)
    first, second = [json.loads(line) for line in record.read_text().splitlines()]
    assert {name: first[name] for name in list(first)[2:]} == {
        "persons_detected": 2, "model": "brightness", "frames_dropped": 3, "boxes": [[1, 2, 3, 4]] * 2,
        "confidence": [0.5, 0.5]}
    assert second["boxes"] == [] and second["persons_detected"] == 0
    assert "looked at 2 frames, 0 ms each; 3 dropped, 1 reconnects; 2 events, 0 confirmed, 2 waiting" in caplog.text


def test_a_count_ends_a_live_source_and_a_fault_comes_after_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = Outlet(Belt(), "t", "gate", Spool(":memory:"))  # type: ignore[arg-type]
    made = camera.Camera(outlet, "gate", threading.Event())
    made.watch(live(monkeypatch, Reel(1, 1, 1, 1), 1, 1), 2, details=False)
    assert outlet.made == 2
    with pytest.raises(SourceError, match="burnt"):
        made.watch(live(monkeypatch, Reel(1, "burnt"), 1, 1), None, details=False)
    assert outlet.made == 3


def test_the_default_eye_needs_no_model() -> None:
    assert new_eye(None, None, 0.4).model == "hog"
