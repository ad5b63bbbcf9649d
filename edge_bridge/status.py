"""Status: the ledger of what was received, committed, sent and delivered, and how it goes; to edgecloud/status/<thing>,
to metrics.py, and to STATUS_FILE, which the container's health check reads."""
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_bridge.alarms import Alarms
from edge_bridge.counters import Counters
from edge_bridge.forecast import Capacity, Rate, drain_eta_s
from edge_bridge.judging import Bands
from edge_bridge.live_line import LiveLine
from edge_bridge.receipts import Figures
from edge_bridge.rows import EVERY_ID, Rows
from edge_bridge.schema import ROUTES
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, SENT, Shipments

COUNTERS = ("received", "committed", "sent", "delivered", "alerts_delivered", "dropped", "dead_lettered", "repeats",
            "possible_duplicates", "out_of_turn", "skipped", "anomalies", "unclassified", "clock_untrusted", "replayed",
            "dead_letters_dropped", "salvages", "lost")
REASONS = ("dropped", "alerts_dropped", "dead_lettered")  # counted as "<name>.<reason>", too
MOST_MESSAGE_BYTES = 120_000  # of the 128 KiB of a message: the rule adds the site
DAY_S, HOUR_S = 24 * 3600, 3600
STALE_S = 30.0
STALLED_S = 60.0


