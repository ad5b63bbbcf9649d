"""Incidents as a bridge tells of them, and the cloud's clock, set by hand, by which notices and watch work."""
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contract import alerts, numbers
from lambdas import status, table, watch
from tests.cloud_tables import failures
from tests.messages import EXAMPLES, OUTBOX, SITE, T0_MS, anomaly, by_rule, sqs

MINUTE_MS = 60_000


def told(number: int, state: str, count: int, peak: str = "1.9", *, device: str = "pi-1", opened: int = 1,
         **other: Any) -> alerts.Classified:
    """What a bridge says of the incident that `opened` opened, with reading `number`."""
    said = alerts.incident(device, "sensor2", opened, state, T0_MS + 100 * opened + 20, count, Decimal(peak), "spike")
    given = {"low": Decimal("0.3"), "high": Decimal("0.7"), "anomaly": state != alerts.CLOSED, **other}
    return anomaly(number, peak, incident=said)._replace(**given)


def body(*classified: alerts.Classified, device: str = "pi-1", site: str | None = SITE) -> str:
    """The alert message of these readings, as the rule hands it on."""
    return by_rule(alerts.seal(OUTBOX, device, list(classified))[1], site)


OPENED, LATER, CLOSED = told(1, "opened", 1, "1.2"), told(5, "open", 2, "1.9"), told(90, "closed", 2, "1.9")


class Clock:
    """The cloud's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms = T0_MS
        monkeypatch.setattr(table, "now_ms", lambda: self.ms)

    def at(self, text: str, zone: str = "UTC") -> None:
        """Set it to "2026-11-22 23:10" of that zone."""
        self.ms = int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


class World(Clock):
    """The clock and bridges that tell their statuses; `run` is one invocation of watch."""

    def tells(self, site: str = SITE, behind_ms: int = 0, **fields: Any) -> None:
        """A status arrives now, a second after whatever was before."""
        self.ms += 1000
        message = {**numbers.loads((EXAMPLES / "status.json").read_bytes()), "at": self.ms - behind_ms, **fields}
        assert failures(status.handler(sqs(numbers.dumps({**message, "site": site})), None)) == []

    def run(self, minutes: float = 0) -> dict[str, float]:
        """So many minutes later."""
        self.ms += int(minutes * MINUTE_MS)
        return watch.handler({}, None)
