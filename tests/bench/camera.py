"""Bench row `camera`: how long the built-in eye looks at a frame on one core, and how far its counts are off.

With VIDEO=street.avi COUNTS=counts.csv (columns frame, persons) on those, else on a drawn street.
"""
import csv
import os
import time
from pathlib import Path

import cv2
import numpy as np

from device.eyes import frames
from device.eyes.people import People
from tests import drawn_people
from tests.bench.report import Row

MOST_MS, GOAL_MS = 130.0, 60.0
MOST_OFF, GOAL_OFF = 0.75, 0.6
OF_CONSTANT = 0.75  # of the error of the best constant answer in the same run
PERIOD_S = 1 / drawn_people.FPS


def camera(_directory: Path, quick: bool) -> list[Row]:
    """The rows: as filmed, mirrored at three quarters of the size, and what plain HOG makes of it."""
    video, counts = os.environ.get("VIDEO"), os.environ.get("COUNTS")
    if bool(video) != bool(counts):
        raise SystemExit("bench: camera: VIDEO and COUNTS go together; expected both or neither")
    if video and counts:
        name = Path(video).name
        pictures, truth = _filmed(video, counts)
    else:
        name = "drawn"
        pictures, truth = _drawn(60 if quick else 150)
    rows = _rows(name, pictures, truth, gated=bool(video))
    small = [cv2.resize(picture[:, ::-1], None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA) for picture in pictures]
    return rows + _rows(f"{name}, mirrored, 0.75x", small, truth, gated=False) + _naive(name, pictures, truth)


def _filmed(video: str, counts: str) -> tuple[list[np.ndarray], list[int]]:
    with open(counts, encoding="utf-8", newline="") as lines:
        truth = [int(line["persons"]) for line in csv.DictReader(lines)]
    capture = cv2.VideoCapture(video, cv2.CAP_FFMPEG)
    pictures = []
    while len(pictures) < len(truth):
        there, picture = capture.read()
        if not there:
            raise frames.SourceError(f"{video}: got {len(pictures)} frames, expected {len(truth)} as in {counts}")
        pictures.append(picture)
    return pictures, truth


def _drawn(count: int) -> tuple[list[np.ndarray], list[int]]:
    background = drawn_people.street()
    walkers = [drawn_people.Walker(walker.x, walker.y, walker.height, walker.step, walker.first + 100 * again)
               for walker in drawn_people.PARK for again in range(2)]
    return ([drawn_people.frame(walkers, number, background) for number in range(count)],
            [drawn_people.count(walkers, number) for number in range(count)])


def _rows(name: str, pictures: list[np.ndarray], truth: list[int], gated: bool) -> list[Row]:
    eye, seen = People(), []
    started_s = time.process_time()  # processor time: the share of one core, whatever else runs
    for number, picture in enumerate(pictures):
        seen.append(eye.look(picture, number * PERIOD_S).persons)
    each_ms = 1000 * (time.process_time() - started_s) / len(pictures)
    off = _mean_off(seen, truth)
    constant = min(_mean_off([answer] * len(truth), truth) for answer in range(max(truth) + 1))
    return [
        Row(f"camera: {name}", "ms/frame", [each_ms], at_most=MOST_MS, goal=GOAL_MS,
            note=f"processor time, {len(pictures)} frames of {pictures[0].shape[1]} x {pictures[0].shape[0]}"),
        Row(f"camera: {name}: count off by", "persons", [off], at_most=MOST_OFF if gated else None,
            goal=GOAL_OFF if gated else None, note="mean absolute error"),
        Row(f"camera: {name}: of the best constant", "ratio", [off / constant if constant else 0.0],
            at_most=OF_CONSTANT if gated else None, note=f"the best constant answer is off by {constant:.3f}"),
    ]


def _naive(name: str, pictures: list[np.ndarray], truth: list[int]) -> list[Row]:
    """For comparison: OpenCV's people detector as its manual calls it, on whole frames; on every 20th, it is slow."""
    hog = cv2.HOGDescriptor()
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    sample = range(0, len(pictures), 20)
    started_s = time.process_time()
    seen = [len(hog.detectMultiScale(pictures[number], winStride=(8, 8), scale=1.05)[0]) for number in sample]
    each_ms = 1000 * (time.process_time() - started_s) / len(sample)
    return [Row(f"camera: {name}, plain HOG", "ms/frame", [each_ms], note="whole frames, no motion, no tracks"),
            Row(f"camera: {name}, plain HOG: count off by", "persons", [_mean_off(seen, [truth[n] for n in sample])])]


def _mean_off(seen: list[int], truth: list[int]) -> float:
    return sum(abs(one - other) for one, other in zip(seen, truth, strict=True)) / len(truth)
