"""A device's own connection to AWS IoT (or the local gateway): mutual TLS, MQTT 5, QoS 1; for provision.py, verify.py.

It joins the session of its client id instead of starting a clean one, and acknowledges only what it is told to:
receipts that wait there for the bridge stay for the bridge.
"""
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.faults import Fault

KEEP_ALIVE_S = 30
SESSION_EXPIRY_S = 3600
PAUSE_S = 1.2  # AWS IoT takes one CONNECT per second and client id
ANSWER_S = 15.0


class ConnectionFault(Fault):
    """No connection, or a publish or subscribe that was refused; says which, and what to look at."""


class Files(NamedTuple):
    """The three PEM files of a TLS identity."""

    root_ca: Path
    certificate: Path
    private_key: Path


class DeviceConnection:
    """Connected between `__enter__` and `__exit__`. received: (topic, payload) of what came, in order.

    is_ours: (topic, payload) of a message that this connection takes off the broker's hands.
    """

    def __init__(self, host: str, port: int, client_id: str, files: Files, *,
                 is_ours: Callable[[str, bytes], bool] = lambda topic, payload: False) -> None:
        self._host, self._port, self._client_id, self._files = host, port, client_id, files
        self._is_ours = is_ours
        self._changed = threading.Condition()
        self._state = ""  # "" while connecting, then "connected", or why not
        self._answers: dict[tuple[str, int], int] = {}  # ("PUBACK" or "SUBACK", message id): reason code
        self.received: list[tuple[str, bytes]] = []
        self._client: mqtt.Client | None = None

    def connect(self, within_s: float) -> "DeviceConnection":
        """Connect, again and again until it works or the time is over. Raises ConnectionFault with the last reason."""
        deadline_s = time.monotonic() + within_s
        while True:
            self._client = self._new_client()
            reason = self._attempt(self._client)
            if reason == "connected":
                return self
            self.close()
            if time.monotonic() > deadline_s:
                raise ConnectionFault(
                    f"{self._host}:{self._port} as {self._client_id}: {reason}. A new certificate can take some "
                    "seconds; else look at its status (ACTIVE?), its policy, and that it is attached to the thing")
            time.sleep(PAUSE_S)

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self._client_id, protocol=mqtt.MQTTv5, manual_ack=True)
        try:
            context = ssl.create_default_context(cafile=str(self._files.root_ca))
            context.load_cert_chain(self._files.certificate, self._files.private_key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConnectionFault(f"no TLS identity from {', '.join(map(str, self._files))}: {error}; run "
                                  "`make provision`") from None
        client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _attempt(self, client: mqtt.Client) -> str:
        """"connected", or why not."""
        with self._changed:
            self._state = ""
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = SESSION_EXPIRY_S
        try:
            client.connect(self._host, self._port, KEEP_ALIVE_S, clean_start=False, properties=session)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._state != "", ANSWER_S)
            return self._state or f"no CONNACK within {ANSWER_S:.0f} s"

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._note("connected" if reason.value == 0 else f"CONNACK says {reason}")

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._note(f"the connection was closed ({reason})")

    def _note(self, state: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _on_publish(self, client: mqtt.Client, data: Any, mid: int, reason: Any, properties: Any) -> None:
        self._answered("PUBACK", mid, reason.value)

    def _on_subscribe(self, client: mqtt.Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._answered("SUBACK", mid, max(reason.value for reason in reasons))

    def _answered(self, kind: str, mid: int, code: int) -> None:
        with self._changed:
            self._answers[kind, mid] = code
            self._changed.notify_all()

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        is_ours = self._is_ours(message.topic, payload)
        if is_ours or message.qos == 0:
            client.ack(message.mid, message.qos)
        with self._changed:
            if is_ours:
                self.received.append((message.topic, payload))
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for PUBACK 0. Raises ConnectionFault."""
        assert self._client is not None, "connect() first"
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        self._expect("PUBACK", sent.mid, f"publish to {topic}", 0)

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe with QoS 1 and wait for the answer. Raises ConnectionFault."""
        assert self._client is not None, "connect() first"
        _, mid = self._client.subscribe(topic_filter, qos=1)
        self._expect("SUBACK", mid or 0, f"subscribe to {topic_filter}", 2)

    def _expect(self, kind: str, mid: int, what: str, highest: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: (kind, mid) in self._answers, ANSWER_S)
            code, state = self._answers.pop((kind, mid), None), self._state
        if code is None:
            raise ConnectionFault(f"{what}: no {kind} within {ANSWER_S:.0f} s; connection: {state}")
        if code > highest:
            raise ConnectionFault(f"{what}: {kind} says 0x{code:02x} (0x87: the policy does not allow it)")

    def wait_for(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until the condition, which is asked after each message that comes, is true; False when it is not."""
        with self._changed:
            return self._changed.wait_for(condition, within_s)

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def __enter__(self) -> "DeviceConnection":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
