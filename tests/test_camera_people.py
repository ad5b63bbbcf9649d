"""The camera's own eye: boxes, tracks, motion, and drawn people counted on a drawn street."""
import builtins
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device.eyes import opencv, preview
from device.eyes.boxes import Box, Seen, best, overlap
from device.eyes.hog import Hog
from device.eyes.motion import Motion
from device.eyes.opencv import Unusable
from device.eyes.people import People, joined
from device.eyes.tracks import Tracks
from tests import drawn_people
from tests.drawn_people import PARK, Walker, frame, street

PERIOD_S = 1 / drawn_people.FPS


def box(x: float, y: float = 100, height: float = 100, confidence: float = 1.0) -> Box:
    return Box(x, y, 0.45 * height, height, confidence)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap(Box(0, 0, 10, 10), Box(10, 0, 10, 10)) == 0
    assert overlap(Box(1, 2, 3, 4), Box(1, 2, 3, 4)) == 1


def test_of_boxes_around_one_person_the_surest_stays() -> None:
    person, again, torso, other = box(0, confidence=0.9), box(5, confidence=0.8), Box(10, 120, 20, 40, 0.7), box(40)
    assert best([again, torso, person, other]) == [other, person]


class Scene:
    """Tracks fed by hand on a frame of 1000 x 500; `moving` says what moves."""

    def __init__(self) -> None:
        self.tracks, self.at_s, self.moving = Tracks(), 0.0, 1.0

    def see(self, *found: Box) -> int:
        self.at_s += PERIOD_S
        self.tracks.predict(PERIOD_S)
        return len(self.tracks.update(list(found), self.at_s, PERIOD_S, lambda _: self.moving, 1000, 500))


def test_a_person_counts_from_the_third_detection_on() -> None:
    scene = Scene()
    assert [scene.see(box(100 + 8 * n)) for n in range(5)] == [0, 0, 1, 1, 1]


def test_what_never_moved_is_no_person_what_stops_stays_one() -> None:
    scene = Scene()
    scene.moving = 0.0
    assert [scene.see(box(100)) for _ in range(20)] == [0] * 20, "a parked van"
    scene.moving = 1.0
    assert [scene.see(box(100)) for _ in range(3)][-1] == 1
    scene.moving = 0.0
    assert [scene.see(box(100)) for _ in range(50)] == [1] * 50


def test_a_person_behind_a_post_is_the_same_one_after_it() -> None:
    scene = Scene()
    for n in range(10):
        scene.see(box(100 + 8 * n))
    assert [scene.see() for _ in range(6)] == [1] * 6
    assert [scene.see(box(100 + 8 * n)) for n in range(16, 20)] == [1] * 4
    counts = [scene.see() for _ in range(30)]
    assert counts[0] == 1 and counts[-1] == 0, "gone for good"


def test_who_vanishes_where_nothing_moves_is_given_up_sooner() -> None:
    patience = []
    for moving in (1.0, 0.0):
        scene = Scene()
        for n in range(10):
            scene.see(box(100 + 8 * n))
        scene.moving = moving
        patience.append(sum(scene.see() for _ in range(30)))
    assert patience[0] > patience[1] > 0


def test_who_leaves_at_the_edge_is_gone_at_once() -> None:
    scene = Scene()
    for n in range(10):
        scene.see(box(900 + 8 * n))
    assert [scene.see() for _ in range(6)][-1] == 0


def test_weak_detections_go_on_but_never_begin() -> None:
    scene = Scene()
    assert [scene.see(box(100, confidence=0.1)) for _ in range(9)] == [0] * 9
    for _ in range(3):
        scene.see(box(100))
    assert [scene.see(box(100, confidence=0.1)) for _ in range(30)] == [1] * 30


@pytest.mark.parametrize("apart", [30, 5])
def test_two_who_cross_stay_two_however_close(apart: int) -> None:
    scene = Scene()
    counts = [scene.see(box(100 + 8 * n, 100), box(300 - 8 * n, 100 + apart)) for n in range(25)]
    assert counts[3:] == [2] * 22


