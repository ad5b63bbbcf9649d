"""Status: the ledger of what was received, committed, sent and delivered; to edgecloud/status/<thing>, to STATUS_FILE,
and from that file to the container's health check."""
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_bridge.counters import Counters
from edge_bridge.rows import LiveLine, Rows
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, SENT, Shipments

COUNTERS = ("received", "committed", "sent", "delivered", "alerts_delivered", "dead_lettered", "repeats",
            "possible_duplicates", "out_of_turn", "skipped", "anomalies", "unclassified")
MOST_DEVICES = 300  # in one message: it must stay below 128 KiB
STALE_S = 30.0
STALLED_S = 60.0
_EVERY_ID = 1 << 62


class Ledger:
    """Puts the status together. connected: asked for {"cloud": bool, "mqtt": bool, "kafka": bool} (sources in use)."""

    def __init__(self, counters: Counters, rows: Rows, shipments: Shipments, live: LiveLine, *, thing: str,
                 version: str, connected: Callable[[], dict[str, bool]], now_s: Callable[[], float] = time.time,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._counters, self._rows, self._shipments, self._live = counters, rows, shipments, live
        self._thing, self._version, self._connected = thing, version, connected
        self._now_s, self._clock = now_s, clock
        self._started_ms = int(now_s() * 1000)
        self._oldest: tuple[Any, float] = (None, clock())

    def _oldest_unsent(self) -> tuple[str, int] | None:
        """(what, received_ms) of the oldest row or sealed message that the cloud has not accepted."""
        found = [(s.name, s.oldest_ms) for s in self._shipments.all() if s.state != SENT]
        for route in ("readings", "events"):
            oldest = self._rows.oldest(route, 0, _EVERY_ID)
            if oldest:
                found.append((f"{route} {oldest[0]}", oldest[1]))
        return min(found, key=lambda one: one[1], default=None)

    def _stalled_s(self, oldest: tuple[str, int] | None) -> float:
        """For how long the oldest unsent has been the same one: 0 when none waits."""
        if oldest is None or oldest != self._oldest[0]:
            self._oldest = oldest, self._clock()
        return self._clock() - self._oldest[1] if oldest else 0.0

    def status(self) -> dict[str, Any]:
        """Everything as one JSON object: durations in seconds, times in ms since 1970, counts ever.

        waiting: readings, events and anomalies per lane that the cloud has not accepted, and those accepted but not
        receipted; their sum is what this outbox still holds.
        """
        now_ms = int(self._now_s() * 1000)
        oldest = self._oldest_unsent()
        return {
            "v": 1, "thing": self._thing, "version": self._version, "at": now_ms, "started": self._started_ms,
            "connected": self._connected(),
            **{name: self._counters.total(name) for name in COUNTERS},
            "waiting": self._waiting(),
            "oldest_unsent_s": max(0.0, (now_ms - oldest[1]) / 1000) if oldest else 0.0,
            "stalled_s": round(self._stalled_s(oldest), 3),
            "devices": self._devices(),
        }

    def _waiting(self) -> dict[str, int]:
        unsealed = sum(self._rows.waiting(route) for route in ("readings", "events"))
        first_live_id = self._live.first_live_id()
        live = 0 if first_live_id is None else self._rows.count_from(first_live_id)
        waiting = {ALERTS: self._rows.waiting(ALERTS), LIVE: live, BACKFILL: max(0, unsealed - live), "unreceipted": 0}
        for shipment in self._shipments.all():
            waiting["unreceipted" if shipment.state == SENT else shipment.lane] += sum(shipment.counts.values())
        return waiting

    def _devices(self) -> dict[str, dict[str, int]]:
        found = {device: {name: value for name, value in counts.items() if name in COUNTERS}
                 for device, counts in self._counters.by_device().items() if device}
        return dict(sorted(found.items())[:MOST_DEVICES])


def write_file(path: str, status: dict[str, Any]) -> None:
    """Replace the status file as a whole: a reader never sees half of it."""
    temporary = f"{path}.{os.getpid()}"
    Path(temporary).write_text(json.dumps(status))
    os.replace(temporary, path)


def health(path: str, now_s: float | None = None) -> tuple[bool, str]:
    """(healthy, one line): is the bridge writing its status, and is its oldest unsent message getting younger?"""
    if not path:
        return False, "STATUS_FILE is not set; set it to a file that the bridge writes"
    try:
        status = json.loads(Path(path).read_text())
        age_s = (time.time() if now_s is None else now_s) - status["at"] / 1000
    except (OSError, ValueError, KeyError) as error:
        return False, f"no status in {path} ({error}); is the bridge running?"
    if age_s > STALE_S:
        return False, f"the status is {age_s:.0f} s old; the bridge hangs or has ended"
    if status["stalled_s"] > STALLED_S:
        return False, (f"nothing went out for {status['stalled_s']:.0f} s, the oldest unsent reading is "
                       f"{status['oldest_unsent_s']:.0f} s old; connected: {status['connected']}")
    return True, f"well: the oldest unsent reading is {status['oldest_unsent_s']:.0f} s old"
