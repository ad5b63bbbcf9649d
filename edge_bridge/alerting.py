"""Alerting: verdicts become marks of rows and alerts with their incident; asked by anomaly.py, committed by rows.py."""
import logging
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from contract import payloads
from contract.alerts import CLOSED, OPEN, OPENED, Classified
from contract.batch import ANOMALY, UNCLASSIFIED
from edge_bridge.detector_states import Key
from edge_bridge.detectors import Verdict
from edge_bridge.handover import Committed
from edge_bridge.incidents import Incidents
from edge_bridge.judging import MOST_LIMIT, TOGETHER, Found

log = logging.getLogger(__name__)

MOST_SCORE = 1e6  # in an alert
INCIDENT = ""  # where a device's incident is kept among the detectors' states: no field has an empty name

Alert = tuple[int, str, Classified]  # row id, device, what is said


class Alerting:
    """The incidents of all devices. alert_all: every classification becomes an alert; default_field: the one to name
    where none was judged."""

    def __init__(self, stored: Mapping[Key, str], *, alert_all: bool, default_field: str,
                 now_s: Callable[[], float]) -> None:
        self._alert_all, self._default_field, self._now_s = alert_all, default_field, now_s
        self._messages = 0
        self.restore(stored)

    def restore(self, stored: Mapping[Key, str]) -> None:
        """Go on with the incidents that are on disk."""
        self._incidents = {device: Incidents(device, state) for (device, field), state in stored.items()
                           if field == INCIDENT}

    def tell(self, device: str, rows: Iterable[Committed], found: Found, marks: dict[int, str],
             states: dict[Key, str]) -> list[Alert]:
        """The alerts of one device's rows, in the order in which they are to be sent; marks and states are added."""
        incidents = self._incidents.get(device)
        if not (incidents and incidents.is_open) and not any(row.id in found for row in rows):
            return []
        if incidents is None:
            incidents = self._incidents[device] = Incidents(device)
        before, told = incidents.state(), []
        for row in rows:
            by_field = found.get(row.id)
            if by_field is not None or incidents.is_open:
                told += self._told(row, by_field or {}, incidents, marks)
        if incidents.state() != before:
            states[device, INCIDENT] = incidents.state()
        return told

    def _told(self, row: Committed, by_field: dict[str, Verdict | None], incidents: Incidents,
              marks: dict[int, str]) -> list[Alert]:
        reading = row.reading
        field = next((name for name, verdict in by_field.items() if verdict and verdict.anomaly), None)
        if field is None and None in by_field.values():
            marks[row.id] = UNCLASSIFIED
            return []
        closed = incidents.normal(row.received_ms) if field is None else None
        if reading is None or not (field or closed or (self._alert_all and by_field)):
            return []
        told_of = field or next(iter(by_field), self._default_field)
        classified = _classified(row, reading, told_of, by_field.get(told_of))
        if field:
            marks[row.id] = ANOMALY
            return [(row.id, row.device, incidents.anomaly(classified))]
        told = [(row.id, row.device, classified)] if self._alert_all and by_field else []
        if closed:
            told.append((self._message_id(), row.device, classified._replace(incident=closed)))
        return told

    def silent(self) -> list[Alert]:
        """Closes the incidents of devices that send nothing any more."""
        now_ms = int(self._now_s() * 1000)
        return [(self._message_id(), device, closed) for device, incidents in self._incidents.items()
                if (closed := incidents.silent(now_ms))]

    def _message_id(self) -> int:
        """For an alert that stands for no row: below 0, where no row is, and rising."""
        self._messages += 1
        return int(self._now_s() * 1e6) + self._messages - (1 << 62)


def _classified(row: Committed, reading: payloads.Reading, field: str, verdict: Verdict | None) -> Classified:
    """What an alert says of this row; of fields judged together it names the one that stands out."""
    names = field.split(TOGETHER)
    verdict = verdict or Verdict(False)
    name = names[verdict.part] if names[verdict.part] in reading.values else "sensor2"
    return Classified(
        row.number, row.received_ms, reading.timestamp, reading.at_ms, name, reading.values[name],
        reading.values["sensor2"], verdict.anomaly, _score(verdict.score),
        _decimal(verdict.low), _decimal(verdict.high), verdict.reason, None)


def _decimal(number: float | None) -> Decimal | None:
    """For an alert; None for what the cloud could not hold."""
    return None if number is None or not abs(number) < MOST_LIMIT else Decimal(f"{number:.10g}")


def _score(score: float | None) -> Decimal | None:
    """For an alert: six decimals, and no more digits than the cloud can hold."""
    return None if score is None else Decimal(f"{max(-MOST_SCORE, min(MOST_SCORE, score)):.6f}")


def log_alerts(alerts: Iterable[Alert]) -> None:
    """A line for what begins and what ends an incident; for the anomalies in between at DEBUG: a line each would be a
    third of what scoring costs."""
    each = log.isEnabledFor(logging.DEBUG)
    for _, device, classified in alerts:
        incident: dict[str, Any] = classified.incident or {}
        state = incident.get("state")
        if classified.anomaly and (each or state != OPEN):
            log.log(logging.DEBUG if state == OPEN else logging.INFO, "alert: %s number %d, %s=%s (%s)", device,
                    classified.number, classified.field, classified.value, classified.reason or "no reason given")
        if state in (OPENED, CLOSED):
            log.info("incident %s of %s %s: %d anomalies, %s", incident["id"], device, state, incident["count"],
                     incident["reason"])
