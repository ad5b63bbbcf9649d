"""What the dashboard's questions cost does not depend on how much is stored: items read of the tables, with 100 times
the data behind the same newest hours."""
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from contract import rollups
from lambdas import table
from tests.api_rig import archive, get, readings
from tests.cloud_tables import aggregated, failures, persisted
from tests.messages import SITE, T0_MS, row

__all__ = ["archive"]
HOURS, TIMES = 2, 100
NOW_MS = T0_MS + HOURS * rollups.HOUR_MS
DEVICE = {"site": SITE, "device": "pi-1"}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "newest readings": ("readings", {"limit": 2}),
    "all 2 hours, by minute": ("rollups", {"from_": T0_MS / 1000, "to": NOW_MS / 1000, "resolution": "auto"}),
    "1 hour, by minute": ("rollups", {"from_": T0_MS / 1000, "to": T0_MS / 1000 + 3600, "resolution": "auto"}),
}


class Counting:
    """The tables' client; counts the items that its queries read."""

    def __init__(self, client: Any) -> None:
        self._client, self.read = client, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def query(self, **request: Any) -> Any:
        answer = self._client.query(**request)
        self.read += len(answer["Items"])
        return answer


@pytest.fixture
def counting(archive: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    made = Counting(table.client("dynamodb"))
    monkeypatch.setitem(table.CLIENTS, "dynamodb", made)
    yield made


def store(hours: range) -> None:
    """A batch of readings every half an hour; hours count from T0_MS, those before it are below 0."""
    bodies = [readings(*(row(n)._replace(number=_number(half) + n) for n in range(3)))
              for half in range(2 * hours.start, 2 * hours.stop)
              for row in (lambda n, half=half: _at(half, n),)]
    for start in range(0, len(bodies), 10):
        assert failures(persisted(*bodies[start:start + 10])) == []
    assert failures(aggregated()) == []


def _number(half: int) -> int:
    return 10 ** 15 + half * 1000


def _at(half: int, n: int) -> Any:
    at_ms = T0_MS + half * 30 * rollups.MINUTE_MS + 100 * n
    return row(0, {"sensor2": 0.5})._replace(at_ms=at_ms, received_ms=at_ms + 20, timestamp=at_ms // 1000)


def asked(counting: Counting) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, (what, query) in QUESTIONS.items():
        counting.read = 0
        assert get("/sites/{site}/devices/{device}/" + what, DEVICE, **query)[what]
        found[name] = counting.read
    return found


def test_a_hundred_times_the_data_is_read_no_more(counting: Counting) -> None:
    store(range(HOURS))
    small = asked(counting)
    store(range(-HOURS * (TIMES - 1), 0))
    large = asked(counting)
    for name in QUESTIONS:
        assert 0 < large[name] <= small[name] * 1.2, (name, small, large)
