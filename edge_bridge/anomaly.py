"""Scoring: committed readings go through a detector per device and field, in order; marks and alerts go to the outbox.

Runs in its own thread on what is on disk already, so it delays no acknowledgement; a crash leaves rows unscored, not
lost. The detectors' and incidents' states are committed together with the marks, so a restart goes on as if there had
been none. handover.py brings the readings, judging.py has the detectors, alerting.py the incidents.
"""
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from edge_bridge.alerting import INCIDENT, Alerting, log_alerts
from edge_bridge.detector_states import Key
from edge_bridge.handover import Committed, next_unscored
from edge_bridge.judging import Bands, Found, Judges
from edge_bridge.rows import Rows

log = logging.getLogger(__name__)

FEWEST_PER_ROUND, MOST_PER_ROUND = 16, 4096
COMPANY_S = 0.1  # predictions are made together; an alert waits this long at most for company
ROUND_S = 0.25  # marks are committed about this often, however slow the detector is: sealing waits for them
SUMMARY_S = 60.0


class Scorer:
    """The scoring thread. make: makes a detector; fields: what is scored, in the order in which an alert names them;
    alert_all: every classification becomes an alert message; raised: called after alerts were committed."""

    def __init__(self, rows: Rows, make: Callable[[], Any], *, fields: tuple[str, ...], alert_all: bool,
                 raised: Callable[[], None], now_s: Callable[[], float] = time.time) -> None:
        self._rows, self._fields, self._raised = rows, fields, raised
        self._make, self._in_use = make, make
        stored = rows.detector_states()
        self._judges = Judges(make, stored, judge_all=alert_all)
        self._alerting = Alerting(stored, alert_all=alert_all, default_field=fields[0], now_s=now_s)
        self.totals: dict[str, float] = {"scored": 0, "retrains": 0, "detector_s": 0.0}  # since the start
        self._per_round = FEWEST_PER_ROUND
        self._summary_s = time.monotonic()
        self._summed_up = dict(self.totals)
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

    def change_detector(self, make: Callable[[], Any]) -> None:
        """From the next round on another detector judges; it begins anew where what is on disk is not its own."""
        self._make = make
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """Score what is there, at most timeout_s, and end."""
        self._stopping.set()
        self._news.set()
        self._thread.join(timeout_s)

    def normal(self) -> dict[str, Bands]:
        """What is normal of each device's fields now, where a detector says it."""
        return self._judges.normal()

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
            stored = self._rows.detector_states()  # these rows are scored again
            self._judges.restore(stored)
            self._alerting.restore(stored)
        self._summarise()

    def score_round(self) -> bool:
        """Score one round of committed rows; False when there was none. Raises sqlite3.Error: none was marked."""
        rows = next_unscored(self._rows, self._per_round)
        if not rows:
            return False
        if self._in_use is not self._make:
            self._in_use = self._make
            self._judges.use(self._in_use, self._rows.detector_states())
        began_s = time.monotonic()
        by_device: dict[str, list[Committed]] = {}
        for row in rows:
            by_device.setdefault(row.device, []).append(row)
        found: Found = {}
        states: dict[Key, str] = {}
        for field in self._fields:
            for device, own in by_device.items():
                self._judges.score((device, field), own, found, states)
        self.totals["detector_s"] += time.monotonic() - began_s
        self.totals["retrains"] = self._judges.retrained
        self._commit(rows[-1].id, by_device, found, states)
        self.totals["scored"] += len(rows)
        per_row_s = max(1e-6, (time.monotonic() - began_s) / len(rows))
        self._per_round = max(FEWEST_PER_ROUND, min(MOST_PER_ROUND, int(ROUND_S / per_row_s)))
        return True

    def _commit(self, last_id: int, by_device: dict[str, list[Committed]], found: Found,
                states: dict[Key, str]) -> None:
        marks: dict[int, str] = {}
        alerts = [alert for device, own in by_device.items()
                  for alert in self._alerting.tell(device, own, found, marks, states)]
        if self._rows.mark(last_id, marks, alerts, states):
            self._raised()
        log_alerts(alerts)

    def close_silent(self) -> None:
        """Close the incidents of devices that send nothing any more. Raises sqlite3.Error: none was closed."""
        alerts = self._alerting.silent()
        if alerts:
            self._rows.mark(self._rows.scored_to, {}, alerts, {(device, INCIDENT): "" for _, device, _ in alerts})
            self._raised()
            log_alerts(alerts)

    def _summarise(self) -> None:
        """Retraining, one line an interval."""
        now_s = time.monotonic()
        scored, retrains = (int(self.totals[name] - self._summed_up[name]) for name in ("scored", "retrains"))
        if retrains and now_s - self._summary_s >= SUMMARY_S:
            log.info("detectors: %d readings scored, %d times retrained, %d detectors", scored, retrains,
                     len(self._judges))
            self._summed_up = dict(self.totals)
            self._summary_s = now_s
