"""Judging: one detector for each device and field takes in committed readings and gives verdicts; for anomaly.py.

A detector that fails costs its readings their verdict, and nothing else: it begins anew with the next ones.
"""
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edge_bridge import detectors
from edge_bridge.detector_states import DetectorStates, Key
from edge_bridge.detectors import Verdict
from edge_bridge.handover import Committed

log = logging.getLogger(__name__)

TOGETHER = "+"  # between the names of fields that one detector judges together
MOST_LIMIT = 1e125  # of a band: what the cloud's numbers hold

# What is to be said of a row, by its id and by field; None: its detector failed.
Found = dict[int, dict[str, Verdict | None]]

# Where the next reading is expected, by field: (low, high).
Bands = dict[str, tuple[float, float]]


class Judges:
    """make: makes a detector; stored: states on disk; judge_all: what is found of normal readings is wanted, too."""

    def __init__(self, make: Callable[[], Any], stored: Mapping[Key, str], judge_all: bool) -> None:
        self._make, self._judge_all = make, judge_all
        self._failing: set[Key] = set()
        self.retrained = 0  # how often any of them fitted a model
        self.restore(stored)

    def __len__(self) -> int:
        return len(self._detectors)

    def restore(self, stored: Mapping[Key, str]) -> None:
        """Go on with what is on disk, from the next reading of each on."""
        self._states = DetectorStates(stored)
        self._detectors: dict[Key, Any] = {}
        self._normal: dict[str, Bands] = {}

    def normal(self) -> dict[str, Bands]:
        """What is normal by the newest verdict on each device, for those fields whose detector says it. Any thread may
        ask: what it gets is not changed any more."""
        return self._normal.copy()

    def use(self, make: Callable[[], Any], stored: Mapping[Key, str]) -> None:
        """From the next reading on other detectors judge."""
        self._make = make
        self.restore(stored)

    def score(self, key: Key, rows: Iterable[Committed], found: Found, states: dict[Key, str]) -> None:
        """Judge one field of one device; what is to be said goes to `found`, the state to `states`."""
        ids, readings = _of_field(key[1], rows)
        if not ids:
            return
        verdicts = self._judged(key, readings, states)
        self._keep_band(key, verdicts[-1] if verdicts else None)
        if verdicts is None:
            for row_id in ids:
                found.setdefault(row_id, {})[key[1]] = None
            return
        for row_id, verdict in zip(ids, verdicts, strict=True):
            if verdict.retrained:
                self.retrained += 1
            if verdict.anomaly or self._judge_all:
                found.setdefault(row_id, {})[key[1]] = verdict

    def _judged(self, key: Key, readings: list[tuple[Any, int]], states: dict[Key, str]) -> list[Verdict] | None:
        """One verdict per reading; None when the detector fails: the readings go on unclassified."""
        try:
            detector = self._detectors.get(key)
            if detector is None:
                detector = self._detectors[key] = self._states.restored(key, self._maker(key[1]))
            verdicts = detectors.judged(detector, readings)
            states.update(self._states.to_write(key, detector, readings))
        except Exception:  # whatever a detector does wrong, the readings must go on
            if key not in self._failing:
                log.exception("the detector of %s, field %s, failed; its readings go on unclassified", *key)
            self._failing.add(key)
            self._detectors.pop(key, None)
            self._states.forget(key)
            return None
        if key in self._failing:
            self._failing.discard(key)
            log.info("the detector of %s, field %s, works again", *key)
        return verdicts

    def _keep_band(self, key: Key, verdict: Verdict | None) -> None:
        device, field = key
        if TOGETHER in field:
            return  # what is normal of one field hangs on the others of that very reading
        bands, band = self._normal.get(device, {}), _band_of(verdict)
        if band != bands.get(field):
            others = {name: known for name, known in bands.items() if name != field}
            self._normal[device] = others if band is None else {**others, field: band}

    def _maker(self, field: str) -> Callable[[], Any]:
        several = field.count(TOGETHER) + 1
        return self._make if several == 1 else lambda: detectors.together(several)


def _band_of(verdict: Verdict | None) -> tuple[float, float] | None:
    """Six digits each; None where the detector says none, or what no JSON number holds."""
    if verdict is None or verdict.low is None or verdict.high is None:
        return None
    if not (abs(verdict.low) < MOST_LIMIT and abs(verdict.high) < MOST_LIMIT):
        return None
    return float(f"{verdict.low:.6g}"), float(f"{verdict.high:.6g}")


def _of_field(field: str, rows: Iterable[Committed]) -> tuple[list[int], list[tuple[Any, int]]]:
    """Ids, and (value or tuple of values, time) for the detector, of the readings that have this field, or all of
    several."""
    names = field.split(TOGETHER)
    ids: list[int] = []
    readings: list[tuple[Any, int]] = []
    for row_id, _, _, _, reading in rows:
        if reading is None or not all(map(reading.values.__contains__, names)):
            continue
        ids.append(row_id)
        values = tuple(map(float, map(reading.values.__getitem__, names)))
        readings.append((values if len(names) > 1 else values[0], reading.at_ms))
    return ids, readings
