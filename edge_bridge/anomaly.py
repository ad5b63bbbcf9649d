"""Scoring: committed readings go through a detector per device and field, in order; marks and alerts go to the outbox.

Runs in its own thread on what is on disk already, so it delays no acknowledgement; a crash leaves rows unscored, not
lost. The detectors' and incidents' states are committed together with the marks, so a restart goes on as if there had
been none.
"""
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from contract import payloads
from contract.alerts import OPEN, Classified
from contract.errors import BadPayload
from edge_bridge import detectors
from edge_bridge.detector_states import DetectorStates, Key
from edge_bridge.detectors import Verdict
from edge_bridge.incidents import Incidents
from edge_bridge.rows import ANOMALY, UNCLASSIFIED, Rows, StoredRow

log = logging.getLogger(__name__)

FEWEST_PER_ROUND, MOST_PER_ROUND = 16, 4096
COMPANY_S = 0.1  # predictions are made together; an alert waits this long at most for company
ROUND_S = 0.25  # marks are committed about this often, however slow the detector is: sealing waits for them
SUMMARY_S = 60.0
TOGETHER = "+"  # between the names of fields that one detector judges together
MOST_SCORE, MOST_NUMBER = 1e6, 1e125  # in an alert
INCIDENT = ""  # where a device's incident is kept among the detectors' states: no field has an empty name

Found = dict[int, dict[str, Verdict | None]]  # by index of the row: what is to be said of it, by field


