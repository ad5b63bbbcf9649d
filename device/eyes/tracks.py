"""One track per person, from frame to frame, so that a person missed for a moment still counts; made by people.py.

Strong detections are matched first, weak ones only continue a track (after Zhang et al., ByteTrack, 2022).
"""
from collections.abc import Callable
from math import hypot, log

from device.eyes.boxes import Box, overlap

STRONG = 0.4  # of a detection's confidence: from here it may begin a track
CONFIRMED = 3  # detections, and frames with motion under it, before a track counts as a person
MOVING_SHARE = 0.3  # of a track's box: a parked van that looks like a person never has it
WALK_PER_S = 0.8  # body heights: 1.4 m/s
REACH = 0.4  # body heights that a detection may lie off on top of that
LOST_S = 1.0  # a confirmed track without a detection: the time to pass behind a post
EMPTY_SHARE = 0.1  # less than this moves in an unseen track's box, so nobody walks there ...
EMPTY_S = 0.5  # ... and it is given up this soon
LEAVING_S = 0.3  # the same at the frame's edge, or not yet confirmed
DOUBLE = 0.6  # overlap of two tracks, one of them unseen: both follow the same person
ASPECT = 0.45  # width of a walking person, in heights


class Track:
    """A person on the way: where, how fast (pixels per second), and what speaks for it."""

    def __init__(self, box: Box, at_s: float) -> None:
        self.box, self.seen_at_s = box, at_s
        self.hits, self.moved, self.empty = 1, 0, False
        self._speed = [0.0, 0.0]

    @property
    def confirmed(self) -> bool:
        """Does it count as a person?"""
        return self.hits >= CONFIRMED and self.moved >= CONFIRMED

    def predict(self, elapsed_s: float) -> None:
        """Go on as before."""
        box = self.box
        self.box = Box(box.x + self._speed[0] * elapsed_s, box.y + self._speed[1] * elapsed_s, box.width, box.height,
                       box.confidence)

    def slow_down(self) -> None:
        """Unseen: the longer, the less its speed is known."""
        self._speed = [0.95 * part for part in self._speed]

    def correct(self, found: Box, at_s: float, elapsed_s: float) -> None:
        """Half-way to what was found (the detector's grid is coarse); heights change slowly, so they do here."""
        (x, y), (found_x, found_y) = self.box.centre, found.centre
        error = found_x - x, found_y - y
        height = self.box.height + 0.2 * (found.height - self.box.height)
        width = ASPECT * height
        self.box = Box(x + error[0] / 2 - width / 2, y + error[1] / 2 - height / 2, width, height, found.confidence)
        self._speed = [speed + 0.15 * off / elapsed_s for speed, off in zip(self._speed, error, strict=True)]
        self.hits, self.seen_at_s = self.hits + 1, at_s

    def distance(self, found: Box) -> float:
        """How far a detection is from here, in body heights; sideways counts half more, another size too."""
        (x, y), (found_x, found_y) = self.box.centre, found.centre
        off = hypot(1.5 * (found_x - x), found_y - y) / self.box.height
        return off + 0.3 * abs(log(found.height / self.box.height))


class Tracks:
    """All tracks of one camera."""

    def __init__(self) -> None:
        self.all: list[Track] = []

    def predict(self, elapsed_s: float) -> None:
        """Move every track on by this time."""
        for track in self.all:
            track.predict(elapsed_s)

    def update(self, found: list[Box], at_s: float, elapsed_s: float, moving_share: Callable[[Box], float],
               width: int, height: int) -> list[Box]:
        """Match what was found with the tracks; the boxes of the confirmed ones, on a frame of this size."""
        reach = REACH + WALK_PER_S * elapsed_s
        strong = [box for box in found if box.confidence >= STRONG]
        unseen, new = _match(self.all, strong, reach, at_s, elapsed_s)
        unseen, _ = _match(unseen, [box for box in found if box.confidence < STRONG], reach, at_s, elapsed_s)
        for track in unseen:
            track.slow_down()
        self.all += [Track(box, at_s) for box in new
                     if all(overlap(box, track.box) < 0.3 for track in self.all)]
        for track in self.all:
            share = moving_share(track.box)
            track.moved += share > MOVING_SHARE
            track.empty = share < EMPTY_SHARE
        self.all = _without_doubles([track for track in self.all if _stays(track, at_s, elapsed_s, width, height)],
                                    at_s)
        return [track.box for track in self.all if track.confirmed]


def _match(tracks: list[Track], found: list[Box], reach: float, at_s: float,
           elapsed_s: float) -> tuple[list[Track], list[Box]]:
    """Pair the nearest first; the tracks and the boxes that stay alone."""
    pairs = sorted((distance, t, f) for t, track in enumerate(tracks) for f, box in enumerate(found)
                   if (distance := track.distance(box)) < reach)
    taken_tracks: set[int] = set()
    taken_boxes: set[int] = set()
    for _, t, f in pairs:
        if t not in taken_tracks and f not in taken_boxes:
            taken_tracks.add(t)
            taken_boxes.add(f)
            tracks[t].correct(found[f], at_s, elapsed_s)
    return ([track for t, track in enumerate(tracks) if t not in taken_tracks],
            [box for f, box in enumerate(found) if f not in taken_boxes])


def _stays(track: Track, at_s: float, elapsed_s: float, width: int, height: int) -> bool:
    box = track.box
    x, _ = box.centre
    if not 0 <= x <= width:
        return False
    leaving = (box.x < 0.3 * box.width or box.x + box.width > width - 0.3 * box.width
               or box.y + box.height > height - 2)
    patience_s = (EMPTY_S if track.empty else LOST_S) if track.confirmed and not leaving else LEAVING_S
    return at_s - track.seen_at_s <= max(patience_s, 1.5 * elapsed_s) + 1e-6  # whole frames, however floats round


def _without_doubles(tracks: list[Track], at_s: float) -> list[Track]:
    kept: list[Track] = []
    for track in sorted(tracks, key=lambda track: (not track.confirmed, at_s - track.seen_at_s, -track.hits)):
        if track.seen_at_s == at_s or all(overlap(track.box, other.box) <= DOUBLE for other in kept):
            kept.append(track)
    return kept
