"""Settings of the camera: flags, then environment, then defaults; read once at start by camera.py."""
import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contract import topics
from contract.errors import BadPayload
from device import version
from device.eyes import sources

MOST_RATE, MOST_SECONDS = 10_000, 1_000_000_000
EXIT_CODES = """exit codes: 0 every event was confirmed; 1 a package, model or spool cannot be used; 2 faulty
settings; 3 not every event was confirmed in time (they stay in the spool); 4 the source failed: no such file, damaged,
no camera"""


def read(arguments: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Settings from the command line and the environment, where an empty one is as none.

    Ends the program with exit code 2 when there are faults, and tells them all.
    """
    parser = _parser(lambda name, default=None: environ.get(name) or default)
    parsed = parser.parse_args(arguments)
    faults = _faults(parsed)
    if fault := sources.fault(parsed.source, sources.container(environ)):
        faults.append(fault)
    try:
        topics.check_device(parsed.device_id)
    except BadPayload as error:
        faults.append(f"--device-id: {error}")
    if faults:
        parser.error("\n".join(faults))
    return parsed


def _faults(parsed: argparse.Namespace) -> list[str]:
    """What is wrong with figures and addresses, by themselves and beside each other."""
    rate, seconds, count = parsed.rate, parsed.seconds, parsed.count
    return [fault for is_fault, fault in (
        (not 0 < rate <= MOST_RATE, f"--rate is {rate}: expected more than 0 and at most {MOST_RATE}"),
        (seconds is not None and not 0 < seconds <= MOST_SECONDS,
         f"--seconds is {seconds}: expected more than 0 and at most {MOST_SECONDS}"),
        (count is not None and count < 1, f"--count is {count}: expected 1 event or more"),
        (seconds is not None and count is not None, "--seconds and --count are both given: expected at most one"),
        (parsed.every is not None and parsed.every < 1, f"--every is {parsed.every}: expected 1 frame or more"),
        (parsed.spool_max < 1, f"--spool-max is {parsed.spool_max}: expected 1 event or more"),
        (parsed.bridge and not parsed.bridge.startswith(("http://", "https://")),
         f"--bridge is {parsed.bridge!r}: expected http://host:9464"),
        (not 0 < parsed.confidence < 1, f"--confidence is {parsed.confidence}: expected between 0 and 1")) if is_fault]


def _parser(env: Callable[..., Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="camera", description="Counts the persons before a camera, or simulates it, and sends events to Kafka.",
        epilog=EXIT_CODES)
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
    add("--model", default=env("MODEL"), help="an ONNX detector, in place of the built-in one [MODEL]")
    add("--decoder", default=env("DECODER"), help="module:name that reads its answer, if not YOLO or YOLOX")
    add("--confidence", type=float, default=env("CONFIDENCE", "0.4"), help="of --model: from here it is a person")
    add("--details", action="store_true", help="events also carry model, frames_dropped, boxes and confidence")
    add("--preview", help="write an annotated image here, at most once a second (.jpg, .png); it stays on this machine")
    add("--bridge", default=env("BRIDGE_URL"), help="http://host:9464 of the bridge: a live source looks at "
        "fewer frames while it says that the carbon intensity is high [BRIDGE_URL]")
    add("--spool", default=env("SPOOL"), help="keeps what Kafka has not confirmed (default: "
        "~/.edgecloud/<device>.camera.db; in memory when simulated) [SPOOL]")
    add("--spool-max", type=int, default=env("SPOOL_MAX", "100000"), help="events kept at most; the oldest are dropped")
    add("--record", default=env("RECORD"), help="file to append a JSON line per event to [RECORD]")
    add("--wait", type=float, default=30.0, help="seconds to wait for confirmations at the end")
    add("--version", action="version", version="edgecloud camera " + version())
    return parser
