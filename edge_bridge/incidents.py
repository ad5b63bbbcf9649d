"""Incidents: a device's anomalies that belong together; alerting.py asks, and what is said here goes into its alerts.

An anomaly opens an incident or continues the open one; when the device has been quiet it is closed. The state is on
disk with the marks that it was made of, and the id is made of the anomaly that opened it: whatever crashes, the same
anomalies are the same incident, and a person is told once.
"""
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

from contract import alerts, numbers
from contract.alerts import Classified

QUIET_MS = 60_000  # without an anomaly: what comes after a minute is told anew
QUIET_READINGS = 10  # and so many normal ones: a sensor that speaks once an hour is not quiet after a minute
SILENT_MS = 86_400_000  # without any reading: a device that has gone is no longer waited for


class _Peak(NamedTuple):
    """A value, its score, and how far from the middle of its band it was; None where its detector did not say."""

    value: Decimal
    score: Decimal | None
    away: Decimal | None

    def or_farther(self, other: "_Peak") -> "_Peak":
        """The one that is farther out: by the distance where both have one, else by the score."""
        if self.away is not None and other.away is not None:
            return other if other.away > self.away else self
        if other.score is None:
            return self
        return other if self.score is None or other.score < self.score else self


def _peak(found: Classified) -> _Peak:
    """From the middle, not from the edge: a detector may draw its band nearer while a run lasts, and a value is no
    farther out for that. Of two outside one band the order is the same."""
    known = found.low is not None and found.high is not None
    return _Peak(found.value, found.score, abs(found.value - (found.low + found.high) / 2) if known else None)


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
                                "farthest": {}, "reasons": Counter()}
            state = alerts.OPENED
        now["count"] += 1
        peak = _peak(found)
        now["farthest"][found.field] = now["farthest"].get(found.field, peak).or_farther(peak)
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
        peak = now["farthest"][now["last"].field].value  # no other field's: beside it stands this one's band
        reasons = now["reasons"].most_common(1)
        if self._opening is None:
            self._opening = alerts.incident(self._device, now["field"], now["number"], state, now["opened"], 0, 0, None)
        return OrderedDict(self._opening, state=state, count=now["count"], peak=peak,
                           reason=reasons[0][0] if reasons else None)

    def state(self) -> str:
        """The open incident as JSON; empty when there is none."""
        if self._open is None:
            return ""
        last, farthest = self._open["last"], self._open["farthest"]
        peak = farthest[last.field]
        text: str = numbers.dumps({  # peak and lowest: the names of versions that had no more, in case one comes back
            **self._open, "last": list(last), "peak": peak.value, "lowest": peak.score,
            "farthest": {field: list(one) for field, one in farthest.items()}})
        return text

    def _restore(self, members: dict[str, Any]) -> None:
        last = Classified(*members["last"])
        last = last._replace(**{name: _exact(value) for name, value in last._asdict().items()
                                if name in ("value", "sensor2", "score", "low", "high")})
        peak, lowest = _exact(members.pop("peak")), _exact(members.pop("lowest"))
        if "farthest" in members:
            farthest = {field: _Peak(Decimal(value), _exact(score), _exact(away))
                        for field, (value, score, away) in members["farthest"].items()}
        else:  # by a version that had one for all fields
            farthest = {last.field: _peak(last._replace(value=peak, score=lowest))}
        self._open = {**members, "last": last, "reasons": Counter(members["reasons"]), "farthest": farthest}


def _exact(number: Any) -> Decimal | None:
    """As it was before it was written as JSON."""
    return None if number is None else Decimal(number)
