"""Detectors as they should not be, for rows_detector.py: the bridge takes them as DETECTOR=module:name."""
import json
import threading
import time

from edge_bridge.detectors import Verdict


class Slow:
    """Half a second for each reading."""

    def __init__(self) -> None:
        self.count = 0

    def update(self, value: float, at_ms: int) -> Verdict:
        """Late."""
        time.sleep(0.5)
        return self.judge(value)

    def judge(self, value: float) -> Verdict:
        """By a fixed threshold."""
        self.count += 1
        return Verdict(value > 0.8)

    def state(self) -> str:
        """The count."""
        return json.dumps(self.count)

    def restore(self, state: str) -> None:
        """The count."""
        self.count = json.loads(state)


class Failing(Slow):
    """An exception every third time, over all that were made."""

    calls = 0

    def update(self, value: float, at_ms: int) -> Verdict:
        """Or not at all."""
        Failing.calls += 1
        if Failing.calls % 3 == 0:
            raise RuntimeError("this detector fails every third time")
        return self.judge(value)


class Hanging(Slow):
    """Works, and then never again."""

    calls = 0

    def update(self, value: float, at_ms: int) -> Verdict:
        """Or not at all."""
        Hanging.calls += 1
        if Hanging.calls >= 50:
            threading.Event().wait()
        return self.judge(value)
