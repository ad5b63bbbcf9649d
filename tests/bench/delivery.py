"""Bench rows `delivery` and `backlog`: readings that wait in an outbox file go through one connection to the cloud.

The gateway enforces IoT Core's quotas. Delivered means PUBACK 0 after the rule's SQL ran and its action was taken, and
every value compared by the sink; the bridge learns of it by the sink's receipts.
"""
import statistics
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from contract import numbers, payloads, topics
from tests.bench import load
from tests.bench.bridge_run import BridgeRun, used_between
from tests.bench.cloud import Cloud
from tests.bench.ingest import Broker
from tests.bench.report import Row

COUNT, QUICK_COUNT = 400_000, 100_000
BACKLOG, QUICK_BACKLOG = 1_000_000, 100_000
LIMIT_BYTES_PER_S = 512 * 1024
LIMIT_PUBLISHES_PER_S = 100
_WITHIN_S = 300.0
_EMPTY_S = 4.0  # how long an idle bridge is watched for its memory
_WARM_UP = 40  # readings before the first forest is fitted, and some more
_LIVE_PAUSE_S = 0.2


def delivery(directory: Path, quick: bool) -> list[Row]:
    """An outbox full of readings is drained."""
    count = QUICK_COUNT if quick else COUNT
    cloud = Cloud(directory / "cloud")
    bridge = BridgeRun(directory / "bridge", MQTT_BROKER="127.0.0.1", MQTT_PORT="1", **cloud.environment)
    try:
        load.fill_outbox(bridge.outbox, count)
        bridge.start()
        figures = cloud.await_readings(count, _WITHIN_S)
        bridge.check_alive()
        return [*_drained(bridge, figures, count), *_limits(figures)]
    finally:
        bridge.stop()
        cloud.close()


def span(arrivals: list[tuple[float, int]], count: int) -> tuple[float, float, int]:
    """(from, to, readings between): from the first tenth of `count` readings at the sink to the last."""
    seen = 0
    for at, (_, new) in enumerate(arrivals):
        seen += new
        if seen >= count / 10:
            last_s = max(at_s for at_s, some in arrivals if some)
            return arrivals[at][0], last_s, sum(some for _, some in arrivals[at + 1:])
    raise RuntimeError(f"{seen} of {count} readings reached the sink; expected all of them")


def _drained(bridge: BridgeRun, figures: dict[str, Any], count: int) -> list[Row]:
    from_s, to_s, done = span(figures["arrivals"], count)
    used = used_between(bridge.notes(), from_s, to_s)
    size_bytes = sum(size for at_s, size in figures["published"] if from_s < at_s <= to_s)
    written = [] if used["disk_bytes"] is None else [used["disk_bytes"] / done]
    wire_bytes = figures["counters"]["bytes_in"] / figures["new"]
    return [
        Row("delivered through one connection", "readings/s", [done / (to_s - from_s)], at_least=20_000,
            note=f"{count} readings of 10 devices, from a full outbox"),
        Row("bytes/s while it drains / 512 KB/s", "ratio", [size_bytes / (to_s - from_s) / LIMIT_BYTES_PER_S]),
        Row("CPU of a reading: delivery", "µs", [used["cpu_s"] / done * 1e6], note="getrusage of the bridge"),
        Row("disk written per reading: delivery", "bytes", written, note=used["disk_source"]),
        Row("wire per reading", "bytes", [wire_bytes], note="MQTT bytes the gateway counted, both QoS handshakes in"),
        Row("readings lost, doubled or wrong", "readings",
            [count - figures["new"] + figures["doubled"] + figures["wrong"]], at_most=0),
    ]


def _limits(figures: dict[str, Any]) -> list[Row]:
    return [
        Row("publishes discarded by the gateway", "messages", [figures["counters"]["discarded"]], at_most=0),
        Row("most publishes in one second", "messages", [figures["most_publishes_in_1_s"]],
            at_most=LIMIT_PUBLISHES_PER_S),
        Row("largest message", "bytes", [max(size for _, size in figures["published"])], at_most=128 * 1024),
    ]


def backlog(directory: Path, quick: bool) -> list[Row]:
    """A million rows wait; live readings come in and their alerts overtake the backlog."""
    count = QUICK_BACKLOG if quick else BACKLOG
    broker = Broker(directory / "broker")
    try:
        empty_mb, _ = _idle(directory / "empty", broker)
        return _backlog(directory, broker, count, empty_mb)
    finally:
        broker.close()