class Scorer:
    """The scoring thread. make: makes a detector; fields: what is scored, in the order in which an alert names them;
    alert_all: every classification becomes an alert message; raised: called after alerts were committed."""

    def __init__(self, rows: Rows, make: Callable[[], Any], *, fields: tuple[str, ...], alert_all: bool,
                 raised: Callable[[], None], now_s: Callable[[], float] = time.time) -> None:
        self._rows, self._make, self._fields = rows, make, fields
        self._alert_all, self._raised, self._now_s = alert_all, raised, now_s
        self._read_states()
        self._failing: set[Key] = set()
        self._retrained = self._scored = 0
        self.totals: dict[str, float] = {"scored": 0, "retrains": 0, "detector_s": 0.0}  # since the start
        self._per_round = FEWEST_PER_ROUND
        self._summary_s = time.monotonic()
        self._messages = 0
        self.loaded = threading.Event()  # set when the detector's imports are done
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)

    def start(self) -> None:
        """Begin where the last run stopped."""
        self._news.set()
        self._thread.start()

    def wake(self) -> None:
        """There are new rows."""
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Score what is there, at most timeout_s, and end."""
        self._stopping.set()
        self._news.set()
        self._thread.join(timeout_s)

    def _read_states(self) -> None:
        """Go on with what is on disk."""
        stored = self._rows.detector_states()
        self._incidents = {device: Incidents(device, state) for (device, field), state in stored.items()
                           if field == INCIDENT}
        self._states = DetectorStates({key: state for key, state in stored.items() if key[1] != INCIDENT})
        self._detectors: dict[Key, Any] = {}

    def _run(self) -> None:
        self._make()  # imports what it needs, which may take seconds
        self.loaded.set()
        while not self._stopping.is_set():
            self._news.wait(1.0)
            self._news.clear()
            self._stopping.wait(COMPANY_S)
            self._score_all()
        self._score_all()

    def _score_all(self) -> None:
        try:
            while self.score_round():
                pass  # until all committed rows are scored
            self.close_silent()
        except sqlite3.Error as error:
            log.error("outbox: marks cannot be written (%s); scoring goes on when it can", error)
            self._read_states()  # these rows are scored again
        self._summarise()

    def score_round(self) -> bool:
        """Score one round of committed rows; False when there was none. Raises sqlite3.Error: none was marked."""
        stored = self._rows.unscored(self._per_round)
        if not stored:
            return False
        began_s = time.monotonic()
        by_device: dict[str, list[tuple[int, dict[str, Any], int]]] = {}
        for index, row in enumerate(stored):
            read = _numbers(row.payload)
            if read is not None:
                by_device.setdefault(row.device, []).append((index, *read))
        found: Found = {}
        states: dict[Key, str] = {}
        for field in self._fields:
            for device, readings in by_device.items():
                self._score((device, field), readings, found, states)
        self.totals["detector_s"] += time.monotonic() - began_s
        self._commit(stored, by_device, found, states)
        per_row_s = max(1e-6, (time.monotonic() - began_s) / len(stored))
        self._per_round = max(FEWEST_PER_ROUND, min(MOST_PER_ROUND, int(ROUND_S / per_row_s)))
        return True

    def _score(self, key: Key, readings: list[tuple[int, dict[str, Any], int]], found: Found,
               states: dict[Key, str]) -> None:
        """Judge one field of one device; what is to be said goes to `found`, the state to `states`."""
        names = key[1].split(TOGETHER)
        indices, values = [], []
        for index, message, at_ms in readings:
            if all(_is_number(message.get(name)) for name in names):
                indices.append(index)
                several = tuple(float(message[name]) for name in names)
                values.append((several if len(names) > 1 else several[0], at_ms))
        if not indices:
            return
        verdicts = self._judge(key, values, states)
        if verdicts is None:
            for index in indices:
                found.setdefault(index, {})[key[1]] = None
            return
        retrained, everything = 0, self._alert_all or log.isEnabledFor(logging.DEBUG)
        for index, verdict in zip(indices, verdicts, strict=True):
            retrained += verdict.retrained
            if verdict.anomaly or everything:
                found.setdefault(index, {})[key[1]] = verdict
        self._retrained += retrained
        self.totals["retrains"] += retrained

    def _judge(self, key: Key, values: list[tuple[Any, int]], states: dict[Key, str]) -> list[Verdict] | None:
        """One verdict per reading; None when the detector fails: the readings go on unclassified."""
        try:
            detector = self._detectors.get(key)
            if detector is None:
                detector = self._detectors[key] = self._states.restored(key, self._maker(key[1]))
            many = getattr(detector, "update_many", None)
            verdicts: list[Verdict] = many(values) if many else [detector.update(*value) for value in values]
            states.update(self._states.to_write(key, detector, values))
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

    def _maker(self, field: str) -> Callable[[], Any]:
        several = field.count(TOGETHER) + 1
        return self._make if several == 1 else lambda: detectors.together(several)

    def _commit(self, stored: list[StoredRow], by_device: dict[str, list[tuple[int, dict[str, Any], int]]],
                found: Found, states: dict[Key, str]) -> None:
        marks: dict[int, str] = {}
        told: list[tuple[int, str, Classified]] = []
        for device, readings in by_device.items():
            if not self._is_eventful(device, readings, found):
                continue
            incidents = self._incidents.setdefault(device, Incidents(device))
            before = incidents.state()
            for index, _, _ in readings:
                told += self._told(stored[index], found.get(index, {}), incidents, marks)
            if incidents.state() != before:
                states[device, INCIDENT] = incidents.state()
        self._scored += len(stored)
        self.totals["scored"] += len(stored)
        if self._rows.mark(stored[-1].id, marks, told, states):
            self._raised()
        for _, device, classified in told:
            _log(device, classified)

    def _is_eventful(self, device: str, readings: list[tuple[int, dict[str, Any], int]], found: Found) -> bool:
        incidents = self._incidents.get(device)
        return bool(incidents and incidents.is_open) or any(index in found for index, _, _ in readings)

    def _told(self, row: StoredRow, by_field: dict[str, Verdict | None], incidents: Incidents,
              marks: dict[int, str]) -> Iterator[tuple[int, str, Classified]]:
        """The alerts of one row, in the order in which they are to be sent; its mark goes to `marks`."""
        field = next((name for name, verdict in by_field.items() if verdict and verdict.anomaly), None)
        if field is None and None in by_field.values():
            marks[row.id] = UNCLASSIFIED
            return
        closed = incidents.normal(row.received_ms) if field is None else None
        if field is None and not closed and not (self._alert_all and by_field):
            return
        try:
            reading = payloads.read(row.payload)
        except BadPayload as error:  # left to the packer, which dead-letters it
            log.debug("row %d cannot be told: %s", row.id, error)
            return
        told_of = field or next(iter(by_field), self._fields[0])
        classified = _classified(row, reading, told_of, by_field.get(told_of))
        if field:
            marks[row.id] = ANOMALY
            yield row.id, row.device, incidents.anomaly(classified)
        elif self._alert_all and by_field:
            yield row.id, row.device, classified
        if closed:
            yield self._message_id(), row.device, classified._replace(incident=closed)

    def close_silent(self) -> None:
        """Close the incidents of devices that send nothing any more. Raises sqlite3.Error: none was closed."""
        now_ms = int(self._now_s() * 1000)
        told = [(self._message_id(), device, closed) for device, incidents in self._incidents.items()
                if (closed := incidents.silent(now_ms))]
        if told:
            self._rows.mark(self._rows.scored_to, {}, told, {(device, INCIDENT): "" for _, device, _ in told})
            self._raised()
            for _, device, classified in told:
                _log(device, classified)

    def _message_id(self) -> int:
        """For an alert that stands for no row: below 0, where no row is, and rising."""
        self._messages += 1
        return int(self._now_s() * 1e6) + self._messages - (1 << 62)

    def _summarise(self) -> None:
        """Retraining, one line an interval."""
        now_s = time.monotonic()
        if self._retrained and now_s - self._summary_s >= SUMMARY_S:
            log.info("detectors: %d readings scored, %d times retrained, %d detectors", self._scored, self._retrained,
                     len(self._detectors))
            self._retrained = self._scored = 0
            self._summary_s = now_s


def _numbers(payload: bytes) -> tuple[dict[str, Any], int] | None:
    """What a detector needs of a reading: its members as floats and its time. The intake has checked it already; in
    full and exactly it is read when there is something to tell. None for what cannot be read: the packer's affair."""
    try:
        message = json.loads(payload)
        at = message["timestamp"]
        return message, payloads.at_ms(at) if isinstance(at, str) else int(at * 1000 + 0.5)
    except (ValueError, KeyError, TypeError, BadPayload) as error:
        log.debug("a row cannot be scored: %s", error)
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (float, int)) and not isinstance(value, bool)


