"""What of a detector is on disk: its state, or an older state and the readings since; for judging.py.

It is brought up to date with every round of marks. Making and writing 3 kB for one reading of each of many devices, or
90 kB ten times a second, would cost more than judging, so what came since is written where that is less; beginning with
the older state and taking the readings in again ends in the same.
"""
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

LARGE_CHARS = 1000  # of a state: as much as 40 readings
MOST_SINCE = 128  # readings, then the state is written anew
_SINCE = "\n"  # before the field's name: no name in SCORED_FIELDS begins with it

Key = tuple[str, str]  # device, field


class DetectorStates:
    """stored: what is on disk, by (device, field). A state of another kind of detector is left aside."""

    def __init__(self, stored: Mapping[Key, str]) -> None:
        self._stored = dict(stored)
        self._since: dict[Key, list[Any]] = {}

    def restored(self, key: Key, make: Callable[[], Any]) -> Any:
        """A detector that goes on where the one on disk was, or a new one. Raises what `restore` raises."""
        detector = make()
        kind, _, state = self._stored.pop(key, "").partition("\n")
        device, field = key
        since = json.loads(self._stored.pop((device, _SINCE + field), "[]"))
        if since:
            self.forget(key)
        if kind == _kind(detector):
            detector.restore(state)
            for value, at_ms in since:
                detector.update(tuple(value) if isinstance(value, list) else value, at_ms)
            if since:
                self._since[key] = since
        elif kind:
            log.info("detectors: %s, field %s begins anew: its state on disk is another detector's", device, field)
        return detector

    def to_write(self, key: Key, detector: Any, taken: list[tuple[Any, int]]) -> dict[Key, str]:
        """What goes to disk after it took in these readings. Raises what `state` raises."""
        device, field = key
        since = self._since.get(key)
        if since is not None and len(since) + len(taken) <= MOST_SINCE:
            since += taken
            return {(device, _SINCE + field): json.dumps(since)}
        state = detector.state()
        if len(state) > LARGE_CHARS or since is not None:
            self._since[key] = []
            return {key: f"{_kind(detector)}\n{state}", (device, _SINCE + field): "[]"}
        return {key: f"{_kind(detector)}\n{state}"}

    def forget(self, key: Key) -> None:
        """What came since is no longer what the detector took in: the next time all of it is written anew."""
        self._since[key] = [None] * MOST_SINCE


def _kind(detector: Any) -> str:
    return f"{type(detector).__module__}:{type(detector).__qualname__}"