def _settings(cloud: Cloud, broker: Broker) -> dict[str, str]:
    return {**cloud.environment, "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(broker.port),
            "SCORED_FIELDS": "sensor2", "ALERTS": "all", "BATCH_AGE": "2"}


def _idle(directory: Path, broker: Broker) -> tuple[float, float]:
    """(RSS in MB, seconds to ready) of a bridge whose outbox is empty; it scores live readings like the other."""
    cloud = Cloud(directory / "cloud")
    bridge = BridgeRun(directory / "bridge", MQTT_CLIENT_ID="empty", **_settings(cloud, broker)).start()
    try:
        ready_s = _ready_s(bridge)
        _make_live(broker, _WARM_UP, lambda: False)
        time.sleep(_EMPTY_S)
        return max(note["rss_mb"] for note in bridge.notes()), ready_s
    finally:
        bridge.stop()
        cloud.close()


def _backlog(directory: Path, broker: Broker, count: int, empty_mb: float) -> list[Row]:
    cloud = Cloud(directory / "cloud")
    bridge = BridgeRun(directory / "bridge", MQTT_CLIENT_ID="full", **_settings(cloud, broker))
    try:
        load.fill_outbox(bridge.outbox, count)
        bridge.start()
        ready_s = _ready_s(bridge)
        _make_live(broker, 1_000_000, lambda: cloud.figures()["new"] >= count)
        figures = cloud.await_readings(count, _WITHIN_S)
        rss_mb = max(note["rss_mb"] for note in bridge.notes())
    finally:
        bridge.stop()
        cloud.close()
    from_s, to_s, _ = span(figures["arrivals"], count)
    size_bytes = sum(size for at_s, size in figures["published"] if from_s < at_s <= to_s)
    ages_s = sorted(figures["ages_s"])
    p95 = [ages_s[int(len(ages_s) * 0.95)]] if len(ages_s) >= 20 else []
    return [
        Row(f"ready with {count:,} rows waiting", "s", [ready_s], at_most=5.0, note="first connection to the cloud"),
        Row("memory with that backlog", "MB", [rss_mb], at_most=300.0, note="RSS at its highest, scoring on"),
        Row("  above that of an empty outbox", "MB", [rss_mb - empty_mb], at_most=30.0),
        Row("new alerts at the sink while it drains, p95", "s", p95, at_most=2.0,
            note=f"{len(ages_s)} alerts (ALERTS=all), from the reading's own time; detector seed"),
        Row("  median", "s", [statistics.median(ages_s)] if ages_s else []),
        Row("drain / 512 KB/s", "ratio", [size_bytes / (to_s - from_s) / LIMIT_BYTES_PER_S], at_least=0.90),
        Row("readings lost, doubled or wrong (backlog)", "readings",
            [count - figures["new"] + figures["doubled"] + figures["wrong"]], at_most=0),
        Row("publishes discarded (backlog)", "messages", [figures["counters"]["discarded"]], at_most=0),
    ]


def _ready_s(bridge: BridgeRun) -> float:
    """Seconds from the start of the process to its first connection to the cloud, by its status file."""
    deadline_s = time.time() + 60
    while not bridge.status().get("connected", {}).get("cloud"):
        bridge.check_alive()
        if time.time() > deadline_s:
            raise RuntimeError("the bridge is not connected after 60 s")
        time.sleep(0.05)
    return time.time() - bridge.started_s


def _make_live(broker: Broker, most: int, enough: Any) -> None:
    """A device that publishes readings as they are made, until it is enough; each is scored, and its alert sent."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="live", protocol=paho.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        for n in range(most):
            reading = payloads.sensor_reading(numbers.loads(f"{time.time():.3f}"), {
                "sensor1": 20, "sensor2": numbers.loads(f"{0.5 + n % 7 / 100:.2f}")}, device_id="live", seq=n)
            client.publish(topics.SENSOR_DATA, numbers.dumps(reading).encode(), qos=1).wait_for_publish(10)
            if n >= _WARM_UP:
                time.sleep(_LIVE_PAUSE_S)
                if n % 8 == 0 and enough():
                    break
    finally:
        client.disconnect()
        client.loop_stop()
