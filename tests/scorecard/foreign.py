"""A foreign publisher, as others write them: plain paho, QoS 1, no spool; it writes down what it made."""
import contextlib
import json
import random
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from contract import numbers, topics
from deploy.processes import wait_until
from tests.scorecard import oracle
from tests.scorecard.recording_proxy import RecordingProxy


class ForeignPublisher:
    """Publishes `rate` readings a second under this name, from now until `finish`."""

    def __init__(self, device: str, port: int, rate: float, record: Path) -> None:
        self._device, self._rate, self._record = device, rate, record
        self._chance = random.Random(device)
        self._ended = threading.Event()
        record.parent.mkdir(exist_ok=True)
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=device)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        seq = 0
        with open(self._record, "a") as lines:
            while not self._ended.wait(1 / self._rate):
                seq += 1
                stamp = round(time.time(), 3)
                values = {"sensor1": round(self._chance.gauss(20, 1), 2), "sensor2": round(self._chance.random(), 4)}
                made = {"device": self._device, "seq": seq, "timestamp": stamp, "values": values}
                lines.write(json.dumps(made) + "\n")
                lines.flush()
                self._client.publish(topics.SENSOR_DATA, json.dumps(
                    {"timestamp": stamp, **values, "device_id": self._device, "seq": seq}), qos=1)

    def finish(self) -> None:
        """Make no more, and let the client hand over what it holds."""
        self._ended.set()
        self._thread.join()
        wait_until("the foreign publisher's queue to empty", lambda: not self._client._out_messages, 30)

    def close(self) -> None:
        """End it, whatever it holds."""
        self._ended.set()
        with contextlib.suppress(RuntimeError):
            self._client.disconnect()
            self._client.loop_stop()


def identities(proxy: RecordingProxy) -> set[oracle.Identity]:
    """What the bridge acknowledged, as the oracle knows readings."""
    found = set()
    for payload in proxy.acknowledged:
        reading = numbers.loads(payload)
        device, seq, stamp = reading.pop("device_id"), reading.pop("seq"), reading.pop("timestamp")
        found.add(oracle.made_reading({"device": device, "seq": seq, "timestamp": stamp, "values": reading}))
    return found