def test_motion_is_where_someone_walks_and_a_lamp_is_no_motion() -> None:
    motion, background, walker = Motion(cv2), street(), [Walker(60, 220, 80, 6)]
    for number in range(-1, 20):  # the first one without anybody
        found = motion.update(frame(walker if number >= 0 else [], max(0, number), background), PERIOD_S)
    x = walker[0].at(19)
    assert x is not None and len(found) == 1
    assert abs(found[0].centre[0] - x) < 15 and 60 < found[0].height < 95
    assert motion.share(Box(x - 12, 150, 24, 60)) > 0.4 and motion.share(Box(300, 100, 40, 80)) == 0
    assert motion.share(Box(-900, -900, 5, 5)) == 0, "outside the frame"
    assert motion.update(np.full_like(background, 255), PERIOD_S) == []


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_hog_finds_a_person_at_any_size_of_frame(scale: float) -> None:
    picture = cv2.resize(frame([Walker(240, 250, 90, 0)], 3, street(), 0), None, fx=scale, fy=scale)
    hog = Hog(cv2)
    found = hog.find(picture, [hog.region(picture, Box(220 * scale, 160 * scale, 40 * scale, 90 * scale))])
    assert found
    assert overlap(found[0], Box(220 * scale, 160 * scale, 40 * scale, 90 * scale)) > 0.5
    assert hog.find(picture, [hog.region(picture, Box(20, 20, 20, 40))]) == []


def test_regions_join_only_when_that_saves_work() -> None:
    near = joined([Box(0, 0, 100, 100), Box(5, 0, 100, 100)])
    assert near == [Box(0, 0, 105, 100)]
    assert len(joined([Box(0, 0, 100, 100), Box(90, 90, 100, 100)])) == 2
    assert len(joined([Box(0, 0, 10, 10), Box(50, 50, 10, 10)])) == 2


def test_drawn_people_are_counted() -> None:
    eye, background = People(), street()
    errors, constant = [], []
    for number in range(75):
        seen = eye.look(frame(PARK, number, background), number * PERIOD_S)
        errors.append(abs(seen.persons - drawn_people.count(PARK, number)))
        constant.append(drawn_people.count(PARK, number))
    assert sum(errors) / len(errors) <= 0.8
    assert sum(errors) < 0.8 * min(sum(abs(n - k) for n in constant) for k in range(6))
    assert len(seen.boxes) == seen.persons


def test_nobody_is_counted_on_an_empty_street() -> None:
    eye, background = People(), street()
    assert {eye.look(frame([], number, background), number * PERIOD_S).persons for number in range(15)} == {0}


def _without(*names: str) -> types.ModuleType:
    """An OpenCV like version 5."""
    module = types.ModuleType("cv2")
    for name in dir(cv2):
        if name not in names:
            setattr(module, name, getattr(cv2, name))
    module.__version__ = "5.0.0"  # type: ignore[attr-defined]
    return module


def test_an_opencv_without_hog_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", _without("HOGDescriptor", "HOGDescriptor_getDefaultPeopleDetector"))
    with pytest.raises(Unusable, match=r"no HOGDescriptor.*got version 5\.0\.0, expected 4\.12 .*below 5; install"):
        People()
    opencv.load("resize")


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fake(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real(name, *arguments, **named)
    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(Unusable, match=r"OpenCV is missing.*make camera"):
        opencv.load("resize")


def test_a_preview_is_the_frame_with_boxes_and_a_count(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    shown = preview.Preview(str(path))
    picture = np.full((120, 160, 3), 90, np.uint8)
    shown.show(picture, Seen(1, (Box(40, 30, 20, 60),)))
    shown.show(picture, Seen(0))  # within the same second: waits
    first = cv2.imread(str(path))
    assert tuple(first[60, 40]) == (0, 220, 0) and tuple(first[60, 100]) == (90, 90, 90)
    assert (first[:20, :60] != 90).any(), "the count in the corner"
    shown.flush()
    assert tuple(cv2.imread(str(path))[60, 40]) == (90, 90, 90)
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]
    assert (picture == 90).all(), "the frame itself is untouched"


def test_a_preview_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"ends in \.jpg or \.png"):
        preview.Preview(str(tmp_path / "out.gif"))
    with pytest.raises(Unusable, match="not there"):
        preview.Preview(str(tmp_path / "none" / "out.jpg"))
