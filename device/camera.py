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

from contract import numbers, payloads, topics
from contract.errors import BadPayload
from device import schedule, version
from device.eyes import sources
from device.eyes.carbon import Told
from device.eyes.opencv import Unusable
from device.eyes.outlet import Outlet, new_producer
from device.spool import Spool, SpoolError

if TYPE_CHECKING:
    from device.eyes.watch import Watch

UNUSABLE, NOT_ALL_CONFIRMED, SOURCE_FAILED = 1, 3, 4  # exit codes; 2 is argparse's, for faulty settings
STOP_WAIT_S = 5.0
SUMMARY_S = 60.0
DISK_AGAIN_S = 1.0
IN_MEMORY = ":memory:"
log = logging.getLogger("camera")
EXIT_CODES = """exit codes: 0 every event was confirmed; 1 a package, model or spool cannot be used; 2 faulty
settings; 3 not every event was confirmed in time (they stay in the spool); 4 the source failed: no such file, damaged,
no camera"""


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


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser(os.environ.get)
    parsed = parser.parse_args(arguments)
    if not 0 < parsed.rate <= 10000:
        parser.error(f"--rate is {parsed.rate}: expected more than 0 and at most 10000")
    if parsed.seconds is not None and parsed.count is not None:
        parser.error("--seconds and --count are both given: expected at most one")
    if parsed.every is not None and parsed.every < 1:
        parser.error(f"--every is {parsed.every}: expected 1 frame or more")
    if parsed.spool_max < 1:
        parser.error(f"--spool-max is {parsed.spool_max}: expected 1 event or more")
    if parsed.bridge and not parsed.bridge.startswith(("http://", "https://")):
        parser.error(f"--bridge is {parsed.bridge!r}: expected http://host:9464")
    if not 0 < parsed.confidence < 1:
        parser.error(f"--confidence is {parsed.confidence}: expected between 0 and 1")
    if fault := sources.fault(parsed.source, sources.container(os.environ)):
        parser.error(fault)
    try:
        topics.check_device(parsed.device_id)
    except BadPayload as error:
        parser.error(f"--device-id: {error}")
    return parsed


def _parser(env: Callable[..., Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="camera", description=__doc__.splitlines()[0], epilog=EXIT_CODES)
    add = parser.add_argument
    add("--source", default=env("SOURCE", sources.SIMULATED), help="simulated, a video file, a directory of images, "
        "rtsp://... or http://..., or the number of a camera of this machine [SOURCE]")
    add("--bootstrap", default=env("BOOTSTRAP_SERVERS", "localhost:9092"), help="[BOOTSTRAP_SERVERS]")
    add("--topic", default=env("KAFKA_TOPIC", topics.EDGE_DATA), help="[KAFKA_TOPIC]")
    add("--device-id", default=env("DEVICE_ID", "camera-01"), help="[DEVICE_ID]")
    add("--rate", type=float, default=env("RATE", "1"), help="events per second, simulated or live [RATE]")
    add("--every", type=int, default=env("EVERY"), help="frames per event, in place of --rate; 1 for files [EVERY]")
    add("--seconds", type=float, help="make rate x seconds events, then end")
    add("--count", type=int, help="make this many events, then end")
    add("--seed", default=env("SEED"), help="the same seed sees the same (simulated) [SEED]")
    add("--model", default=env("MODEL") or None, help="an ONNX detector, in place of the built-in one [MODEL]")
    add("--decoder", default=env("DECODER") or None, help="module:name that reads its answer, if not YOLO or YOLOX")
    add("--confidence", type=float, default=env("CONFIDENCE", "0.4"), help="of --model: from here it is a person")
    add("--details", action="store_true", help="events also carry model, frames_dropped, boxes and confidence")
    add("--preview", help="write an annotated image here, at most once a second (.jpg, .png); it stays on this machine")
    add("--bridge", default=env("BRIDGE_URL") or None, help="http://host:9464 of the bridge: a live source looks at "
        "fewer frames while it says that the carbon intensity is high [BRIDGE_URL]")
    add("--spool", default=env("SPOOL"), help="keeps what Kafka has not confirmed (default: "
        "~/.edgecloud/<device>.camera.db; in memory when simulated) [SPOOL]")
    add("--spool-max", type=int, default=env("SPOOL_MAX", "100000"), help="events kept at most; the oldest are dropped")
    add("--record", default=env("RECORD"), help="file to append a JSON line per event to [RECORD]")
    add("--wait", type=float, default=30.0, help="seconds to wait for confirmations at the end")
    add("--version", action="version", version="edgecloud camera " + version())
    return parser


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
        watch = Watch(options.source, new_eye(options.model, options.decoder, options.confidence), options.every,
                      options.rate, options.preview, told.share if told else lambda: 1.0)
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
    options = _arguments(arguments)
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
    if fault:
        print(f"camera: {fault}", file=sys.stderr, flush=True)
    every_one = outlet.finish(min(options.wait, STOP_WAIT_S) if stopping.is_set() else options.wait)
    _report(outlet)
    return code or (0 if every_one else NOT_ALL_CONFIRMED)


if __name__ == "__main__":
    sys.exit(main())