class Ledger:
    """Puts the status together. connected: asked for {"cloud": bool, "mqtt": bool, "kafka": bool} (sources in use);
    figures: the uplink's; scoring: the detectors'; normal: their bands by device; certificate_left_s: seconds until the
    certificate ends; remote: what the shadow has changed, and how it goes; carbon: the electricity, None: not known."""

    def __init__(self, counters: Counters, rows: Rows, shipments: Shipments, live: LiveLine, *, thing: str,
                 version: str, connected: Callable[[], dict[str, bool]], figures: Figures, capacity: Capacity,
                 raised: Alarms, scoring: Callable[[], dict[str, float]] = dict,
                 normal: Callable[[], Mapping[str, Bands]] = dict,
                 certificate_left_s: Callable[[], float | None] = lambda: None,
                 remote: Callable[[], dict[str, Any]] = lambda: {"state": "off"},
                 carbon: Callable[[], dict[str, Any] | None] = lambda: None,
                 now_s: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters, self._rows, self._shipments, self._live = counters, rows, shipments, live
        self._thing, self._version, self._connected = thing, version, connected
        self._figures, self._capacity, self._alarms = figures, capacity, raised
        self._scoring, self._certificate_left_s, self._remote = scoring, certificate_left_s, remote
        self._normal, self._carbon = normal, carbon
        self._now_s, self._clock = now_s, clock
        self._started_ms = int(now_s() * 1000)
        self._oldest: tuple[Any, float] = (None, clock())
        self._rates = {name: Rate(clock) for name in ("committed", "backlog", "publishes", "published_bytes")}

    def _oldest_unsent(self) -> tuple[str, int] | None:
        """(what, received_ms) of the oldest row or sealed message that the cloud has not accepted."""
        found = [(s.name, s.oldest_ms) for s in self._shipments.all() if s.state != SENT]
        for route in ROUTES:
            oldest = self._rows.oldest(route, 0, EVERY_ID)
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
        oldest, (waiting, by_device) = self._oldest_unsent(), self._held()
        oldest_s = max(0.0, (now_ms - oldest[1]) / 1000) if oldest else 0.0
        totals = {name: sum(_value(counts, name) for counts in by_device.values()) for name in COUNTERS}
        return {
            "v": 1, "thing": self._thing, "version": self._version, "at": now_ms, "started": self._started_ms,
            "connected": self._connected(), **totals, **_by_reason(by_device),
            "waiting": waiting,
            "oldest_unsent_s": oldest_s,
            "stalled_s": round(self._stalled_s(oldest), 3),
            **self._forecast(totals["committed"], waiting, oldest_s),
            **asdict(self._figures), **self._scoring(),
            "remote": self._remote(),
            "carbon": self._carbon(),
            "alarms": self._alarms.up(),
            "devices": _devices(by_device, self._normal()), "devices_left_out": 0,
        }

    def _forecast(self, committed: int, waiting: dict[str, int], oldest_s: float) -> dict[str, Any]:
        """Backlog: what did not go out while it was live; with no link it grows. None: no end in sight."""
        rates, used_bytes = self._rates, self._capacity.used_bytes()
        for name, value in (("committed", committed), ("backlog", waiting[BACKFILL]),
                            ("publishes", self._figures.publishes), ("published_bytes", self._figures.published_bytes)):
            rates[name].add(value)
        budget_s = self._capacity.budget_s(rates["committed"].per_s(), used_bytes, oldest_s)
        return {
            "outbox_bytes": used_bytes,
            "outage_budget_h": _rounded(budget_s, HOUR_S),
            "drain_eta_s": _rounded(drain_eta_s(waiting[BACKFILL], rates["backlog"].per_s())),
            "certificate_days": _rounded(self._certificate_left_s(), DAY_S),
            "publishes_per_s": _rounded(rates["publishes"].per_s() or 0.0),
            "published_bytes_per_s": _rounded(rates["published_bytes"].per_s() or 0.0),
        }

    def _held(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """What waits in which lane, and the counters of the very same moment: their sums agree."""
        first_live_id = self._live.first_live_id()
        live = 0 if first_live_id is None else self._rows.count_from(first_live_id)
        with self._shipments.held() as shipments:
            by_device = self._counters.by_device()
            totals = by_device.get("", {})
            unsealed = {route: totals.get(route + "_in", 0) - totals.get(route + "_sealed", 0)
                        for route in (*ROUTES, ALERTS)}
            rows = unsealed["readings"] + unsealed["events"]
            live = min(live, rows)
            waiting = {ALERTS: unsealed[ALERTS], LIVE: live, BACKFILL: rows - live, "unreceipted": 0}
            for shipment in shipments:
                waiting["unreceipted" if shipment.state == SENT else shipment.lane] += sum(shipment.counts.values())
        return waiting, by_device


def _value(counts: dict[str, int], name: str) -> int:
    """One counter of one device; what is counted by reason is summed."""
    return counts.get(name) or sum(value for key, value in counts.items() if key.startswith(name + "."))


def _by_reason(by_device: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """{"dropped_by_reason": {reason: how many}, ...} over all devices."""
    found: dict[str, Counter[str]] = {name: Counter() for name in REASONS}
    for counts in by_device.values():
        for key, value in counts.items():
            name, _, reason = key.partition(".")
            if reason and name in found:
                found[name][reason] += value
    return {f"{name}_by_reason": dict(sorted(reasons.items())) for name, reasons in found.items()}


def _devices(by_device: dict[str, dict[str, int]], normal: Mapping[str, Bands]) -> dict[str, dict[str, Any]]:
    """The counters of each device that are not 0; waiting: committed, and neither delivered nor dropped; normal: the
    bands of its fields, when there are any."""
    found: dict[str, dict[str, Any]] = {}
    for device in sorted(by_device):
        counts = {name: _value(by_device[device], name) for name in COUNTERS}
        counts["waiting"] = max(0, counts["committed"] - counts["delivered"] - counts["dropped"]
                                - by_device[device].get("refused", 0))
        if device:
            found[device] = {name: value for name, value in counts.items() if value}
            if normal.get(device):
                found[device]["normal"] = normal[device]
    return found


def _rounded(value: float | None, unit: float = 1.0) -> float | None:
    return None if value is None else round(value / unit, 3)


def message(status: dict[str, Any]) -> bytes:
    """The status as it is published: as many devices as fit, and how many do not; of those as many bands as fit then,
    since a ledger that lacks a device cannot be added up."""
    whole = _json(status)
    if len(whole) <= MOST_MESSAGE_BYTES:
        return whole
    devices = status["devices"]
    room_bytes = MOST_MESSAGE_BYTES - len(_json({**status, "devices": {}, "devices_left_out": len(devices)}))
    kept: dict[str, dict[str, Any]] = {}
    for device, told in devices.items():
        counts = {name: value for name, value in told.items() if name != "normal"}
        needed_bytes = len(_json({device: counts}))
        if needed_bytes > room_bytes:
            break
        room_bytes -= needed_bytes
        kept[device] = counts
    for device in kept:
        whole_bytes, counts_bytes = len(_json(devices[device])), len(_json(kept[device]))
        if whole_bytes - counts_bytes > room_bytes:
            break
        room_bytes -= whole_bytes - counts_bytes
        kept[device] = devices[device]
    return _json({**status, "devices": kept, "devices_left_out": len(devices) - len(kept)})


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


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
