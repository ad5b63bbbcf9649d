"""What the bridge's intake is measured against, each a process of its own on one queue of the LAN broker.

`python -m tests.bench.bare paho PORT CLIENT_ID COUNT`: a bare paho subscriber that acknowledges each message at once.
`python -m tests.bench.bare seed PORT CLIENT_ID COUNT`: the first EdgeCloud script's way: in paho's callback a rolling
isolation forest, then one publish per message to the cloud (IOT_ENDPOINT and its files from the environment).
Both print one line of JSON: messages per second and CPU µs per message from the first tenth of them to the last.
"""
import json
import os
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 300.0
_RECEIVE_MAXIMUM = 2000  # as the bridge has it
_NEVER_EXPIRES = 0xFFFFFFFF
_WINDOW, _REFIT_EVERY = 100, 20


class Pace:
    """Counts messages; the clock starts after the first tenth."""

    def __init__(self, count: int) -> None:
        self._count, self._first, self._seen = count, count // 10, 0
        self._from_s = self._from_cpu_s = self.per_s = self.cpu_us = 0.0
        self.done = threading.Event()

    def one(self) -> None:
        """One more is dealt with."""
        self._seen += 1
        if self._seen == self._first:
            self._from_s, self._from_cpu_s = time.perf_counter(), _cpu_s()
        elif self._seen == self._count:
            counted = self._count - self._first
            self.per_s = counted / (time.perf_counter() - self._from_s)
            self.cpu_us = (_cpu_s() - self._from_cpu_s) / counted * 1e6
            self.done.set()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def subscribe(port: int, client_id: str, on_message: Callable[[paho.Client, Any, Any], None]) -> paho.Client:
    """A paho client on an existing session, acknowledging by hand, as the bridge's is made."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True)
    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = _NEVER_EXPIRES
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    return client


def run_paho(port: int, client_id: str, count: int) -> Pace:
    """The bare subscriber."""
    pace = Pace(count)

    def on_message(client: paho.Client, _: Any, message: Any) -> None:
        client.ack(message.mid, message.qos)
        pace.one()

    _finish(subscribe(port, client_id, on_message), pace)
    return pace


def run_seed(port: int, client_id: str, count: int) -> Pace:
    """The first script's way."""
    import numpy
    from sklearn.ensemble import IsolationForest

    pace, publish = Pace(count), _cloud_publisher()
    window: deque[float] = deque(maxlen=_WINDOW)
    forest: Any = None
    seen = 0

    def on_message(client: paho.Client, _: Any, message: Any) -> None:
        nonlocal forest, seen
        reading = json.loads(message.payload)
        window.append(reading["sensor2"])
        seen += 1
        if seen % _REFIT_EVERY == 0:
            forest = IsolationForest(n_estimators=100, contamination="auto", random_state=42)
            forest.fit(numpy.array(window).reshape(-1, 1))
        anomaly = forest is not None and forest.predict(numpy.array([[reading["sensor2"]]]))[0] == -1
        publish({"timestamp": reading["timestamp"], "sensor2": reading["sensor2"], "anomaly": bool(anomaly)})
        client.ack(message.mid, message.qos)
        pace.one()

    _finish(subscribe(port, client_id, on_message), pace)
    return pace


def _cloud_publisher() -> Callable[[dict[str, Any]], None]:
    from awscrt import mqtt5
    from awsiot import mqtt5_client_builder

    connected = threading.Event()
    client = mqtt5_client_builder.mtls_from_path(
        os.environ["CERTIFICATE"], os.environ["PRIVATE_KEY"], ca_filepath=os.environ["ROOT_CA"],
        endpoint=os.environ["IOT_ENDPOINT"], port=int(os.environ["IOT_PORT"]), client_id="EdgeCloudAWS",
        on_lifecycle_connection_success=lambda _: connected.set())
    client.start()
    if not connected.wait(20):
        raise TimeoutError("no connection to the bench's cloud within 20 s")
    return lambda reading: client.publish(mqtt5.PublishPacket(
        topic="edgecloud/alerts", payload=json.dumps(reading).encode(), qos=mqtt5.QoS.AT_LEAST_ONCE)) and None


def _finish(client: paho.Client, pace: Pace) -> None:
    client.loop_start()
    if not pace.done.wait(DEADLINE_S):
        raise TimeoutError(f"not all messages within {DEADLINE_S} s")
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    run = {"paho": run_paho, "seed": run_seed}[sys.argv[1]]
    found = run(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    print(json.dumps({"per_s": found.per_s, "cpu_us": found.cpu_us}))
