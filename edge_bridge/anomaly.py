"""Scoring: committed readings go through a detector per device and field, in order; marks and alerts go to the outbox.

Runs in its own thread on what is on disk already, so it delays no acknowledgement; a crash leaves rows unscored, not
lost. The detectors' states are committed together with the marks, so a restart goes on as if there had been none.
"""
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from contract import payloads
from contract.alerts import Classified
from contract.errors import BadPayload
from edge_bridge.detectors import Verdict
from edge_bridge.rows import ANOMALY, UNCLASSIFIED, Rows, StoredRow

log = logging.getLogger(__name__)

FEWEST_PER_ROUND, MOST_PER_ROUND = 16, 1024
COMPANY_S = 0.1  # predictions are made together; an alert waits this long at most for company
ROUND_S = 0.25  # marks are committed about this often, however slow the detector is: sealing waits for them
SUMMARY_S = 60.0


class Scorer:
    """The scoring thread. make: makes a detector; fields: what is scored, in the order in which an alert names them;
    alert_all: every classification becomes an alert message; raised: called after alerts were committed."""

    def __init__(self, rows: Rows, make: Callable[[], Any], *, fields: tuple[str, ...], alert_all: bool,
                 raised: Callable[[], None]) -> None:
        self._rows, self._make, self._fields = rows, make, fields
        self._alert_all, self._raised = alert_all, raised
        self._states = rows.detector_states()
        self._detectors: dict[tuple[str, str], Any] = {}
        self._failing: set[tuple[str, str]] = set()
        self._retrained = self._scored = 0
        self.totals: dict[str, float] = {"scored": 0, "retrains": 0, "detector_s": 0.0}  # since the start
        self._per_round = FEWEST_PER_ROUND
        self._summary_s = time.monotonic()
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
        except sqlite3.Error as error:
            log.error("outbox: marks cannot be written (%s); scoring goes on when it can", error)
            self._detectors.clear()  # back to the states on disk: these rows are scored again
            self._states = self._rows.detector_states()
        self._summarise()

    def score_round(self) -> bool:
        """Score one round of committed rows; False when there was none. Raises sqlite3.Error: none was marked."""
        stored = self._rows.unscored(self._per_round)
        if not stored:
            return False
        began_s = time.monotonic()
        last_id = stored[-1].id
        stored, readings = _readable(stored)
        verdicts: list[dict[str, Verdict | None]] = [{} for _ in stored]
        touched: set[tuple[str, str]] = set()
        for field in self._fields:
            for device in dict.fromkeys(row.device for row in stored):
                indices = [i for i, row in enumerate(stored) if row.device == device and field in readings[i].values]
                if indices:
                    touched.add((device, field))
                    found = self._judge((device, field), [readings[i] for i in indices], field)
                    for index, verdict in zip(indices, found, strict=True):
                        verdicts[index][field] = verdict
        self.totals["detector_s"] += time.monotonic() - began_s
        self._commit(last_id, stored, readings, verdicts, touched)
        per_row_s = max(1e-6, (time.monotonic() - began_s) / max(1, len(stored)))
        self._per_round = max(FEWEST_PER_ROUND, min(MOST_PER_ROUND, int(ROUND_S / per_row_s)))
        return True

    def _judge(self, key: tuple[str, str], readings: list[payloads.Reading], field: str) -> list[Verdict | None]:
        """One verdict per reading; None for all of them when the detector fails: the readings go on unclassified."""
        values = [(float(reading.values[field]), reading.at_ms) for reading in readings]
        try:
            detector = self._detector(key)
            many = getattr(detector, "update_many", None)
            found = many(values) if many else [detector.update(*value) for value in values]
        except Exception:  # whatever a detector does wrong, the readings must go on
            if key not in self._failing:
                log.exception("the detector of %s, field %s, failed; its readings go on unclassified", *key)
            self._failing.add(key)
            self._detectors.pop(key, None)
            return [None] * len(values)
        if key in self._failing:
            self._failing.discard(key)
            log.info("the detector of %s, field %s, works again", *key)
        return list(found)

    def _detector(self, key: tuple[str, str]) -> Any:
        detector = self._detectors.get(key)
        if detector is None:
            detector = self._make()
            if key in self._states:
                detector.restore(self._states.pop(key))
            self._detectors[key] = detector
        return detector

    def _commit(self, last_id: int, stored: list[StoredRow], readings: list[payloads.Reading],
                verdicts: list[dict[str, Verdict | None]], touched: set[tuple[str, str]]) -> None:
        marks: dict[int, str] = {}
        alerts: list[tuple[int, str, Classified]] = []
        for row, reading, by_field in zip(stored, readings, verdicts, strict=True):
            if not by_field:
                continue
            anomalous = [field for field, verdict in by_field.items() if verdict and verdict.anomaly]
            if anomalous:
                marks[row.id] = ANOMALY
            elif None in by_field.values():
                marks[row.id] = UNCLASSIFIED
                continue
            retrained = sum(1 for verdict in by_field.values() if verdict and verdict.retrained)
            self._retrained += retrained
            self.totals["retrains"] += retrained
            log.debug("%s number %d: %s", row.device, row.number, by_field)
            if anomalous or self._alert_all:
                field = anomalous[0] if anomalous else next(iter(by_field))
                alerts.append((row.id, row.device, _classified(row, reading, field, by_field[field])))
        self._scored += len(stored)
        self.totals["scored"] += len(stored)
        states = {key: self._detectors[key].state() for key in touched if key in self._detectors}
        if self._rows.mark(last_id, marks, alerts, states):
            self._raised()
        for _, device, classified in alerts:
            if classified.anomaly:
                log.info("alert: %s number %d, %s=%s", device, classified.number, classified.field, classified.value)

    def _summarise(self) -> None:
        """Retraining, one line an interval."""
        now_s = time.monotonic()
        if self._retrained and now_s - self._summary_s >= SUMMARY_S:
            log.info("detectors: %d readings scored, %d times retrained, %d detectors", self._scored, self._retrained,
                     len(self._detectors))
            self._retrained = self._scored = 0
            self._summary_s = now_s


def _readable(stored: list[StoredRow]) -> tuple[list[StoredRow], list[payloads.Reading]]:
    """The rows and what they say; one that this version refuses is left to the packer, which dead-letters it."""
    kept, readings = [], []
    for row in stored:
        try:
            readings.append(payloads.read(row.payload))
        except BadPayload as error:
            log.debug("row %d cannot be scored: %s", row.id, error)
        else:
            kept.append(row)
    return kept, readings


def _classified(row: StoredRow, reading: payloads.Reading, field: str, verdict: Verdict | None) -> Classified:
    score = None if verdict is None or verdict.score is None else Decimal(f"{verdict.score:.6f}")
    return Classified(row.number, row.received_ms, reading.timestamp, reading.at_ms, field, reading.values[field],
                      reading.values["sensor2"], verdict is not None and verdict.anomaly, score)
