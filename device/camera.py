"""Persons counted (or simulated) -> events {"device_id", "timestamp", "persons_detected"} -> Kafka edge-data.

eyes/watch.py counts, eyes/outlet.py keeps each event until Kafka has confirmed it; next: edge_bridge/kafka_source.py.
No frame leaves the device. Not bound to the Pi's Python 3.5.
"""
import argparse
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from contract import numbers, payloads
from device import schedule
from device.eyes import settings, sources
from device.eyes.carbon import Told
from device.eyes.opencv import Unusable
from device.eyes.outlet import Outlet, new_producer
from device.spool import Spool, SpoolError

if TYPE_CHECKING:
    from device.eyes.watch import Watch

UNUSABLE, NOT_ALL_CONFIRMED, SOURCE_FAILED = 1, 3, 4  # exit codes; 2 is that of faulty settings
STOP_WAIT_S = 5.0
SUMMARY_S = 60.0
DISK_AGAIN_S = 1.0
IN_MEMORY = ":memory:"
log = logging.getLogger("camera")


def persons(seed: str | None) -> Callable[[], int]:
    """A simulated eye: gives how many persons it sees, from 0 to 8; the same seed sees the same."""
    rng = random.Random(seed)
    return lambda: min(8, int(rng.expovariate(0.6)))


def event_text(device: str, now_s: float, seen: int, details: dict[str, Any] | None = None) -> str:
    """One event as it travels; its timestamp is ISO 8601, UTC, milliseconds; details come after the three fields."""
    timestamp = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = payloads.camera_event(device, timestamp, seen)
    event.update(details or {})
    return numbers.dumps(event)


class Camera:
    """Makes events of counts, keeps them, and sends them. record_path: a JSON line of each goes there, too."""

    def __init__(self, outlet: Outlet, device: str, stopping: threading.Event, record_path: str | None = None) -> None:
        self._outlet, self._device, self._stopping, self._record_path = outlet, device, stopping, record_path
        if record_path:
            os.makedirs(os.path.dirname(os.path.abspath(record_path)), exist_ok=True)

    def simulate(self, rate: float, count: int | None, seed: str | None) -> None:
        """`count` events by schedule; None: until `stopping`."""
        eye = persons(seed)
        for _ in schedule.ticks(rate, count, self._stopping):
            self._event(eye())
            self._outlet.serve()

    def watch(self, watch: "Watch", count: int | None, details: bool) -> None:
        """One event per count, until the source ends, there are `count`, or `stopping`. Raises SourceError."""
        summary_s = time.monotonic()
        try:
            for seen in watch.counts(self._stopping):
                if seen is not None:
                    self._event(seen, watch.details() if details else None)
                self._outlet.serve()
                if time.monotonic() >= summary_s + SUMMARY_S:
                    summary_s = time.monotonic()
                    log.info("%s; %s", watch.summary(), self._outlet.summary())
                if count is not None and self._outlet.made >= count:
                    return
        finally:
            watch.close()

    def _event(self, seen: int, details: dict[str, Any] | None = None) -> None:
        text = event_text(self._device, time.time(), seen, details)
        while True:
            try:
                self._outlet.put(text)
                break
            except sqlite3.OperationalError as error:  # a full disk; what waits meanwhile in a live source is dropped
                fault = f"cannot write the spool: {error}; make room on the disk"
                self._outlet.complain(fault + "; trying again")
                if self._stopping.wait(DISK_AGAIN_S):
                    raise SpoolError(fault) from error
        if self._record_path:
            with open(self._record_path, "a", encoding="utf-8") as lines:
                lines.write(text + "\n")


def _spool(options: argparse.Namespace) -> Spool:
    simulated = options.source == sources.SIMULATED
    path = options.spool or (IN_MEMORY if simulated else os.path.join(
        os.path.expanduser("~"), ".edgecloud", quote(options.device_id, safe="") + ".camera.db"))
    return Spool(path, options.spool_max)


def _look(options: argparse.Namespace, camera: Camera) -> str:
    """Make all events; "" or what is wrong with the source. Raises Unusable, SpoolError."""
    count = options.count if options.seconds is None else schedule.count_of(options.rate, options.seconds)
    if options.source == sources.SIMULATED:
        camera.simulate(options.rate, count, options.seed)
        return ""
    from device.eyes.frames import SourceError
    from device.eyes.watch import Watch, new_eye

    told = Told(options.bridge) if options.bridge else None
    try:
        eye = new_eye(options.model, options.decoder, options.confidence)
        watch = Watch(sources.opened(options.source), eye, options.every, options.rate, options.preview,
                      told.share if told else lambda: 1.0)
        try:
            camera.watch(watch, count, options.details)
        finally:
            print(watch.summary(), flush=True)
    except SourceError as error:
        return str(error)
    finally:
        if told:
            told.stop()
    return ""


def _report(outlet: Outlet) -> None:
    """What a run did; the last line is the same in every run."""
    for number, what in ((outlet.left_over, "were left over from an earlier run and sent first"),
                         (outlet.waiting, "are not confirmed yet"),
                         (outlet.dropped, "were dropped: the spool was full")):
        if number:
            print(f"{number} events {what}", flush=True)
    print(f"sent {outlet.made} events, {outlet.confirmed} confirmed", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m device.camera`; returns the exit code: 0 only when every event was confirmed."""
    options = settings.read(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        producer = new_producer(options.bootstrap, lambda error: outlet.complain(
            f"Kafka at {options.bootstrap}: {error.str()}; trying again"))
        outlet = Outlet(producer, options.topic, options.device_id, _spool(options))
    except (ImportError, SpoolError) as error:
        print(f"camera: {error}" + ("; install confluent-kafka" if isinstance(error, ImportError) else ""),
              file=sys.stderr)
        return UNUSABLE
    return _run(options, outlet, stopping)


def _run(options: argparse.Namespace, outlet: Outlet, stopping: threading.Event) -> int:
    code, fault = 0, ""
    try:
        fault = _look(options, Camera(outlet, options.device_id, stopping, options.record))
        code = SOURCE_FAILED if fault else 0
    except (Unusable, SpoolError) as error:
        code, fault = UNUSABLE, str(error)
    except OSError as error:
        code, fault = UNUSABLE, f"cannot go on: {error}; check --source and --record, and the disk"
    if fault:
        print(f"camera: {fault}", file=sys.stderr, flush=True)
    every_one = outlet.finish(min(options.wait, STOP_WAIT_S) if stopping.is_set() else options.wait)
    _report(outlet)
    return code or (0 if every_one else NOT_ALL_CONFIRMED)


if __name__ == "__main__":
    sys.exit(main())
