"""The MQTT connection of publisher.py, kept up by its own thread; what happens on it goes to the publisher's inbox.

paho-mqtt 1.6 and 2.x. Every connection has a new client: paho sends again, past its own limits, what an old one held,
and the spool does that better. Events put: ("up", client), ("down", text), ("puback", client, mid), ("ack", bytes).
"""
import random
import socket
import threading
import time

import paho.mqtt.client as mqtt

CONNACK_S = 10.0
KEEPALIVE_S = 30
STABLE_S = 5.0
BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
# CONNACK codes of MQTT 3.1.1, and the reason codes of MQTT 5 that paho 2 makes of them.
_REFUSED = {
    1: "it does not speak MQTT 3.1.1", 132: "it does not speak MQTT 3.1.1",
    2: "it refuses the client id %(client_id)s", 133: "it refuses the client id %(client_id)s",
    3: "it is not available", 136: "it is not available",
    4: "wrong user name or password: set MQTT_USERNAME and MQTT_PASSWORD",
    134: "wrong user name or password: set MQTT_USERNAME and MQTT_PASSWORD",
    5: "not authorized: set MQTT_USERNAME and MQTT_PASSWORD to what the broker expects",
    135: "not authorized: set MQTT_USERNAME and MQTT_PASSWORD to what the broker expects",
}


def backoff_s(attempt, rng=random):
    """Seconds before try `attempt` (from 0): anything up to a bound that doubles ("full jitter")."""
    return rng.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(attempt, 16)))


def _new_client(client_id):
    if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False)
    return mqtt.Client(client_id=client_id, reconnect_on_failure=False)


def _code(reason):
    return getattr(reason, "value", reason)


class Link(object):
    """Keeps one connection to host:port and reports to `post(event)`; subscribes `ack_topic` first, if there is one."""

    def __init__(self, host, port, client_id, post, username="", password="", ack_topic=None):
        self._host, self._port, self._client_id = host, port, client_id
        self._username, self._password = username, password
        self._ack_topic = ack_topic
        self._post = post
        self._stopping = threading.Event()
        self._answered = threading.Event()  # up, or given up
        self._ended = threading.Event()
        self._why = None
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self):
        """Connect, and go on trying, until `stop`."""
        self._thread.start()

    def stop(self, timeout_s=2.0):
        """Disconnect; what is not acknowledged stays in the spool."""
        self._stopping.set()
        self.drop("stopping")
        self._thread.join(timeout_s)

    def drop(self, why):
        """End this connection; the next one follows by itself."""
        self._end(why)

    def _end(self, why):
        self._why = self._why or why
        self._ended.set()
        self._answered.set()

    def _run(self):
        attempt = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            why = self._one_connection()
            # One that ended soon counts as failed: two publishers of one client id would take it from each other.
            attempt = 0 if time.monotonic() - started >= STABLE_S else attempt + 1
            wait_s = backoff_s(attempt)
            if not self._stopping.is_set():
                self._post(("down", "broker %s:%d: %s" % (self._host, self._port, why)))
            self._stopping.wait(wait_s)

    def _one_connection(self):
        """Connect and stay until it ends; returns why it did."""
        self._why = None
        self._answered.clear()
        self._ended.clear()
        client = self._prepare()
        try:
            client.connect(self._host, self._port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            return self._explain(error)
        if self._stopping.is_set():
            return "stopping"
        client.loop_start()
        if not self._answered.wait(CONNACK_S):
            self._end("no answer to the MQTT connect within %d s; is it an MQTT broker?" % CONNACK_S)
        self._ended.wait()
        client.disconnect()
        client.loop_stop()
        return self._why

    def _prepare(self):
        client = _new_client(self._client_id)
        if self._username:
            client.username_pw_set(self._username, self._password or None)
        client.max_inflight_messages_set(1000)  # the publisher keeps its own, lower bound: nothing may wait in paho
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = lambda client, userdata, mid, *_: self._post(("puback", client, mid))
        client.on_message = lambda client, userdata, message: self._post(("ack", message.payload))
        return client

    def _on_connect(self, client, userdata, flags, reason, properties=None):
        code = _code(reason)
        if code != 0:
            why = _REFUSED.get(code, "it refused the connection with code %s (%s)" % (code, reason))
            self._end(why % {"client_id": self._client_id} if "%(" in why else why)
        elif self._ack_topic:
            client.subscribe(self._ack_topic, qos=1)
        else:
            self._up(client)

    def _on_subscribe(self, client, userdata, mid, granted, *_):
        if any(_code(code) >= 128 for code in granted):
            self._end("it refuses the subscription to %s, so that no acknowledgement can come: allow it there, or let "
                      "the broker's own acknowledgement count with --ack broker" % self._ack_topic)
        else:
            self._up(client)

    def _up(self, client):
        self._answered.set()
        self._post(("up", client))

    def _on_disconnect(self, client, userdata, *details):
        reason = mqtt.error_string(details[0]) if len(details) == 1 else details[1]  # paho 1: rc; 2: flags, reason, ...
        self._end("connection lost (%s)" % reason)

    def _explain(self, error):
        if isinstance(error, socket.gaierror):
            return "unknown host; check the name given with --broker"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused; is the broker running, and on this port?"
        if isinstance(error, socket.timeout):
            return "no answer (timed out); check the address, the network and the firewall"
        return str(error)
