"""One MQTT connection of the doctor: it asks a broker once, with a time-out for every answer; for doctor_sources.py and
doctor_policy.py.

It takes no message away from anybody: what a resumed session brings stays unacknowledged, so that the broker keeps it
for the bridge.
"""
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

NO_ANSWER = "no answer"


class Connection:
    """session_expiry_s: None for a session of our own that ends with the connection, else the client id's is resumed.

    Every method that returns text returns "" for success, else what the broker or the network said.
    """

    def __init__(self, client_id: str, *, version: str = "5", login: tuple[str, str] | None = None,
                 tls: ssl.SSLContext | None = None, session_expiry_s: int | None = None) -> None:
        self._v5, self._expiry_s = version == "5", session_expiry_s
        self._changed = threading.Condition()
        self._connack: str | None = None
        self._acks: dict[int, list[str]] = {}
        self._messages: list[Any] = []
        self.ended = ""
        options: dict[str, Any] = {} if self._v5 else {"clean_session": session_expiry_s is None}
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, manual_ack=True, reconnect_on_failure=False,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311, **options)
        if login:
            self._client.username_pw_set(*login)
        if tls:
            self._client.tls_set_context(tls)
        self._client.on_connect = lambda _, __, ___, code, *____: self._note("_connack", _fault(code))
        self._client.on_disconnect = lambda _, __, ___, code, *____: self._note("ended", str(code) or NO_ANSWER)
        self._client.on_subscribe = lambda _, __, mid, codes, *___: self._answered(mid, [_fault(c) for c in codes])
        self._client.on_publish = lambda _, __, mid, code, *___: self._answered(mid, [_fault(code)])
        self._client.on_message = lambda _, __, message: self._arrived(message)

    def connect(self, host: str, port: int, timeout_s: float) -> str:
        """CONNECT and its answer."""
        self._client.connect_timeout = timeout_s
        arguments: dict[str, Any] = {}
        if self._v5:
            arguments["clean_start"] = self._expiry_s is None
            if self._expiry_s is not None:
                properties = Properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = self._expiry_s
                arguments["properties"] = properties
        try:
            self._client.connect(host, port, 30, **arguments)
        except OSError as error:
            return str(error)
        self._client.loop_start()
        self._wait(lambda: self._connack is not None or self.ended, timeout_s)
        return self._connack if self._connack is not None else self.ended or NO_ANSWER

    def subscribe(self, *topics: str, qos: int, timeout_s: float) -> list[str]:
        """One SUBSCRIBE; a text per topic."""
        _, mid = self._client.subscribe([(topic, qos) for topic in topics])
        return self._answer(mid, timeout_s) or [self.ended or NO_ANSWER] * len(topics)

    def publish(self, topic: str, payload: bytes, timeout_s: float) -> str:
        """One PUBLISH of QoS 1, not retained, and its PUBACK ("No matching subscribers" is a success)."""
        mid = self._client.publish(topic, payload, qos=1).mid
        return (self._answer(mid, timeout_s) or [self.ended or NO_ANSWER])[0]

    def find(self, wanted: Callable[[str, bytes], Any], timeout_s: float) -> Any:
        """The first value of wanted(topic, payload) that is not None, acknowledged; None when none came in time."""
        deadline_s, at = time.monotonic() + timeout_s, 0
        while True:
            self._wait(lambda at=at: len(self._messages) > at or self.ended,  # type: ignore[misc]
                       deadline_s - time.monotonic())
            if at >= len(self._messages):
                return None
            message = self._messages[at]
            at += 1
            value = wanted(message.topic, bytes(message.payload))
            if value is not None:
                self._client.ack(message.mid, message.qos)
                return value

    def await_end(self, timeout_s: float) -> str:
        """How the broker ended the connection within that time; "" when it did not."""
        self._wait(lambda: bool(self.ended), timeout_s)
        return self.ended

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note(self, what: str, text: str) -> None:
        with self._changed:
            setattr(self, what, text)
            self._changed.notify_all()

    def _answered(self, mid: int, faults: list[str]) -> None:
        with self._changed:
            self._acks[mid] = faults
            self._changed.notify_all()

    def _arrived(self, message: Any) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def _answer(self, mid: int | None, timeout_s: float) -> list[str]:
        self._wait(lambda: mid in self._acks or self.ended, timeout_s)
        return self._acks.get(mid if mid is not None else -1, [])

    def _wait(self, condition: Callable[[], Any], timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(condition, max(0.0, timeout_s))


def _fault(code: Any) -> str:
    return str(code) if code.is_failure else ""
