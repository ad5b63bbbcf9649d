"""What the tests of scoring share: a detector that is easily foretold, and a scorer on a real outbox."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_bridge.anomaly import Scorer
from edge_bridge.detectors import Verdict
from tests.outbox_rig import Parts


class Above:
    """A detector that calls everything above 10 an anomaly, and keeps what it was given."""

    seen: list[float]

    def __init__(self) -> None:
        self.seen = []

    def update(self, value: float, at_ms: int) -> Verdict:
        if value == 13:
            raise ArithmeticError("it cannot bear 13")
        self.seen.append(value)
        return Verdict(value > 10, -value)

    def state(self) -> str:
        return ",".join(str(value) for value in self.seen)

    def restore(self, state: str) -> None:
        self.seen = [float(value) for value in state.split(",") if value]


def scorer(parts: Parts, **options: Any) -> Scorer:
    chosen = {"fields": ("sensor2",), "alert_all": False, "raised": lambda: None, **options}
    return Scorer(parts.rows, Above, **chosen)


def marks(parts: Parts) -> list[str | None]:
    return [row.mark for row in parts.rows.read("readings", 0, 1 << 62, 100)]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    opened = Parts(tmp_path / "outbox.db", scoring=True)
    yield opened
    opened.store.close()
