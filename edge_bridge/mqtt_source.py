"""The MQTT source: readings from the LAN broker go into the inbox; PUBACKs go back when bridge.py says so."""
import logging
import struct
import threading
from itertools import repeat
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from contract import numbers, payloads, topics
from edge_bridge.inbox import Inbox, Message
from edge_bridge.lan_client import LanClient
from edge_bridge.settings import Settings

log = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 2000  # unacknowledged messages that the broker may send us: the back-pressure of MQTT 5
KEEP_ALIVE_S = 30
NEVER_EXPIRES = 0xFFFFFFFF
_UNSUPPORTED = "Unsupported protocol version"
_PUBACK = struct.Struct("!HH")
_PUBACK_2 = 0x4002  # a PUBACK of two more bytes, the packet id: accepted, in MQTT 5 as in 3.1.1


class MqttSource:
    """Subscribes to <topic> and what is below it under a fixed client id and a session that outlives us.

    A packet id means something only on the connection that brought it. So each message carries the number of its
    connection, and an acknowledgement that comes later than the end of that connection is not sent: the broker will
    deliver the message again, and the repeat is acknowledged then.

    connected: there is a connection, and the broker lets us read readings on it.
    """

    route = "readings"

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self._settings, self._inbox = settings, inbox
        self._where = f"{settings.mqtt_broker}:{settings.mqtt_port}"
        base = settings.mqtt_topic
        # They do not overlap, whether or not '#' matches its parent at this broker.
        self._filters = base, base + "/+", base + "/+/+/#"
        self._lock = threading.Lock()
        self._connection = 0  # counts connections; bumped when one ends, too
        self._said_down = False
        self._paused = threading.Event()
        self.connected = False
        v5 = settings.mqtt_version == "5"
        self._client = LanClient(
            self._received, client_id=settings.mqtt_client_id, manual_ack=True,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311, clean_session=None if v5 else False)
        if settings.mqtt_username:
            self._client.username_pw_set(settings.mqtt_username, settings.mqtt_password)
        self._client.reconnect_delay_set(1, 15)
        self._client.max_queued_messages_set(1000)  # confirmations only; the newest is asked for again
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect

    def start(self) -> None:
        """Connect in the background, and again whenever the broker is away."""
        arguments: dict[str, Any] = {}
        if self._settings.mqtt_version == "5":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = NEVER_EXPIRES
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            arguments = {"clean_start": False, "properties": properties}
        self._client.connect_async(self._settings.mqtt_broker, self._settings.mqtt_port, KEEP_ALIVE_S, **arguments)
        self._client.loop_start()

    def pause(self) -> None:
        """Hand over no further message: what comes now is not acknowledged, so the broker keeps it."""
        self._paused.set()

    def stop(self) -> None:
        """Send the acknowledgements that are due, and disconnect; the session stays with the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, messages: list[Message]) -> None:
        """PUBACK those that came on the present connection."""
        with self._lock:  # the connection cannot end in between
            connection = self._connection
            due = [m.packet_id for m in messages if m.packet_id and m.connection == connection]
            if due:
                # What client.ack() does, but for all at once: a thousand calls are a thousand times two system calls.
                self._client._packet_queue(paho.PUBACK, b"".join(map(_PUBACK.pack, repeat(_PUBACK_2), due)), due[0], 1)

    def confirm(self, device: str, spool: str, seq: int) -> bool:
        """Say on sensor/ack/<device>, retained, that all of this spool up to seq is on disk; False: not now."""
        if not self.connected:
            return False
        sent = self._client.publish(topics.sensor_ack(device), numbers.dumps(payloads.ack(spool, seq)), 1, retain=True)
        return sent.rc == paho.MQTT_ERR_SUCCESS

    def _end_connection(self) -> None:
        with self._lock:
            self._connection += 1
            self.connected = False

    def _on_pre_connect(self, *_: Any) -> None:
        self._end_connection()

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: Any, *__: Any) -> None:
        if reason.is_failure:
            step = ("set MQTT_VERSION=3.1.1" if str(reason) == _UNSUPPORTED
                    else "check MQTT_USERNAME and MQTT_PASSWORD, and the broker's log")
            self._say_down(f"the LAN broker {self._where} refused: {reason}; {step}")
            return
        log.info("mqtt: connected to %s, %s", self._where,
                 "session resumed" if flags.session_present else "new session")
        client.subscribe([(name, self._subscribe_options()) for name in self._filters])

    def _on_subscribe(self, _: Any, __: Any, ___: Any, reasons: list[Any], *____: Any) -> None:
        refused = [name for name, reason in zip(self._filters, reasons, strict=True) if reason.is_failure]
        text = (f"the LAN broker {self._where} refuses to let us read {', '.join(refused)}; allow it in the broker's "
                "access list")
        if len(refused) == len(self._filters):
            self._say_down(text)
            return
        if refused:
            log.warning("mqtt: %s; the other topics are read", text)
        self._said_down, self.connected = False, True

    def _subscribe_options(self) -> Any:
        if self._settings.mqtt_version != "5":
            return 1
        # A retained reading comes with a new subscription only, not with each reconnect.
        return SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)

    def _on_connect_fail(self, *_: Any) -> None:
        self._say_down(f"no LAN broker at {self._where}; is it running, and are MQTT_BROKER and MQTT_PORT right?")

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: Any, *____: Any) -> None:
        self._end_connection()
        if not self._paused.is_set():
            self._say_down(f"the connection to {self._where} ended ({reason})")

    def _say_down(self, text: str) -> None:
        """Once per state, not once per attempt."""
        log.log(logging.DEBUG if self._said_down else logging.WARNING, "mqtt: %s; it is tried again", text)
        self._said_down = True

    def _received(self, topic: bytes, payload: bytes, packet_id: int) -> None:
        if self._paused.is_set():
            return
        try:
            name = topic.decode("utf-8")
        except UnicodeDecodeError:
            name = "\ufffd"  # dead-lettered as an unknown topic
        self._inbox.put(self, (name,), payload, self._connection, packet_id)
