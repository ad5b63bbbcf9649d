"""The camera's events: persons counted (simulated for now) -> Kafka edge-data; next: edge_bridge/kafka_source.py.

Every event is sent by an idempotent producer with acks=all and counted when its delivery is confirmed. What waits for
Kafka waits in memory: a camera that is switched off loses it. Not bound to the Pi's Python 3.5.
"""
import argparse
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contract import numbers, payloads, topics
from contract.errors import BadPayload
from device import schedule, version

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

NOT_ALL_CONFIRMED = 3  # exit code
STOP_WAIT_S = 5.0
log = logging.getLogger("camera")


def persons(seed: str | None) -> Callable[[], int]:
    """A simulated eye: gives how many persons it sees, from 0 to 8; the same seed sees the same."""
    rng = random.Random(seed)
    return lambda: min(8, int(rng.expovariate(0.6)))


def event_text(device: str, now_s: float, seen: int) -> str:
    """One event as it travels; its timestamp is ISO 8601, UTC, milliseconds."""
    timestamp = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return numbers.dumps(payloads.camera_event(device, timestamp, seen))


class Camera:
    """Sends events by schedule and counts the confirmed ones. producer: made by `new_producer`."""

    def __init__(self, producer: "Producer", topic: str, device: str, eye: Callable[[], int],
                 record_path: str | None = None) -> None:
        self._producer, self._topic, self._device, self._eye = producer, topic, device, eye
        self._record_path = record_path
        if record_path:
            os.makedirs(os.path.dirname(os.path.abspath(record_path)), exist_ok=True)
        self.sent = self.confirmed = 0
        self._complaint: str | None = None

    def run(self, rate: float, count: int | None, stopping: threading.Event, wait_s: float) -> bool:
        """Send `count` events (None: until `stopping`), wait for their confirmations; True when all came."""
        for _ in schedule.ticks(rate, count, stopping):
            self._send(stopping)
            self._producer.poll(0)
        self._producer.flush(min(wait_s, STOP_WAIT_S) if stopping.is_set() else wait_s)
        return self.confirmed == (self.sent if count is None or stopping.is_set() else count)

    def _send(self, stopping: threading.Event) -> None:
        text, key = event_text(self._device, time.time(), self._eye()), self._device.encode()
        while True:
            try:
                self._producer.produce(self._topic, text.encode(), key=key, on_delivery=self._delivered)
                break
            except BufferError:  # the producer's memory is full: Kafka is away; wait for room
                if stopping.is_set():
                    return
                self._producer.poll(0.5)
        self.sent += 1
        if self._record_path:
            with open(self._record_path, "a", encoding="utf-8") as lines:
                lines.write(text + "\n")

    def _delivered(self, error: "KafkaError | None", message: "Message") -> None:
        if error is None:
            self.confirmed += 1
            self._complaint = None
        else:
            self.complain(f"an event was not delivered to {self._topic}: {error.str()}")

    def complain(self, text: str) -> None:
        """Warn, but not with the same words again until something was delivered."""
        if text != self._complaint:
            self._complaint = text
            log.warning("%s", text)


def new_producer(bootstrap: str, on_error: Callable[["KafkaError"], None]) -> "Producer":
    """A producer that repeats until delivered, neither doubling nor turning round what it sends."""
    from confluent_kafka import Producer

    return Producer({
        "bootstrap.servers": bootstrap, "client.id": "edgecloud-camera", "enable.idempotence": True, "acks": "all",
        "message.timeout.ms": 0,  # never give up by itself: an outage of an hour is not the event's fault
        "reconnect.backoff.max.ms": 5000, "error_cb": on_error, "log_level": 0,
    })


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    env = os.environ.get
    parser = argparse.ArgumentParser(prog="camera", description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", default=env("BOOTSTRAP_SERVERS", "localhost:9092"), help="[BOOTSTRAP_SERVERS]")
    parser.add_argument("--topic", default=env("KAFKA_TOPIC", topics.EDGE_DATA), help="[KAFKA_TOPIC]")
    parser.add_argument("--device-id", default=env("DEVICE_ID", "camera-01"), help="[DEVICE_ID]")
    parser.add_argument("--rate", type=float, default=env("RATE", "1"), help="events per second [RATE]")
    parser.add_argument("--seconds", type=float, help="make rate x seconds events, then end")
    parser.add_argument("--count", type=int, help="make this many events, then end")
    parser.add_argument("--seed", default=env("SEED"), help="the same seed sees the same [SEED]")
    parser.add_argument("--record", default=env("RECORD"), help="file to append a JSON line per event to [RECORD]")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds to wait for confirmations at the end")
    parser.add_argument("--version", action="version", version="edgecloud camera " + version())
    parsed = parser.parse_args(arguments)
    if not 0 < parsed.rate <= 10000:
        parser.error(f"--rate is {parsed.rate}: expected more than 0 and at most 10000")
    if parsed.seconds is not None and parsed.count is not None:
        parser.error("--seconds and --count are both given: expected at most one")
    try:
        topics.check_device(parsed.device_id)
    except BadPayload as error:
        parser.error(f"--device-id: {error}")
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m device.camera`; returns the exit code: 0 only when every event was confirmed."""
    options = _arguments(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    count = options.count if options.seconds is None else schedule.count_of(options.rate, options.seconds)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        producer = new_producer(options.bootstrap, lambda error: camera.complain(
            f"Kafka at {options.bootstrap}: {error.str()}; trying again"))
    except ImportError as error:
        print(f"{error}; install confluent-kafka", file=sys.stderr)
        return 1
    camera = Camera(producer, options.topic, options.device_id, persons(options.seed), options.record)
    every_one = camera.run(options.rate, count, stopping, options.wait)
    print(f"sent {camera.sent} events, {camera.confirmed} confirmed", flush=True)
    return 0 if every_one else NOT_ALL_CONFIRMED


if __name__ == "__main__":
    sys.exit(main())
