"""Incidents: a device's anomalies that belong together; alerting.py asks, and what is said here goes into its alerts.

An anomaly opens an incident or continues the open one; when the device has been quiet it is closed. The state is on
disk with the marks that it was made of, and the id is made of the anomaly that opened it: whatever crashes, the same
anomalies are the same incident, and a person is told once.
"""
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Any

from contract import alerts, numbers
from contract.alerts import Classified

QUIET_MS = 60_000  # without an anomaly: what comes after a minute is told anew
QUIET_READINGS = 10  # and so many normal ones: a sensor that speaks once an hour is not quiet after a minute
SILENT_MS = 86_400_000  # without any reading: a device that has gone is no longer waited for


class Incidents:
    """Those of one device, of which at most one is open. state: what `state` gave, when it is begun anew."""

    def __init__(self, device: str, state: str = "") -> None:
        self._device = device
        self._open: dict[str, Any] | None = None
        self._opening: dict[str, Any] | None = None  # what was told of it first
        if state:
            self._restore(numbers.loads(state))

    @property
    def is_open(self) -> bool:
        """Is there one that goes on?"""
        return self._open is not None

    def anomaly(self, found: Classified) -> Classified:
        """This anomaly, with the incident that it opens or continues."""
        now = self._open
        state = alerts.OPEN
        if now is None:
            now = self._open = {"field": found.field, "number": found.number, "opened": found.received_ms, "count": 0,
                                "peak": found.value, "lowest": found.score, "reasons": Counter()}
            state = alerts.OPENED
        now["count"] += 1
        if found.score is not None and (now["lowest"] is None or found.score < now["lowest"]):
            now["peak"], now["lowest"] = found.value, found.score
        if found.reason is not None:
            now["reasons"][found.reason] += 1
        now["quiet"], now["last"] = 0, found
        return found._replace(incident=self._told(state))

    def normal(self, received_ms: int) -> dict[str, Any] | None:
        """A normal reading came: the incident as closed, if that makes it quiet."""
        if self._open is None:
            return None
        self._open["quiet"] += 1
        if self._open["quiet"] < QUIET_READINGS or received_ms - self._open["last"].received_ms < QUIET_MS:
            return None
        return self._close()

    def silent(self, now_ms: int) -> Classified | None:
        """Nothing came: the last anomaly's reading, told with the incident as closed, if it was long ago."""
        if self._open is None or now_ms - self._open["last"].received_ms < SILENT_MS:
            return None
        last: Classified = self._open["last"]
        return last._replace(anomaly=False, incident=self._close())

    def _close(self) -> dict[str, Any]:
        told = self._told(alerts.CLOSED)
        self._open = self._opening = None
        return told

    def _told(self, state: str) -> dict[str, Any]:
        now = self._open
        assert now is not None
        reasons = now["reasons"].most_common(1)
        if self._opening is None:
            self._opening = alerts.incident(self._device, now["field"], now["number"], state, now["opened"], 0, 0, None)
        return OrderedDict(self._opening, state=state, count=now["count"], peak=now["peak"],
                           reason=reasons[0][0] if reasons else None)

    def state(self) -> str:
        """The open incident as JSON; empty when there is none."""
        if self._open is None:
            return ""
        text: str = numbers.dumps({**self._open, "last": list(self._open["last"])})
        return text

    def _restore(self, members: dict[str, Any]) -> None:
        last = Classified(*members["last"])
        last = last._replace(**{name: Decimal(value) for name, value in last._asdict().items()
                                if name in ("value", "sensor2", "score", "low", "high") and value is not None})
        lowest = members["lowest"]
        self._open = {**members, "last": last, "reasons": Counter(members["reasons"]),
                      "peak": Decimal(members["peak"]), "lowest": None if lowest is None else Decimal(lowest)}