def _decimal(number: float | None) -> Decimal | None:
    """For an alert; None for what the cloud could not hold."""
    return None if number is None or not abs(number) < MOST_NUMBER else Decimal(f"{number:.10g}")


def _score(score: float | None) -> Decimal | None:
    """For an alert: six decimals, and no more digits than the cloud can hold."""
    return None if score is None else Decimal(f"{max(-MOST_SCORE, min(MOST_SCORE, score)):.6f}")


def _classified(row: StoredRow, reading: payloads.Reading, field: str, verdict: Verdict | None) -> Classified:
    """What an alert says of this row; of fields judged together it names the one that stands out."""
    names = field.split(TOGETHER)
    verdict = verdict or Verdict(False)
    name = names[verdict.part] if names[verdict.part] in reading.values else "sensor2"
    return Classified(
        row.number, row.received_ms, reading.timestamp, reading.at_ms, name, reading.values[name],
        reading.values["sensor2"], verdict.anomaly, _score(verdict.score),
        _decimal(verdict.low), _decimal(verdict.high), verdict.reason, None)


def _log(device: str, classified: Classified) -> None:
    incident = classified.incident or {}
    if classified.anomaly:  # one line an incident: a line each would be a third of what scoring costs
        log.log(logging.DEBUG if incident.get("state") == OPEN else logging.INFO, "alert: %s number %d, %s=%s (%s)",
                device, classified.number, classified.field, classified.value, classified.reason or "no reason given")
    if incident.get("state") in ("opened", "closed"):
        log.info("incident %s of %s %s: %d anomalies, %s", incident["id"], device, incident["state"],
                 incident["count"], incident["reason"])
