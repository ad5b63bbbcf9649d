"""From frames to events without Kafka: intervals, medians, rates, details, and the summary line."""
import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import camera
from device.eyes import sources
from device.eyes.frames import SourceError
from device.eyes.outlet import Outlet
from device.eyes.watch import Watch, new_eye
from device.spool import Spool
from tests.camera_rig import Belt, Reader, Reel


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, persons in enumerate((0, 1, 5, 2, 2, 3, 4)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), 10 * persons, np.uint8))
    return tmp_path


def counts(watch: Watch) -> list[int]:
    return [count for count in watch.counts(threading.Event()) if count is not None]


def test_a_file_or_directory_gives_a_count_per_frame_or_per_so_many(images: Path) -> None:
    def per(every: int | None) -> list[int]:
        return counts(Watch(sources.opened(str(images)), Reader(), every, 1, None))

    assert per(None) == [0, 1, 5, 2, 2, 3, 4]
    assert per(3) == [1, 2, 4], "medians; of the last frame alone"
    assert per(2) == [1, 4, 3, 4], "halves are rounded up"


def live(reel: Reel, every: int | None, rate: float) -> Watch:
    return Watch(reel, Reader(), every, rate, None)


def test_a_live_source_counts_by_rate_and_is_silent_without_a_frame() -> None:
    assert counts(live(Reel(None, None, 2, 3, 3, 4), None, 1e-6)) == [2, 3], "the first, and at the end"
    assert counts(live(Reel(None, 2, None, None, 3), None, 1e6)) == [2, 3]
    assert counts(live(Reel(None, None), None, 1e6)) == [], "nobody was looked for, so nobody is counted"
    assert counts(live(Reel(1, 1, 2, None, 2, 2), 3, 1e6)) == [1, 2]


def test_the_rate_of_a_live_source_does_not_drift_with_its_frames() -> None:
    frames = range(300)  # each 0.03 s after the one before: none falls on a tenth of a second by itself
    clock = iter([0.0, *(0.03 * number for number in frames)])
    watch = Watch(Reel(*[1] * len(frames)), Reader(), None, 10, None, clock=lambda: next(clock))
    assert len(counts(watch)) == 90 + 1, "nine seconds of ten a second, and what was left at the end"


def test_events_carry_details_when_asked_and_the_log_a_summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(camera, "SUMMARY_S", 0.0)
    belt, record = Belt(), tmp_path / "made"
    outlet = Outlet(belt, "t", "gate", Spool(":memory:"))  # type: ignore[arg-type]
    made = camera.Camera(outlet, "gate", threading.Event(), str(record))
    with caplog.at_level("INFO"):
        made.watch(live(Reel(2, 0), 1, 1), None, details=True)
    first, second = [json.loads(line) for line in record.read_text().splitlines()]
    assert {name: first[name] for name in list(first)[2:]} == {
        "persons_detected": 2, "model": "brightness", "frames_dropped": 3, "boxes": [[1, 2, 3, 4]] * 2,
        "confidence": [0.5, 0.5]}
    assert second["boxes"] == [] and second["persons_detected"] == 0
    assert re.search(r"looked at 2 frames, \d+ ms each; 3 dropped, 1 reconnects; 2 events, 0 confirmed, 2 waiting",
                     caplog.text)


def test_a_count_ends_a_live_source_and_a_fault_comes_after_the_events() -> None:
    outlet = Outlet(Belt(), "t", "gate", Spool(":memory:"))  # type: ignore[arg-type]
    made = camera.Camera(outlet, "gate", threading.Event())
    made.watch(live(Reel(1, 1, 1, 1), 1, 1), 2, details=False)
    assert outlet.made == 2
    with pytest.raises(SourceError, match="burnt"):
        made.watch(live(Reel(1, "burnt"), 1, 1), None, details=False)
    assert outlet.made == 3


def test_the_default_eye_needs_no_model() -> None:
    assert new_eye(None, None, 0.4).model == "hog"
