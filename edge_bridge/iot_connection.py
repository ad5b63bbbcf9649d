"""The connection to AWS IoT Core: awsiotsdk's MQTT 5 client over mutual TLS; what happens on it is posted to uplink.py.

The client's own queue never holds the backlog: nothing is published while disconnected, and what is in flight when the
link breaks fails at once and stays in the outbox. Callbacks only post, they never wait.
"""
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

if sys.platform == "darwin":
    # Secure Transport has no TLS 1.3; must be set before awscrt is loaded.
    os.environ.setdefault("AWS_CRT_USE_NON_FIPS_TLS_13", "1")

from awscrt import mqtt5
from awscrt.exceptions import AwsCrtError
from awsiot import mqtt5_client_builder

from edge_bridge import certificates
from edge_bridge.certificates import Identity, IdentityError
from edge_bridge.connection import Acked, Connected, Disconnected, Event, Received, Subscribed
from edge_bridge.settings import Settings, SettingsError

log = logging.getLogger(__name__)

MOST_PING_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 60
SESSION_EXPIRY_S = 3600  # AWS IoT's own default maximum: receipts sent meanwhile wait there
_REFUSALS = {mqtt5.ConnectReasonCode.NOT_AUTHORIZED, mqtt5.ConnectReasonCode.BANNED,
             mqtt5.ConnectReasonCode.BAD_USERNAME_OR_PASSWORD, mqtt5.ConnectReasonCode.CLIENT_IDENTIFIER_NOT_VALID}
# AWS closes the connection of a certificate that is not active without a word; a link that is down looks different.
_CLOSED = {"AWS_IO_SOCKET_CLOSED", "AWS_ERROR_MQTT_UNEXPECTED_HANGUP", "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE"}
CLOSED_IN_A_ROW = 3


class IotConnection:
    """awscrt's client, configured from the settings. Raises SettingsError for files that make no TLS identity."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoint = f"{settings.iot_endpoint}:{settings.iot_port}"
        self._post: Callable[[Event], None] = lambda event: None
        self._generation = 0  # of clients: what an earlier one still has to say about its connection is not heard
        self._ended = False
        self._closed_in_a_row = 0
        try:
            self.identity = certificates.read(settings)
            self._client = self._build(self.identity)
        except IdentityError as error:
            raise SettingsError([str(error)]) from error

    def _build(self, identity: Identity) -> mqtt5.Client:
        """A client that is not started. Raises IdentityError."""
        settings, generation = self._settings, self._generation + 1
        keep_alive_s = max(2, round(settings.keep_alive))
        ping_timeout_s = min(MOST_PING_TIMEOUT_S, keep_alive_s / 2)
        try:
            client = mqtt5_client_builder.mtls_from_bytes(
                identity.certificate, identity.private_key, ca_bytes=identity.root_ca,
                endpoint=settings.iot_endpoint, port=settings.iot_port, client_id=settings.client_id,
                session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,  # receipts wait across our restarts
                session_expiry_interval_sec=SESSION_EXPIRY_S,
                offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
                retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
                min_reconnect_delay_ms=1000, max_reconnect_delay_ms=max(1001, int(settings.reconnect_max * 1000)),
                keep_alive_interval_sec=keep_alive_s, ping_timeout_ms=int(ping_timeout_s * 1000),
                ack_timeout_sec=ACK_TIMEOUT_S, enable_metrics_collection=False,
                # uplink.py keeps IoT Core's limits; the SDK's own pacing behind it would only cost a tenth of the bytes
                extended_validation_and_flow_control_options=mqtt5.ExtendedValidationAndFlowControlOptions.NONE,
                on_publish_received=self._received,
                on_lifecycle_connection_success=lambda data: self._connected(generation, data),
                on_lifecycle_connection_failure=lambda data: self._failed(generation, data),
                on_lifecycle_disconnection=lambda data: self._disconnected(generation, data),
                on_lifecycle_stopped=lambda data: self._stopped(generation))
        except (AwsCrtError, RuntimeError, ValueError) as error:
            raise IdentityError(f"no TLS identity from {settings.certificate}, {settings.private_key} and "
                                f"{settings.root_ca}: {error}; expected PEM files, the key belonging to the "
                                "certificate") from error
        self._generation = generation
        return client

    def start(self, post: Callable[[Event], None]) -> None:
        """See connection.Connection."""
        self._post = post
        self._client.start()

    def anew(self, identity: Identity | None) -> None:
        """See connection.Connection. The session is the client id's: the next client resumes it, receipts and all."""
        old = self._client
        try:
            self._client = self._build(identity or self.identity)
        except IdentityError as error:
            log.error("cloud: %s; the connection stays as it was", error)
            return
        self.identity = identity or self.identity
        self._post(Disconnected("connecting anew"))
        old.stop()  # and when it has stopped, the new one starts: a client id connects once at a time

    def _stopped(self, generation: int) -> None:
        if generation < self._generation and not self._ended:
            self._client.start()

    def stop(self) -> None:
        """See connection.Connection."""
        self._ended = True
        self._client.stop()

    def publish(self, topic: str, payload: bytes, token: str, retain: bool = False) -> None:
        """See connection.Connection."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=retain)
        try:
            future = self._client.publish(packet)
        except (AwsCrtError, RuntimeError) as error:
            self._post(Acked(token, str(error)))
            return
        future.add_done_callback(lambda done: self._post(Acked(token, _puback_fault(done))))

    def subscribe(self, *topics: str) -> None:
        """See connection.Connection."""
        packet = mqtt5.SubscribePacket(
            subscriptions=[mqtt5.Subscription(topic_filter=topic, qos=mqtt5.QoS.AT_LEAST_ONCE) for topic in topics])
        try:
            future = self._client.subscribe(packet)
        except (AwsCrtError, RuntimeError) as error:
            self._post(Subscribed(str(error), topics))
            return
        future.add_done_callback(lambda done: self._post(Subscribed(_suback_fault(done), topics)))

    def _connected(self, generation: int, data: mqtt5.LifecycleConnectSuccessData) -> None:
        self._closed_in_a_row = 0
        if generation == self._generation:
            self._post(Connected(bool(data.negotiated_settings.rejoined_session)))

    def _failed(self, generation: int, data: mqtt5.LifecycleConnectFailureData) -> None:
        code = data.connack_packet.reason_code if data.connack_packet else None
        is_closed = code is None and getattr(data.exception, "name", "") in _CLOSED
        self._closed_in_a_row = self._closed_in_a_row + 1 if is_closed else 0
        if generation == self._generation:
            self._post(Disconnected(f"{self._endpoint} refused: {code!r}" if code is not None
                                    else f"{self._endpoint}: {data.exception}",
                                    code in _REFUSALS or self._closed_in_a_row >= CLOSED_IN_A_ROW))

    def _disconnected(self, generation: int, data: mqtt5.LifecycleDisconnectData) -> None:
        code = data.disconnect_packet.reason_code if data.disconnect_packet else None
        if generation == self._generation:
            self._post(Disconnected(f"{self._endpoint}: {code!r}" if code is not None
                                    else f"{self._endpoint}: {data.exception}",
                                    taken_over=code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER))

    def _received(self, data: mqtt5.PublishReceivedData) -> None:
        packet = data.publish_packet
        self._post(Received(packet.topic, bytes(packet.payload or b"")))


def _puback_fault(done: "Future[Any]") -> str:
    """A failing reason code is a normal result to the SDK; to us it is not sent."""
    error = done.exception()
    if error is not None:
        return str(error)
    puback = done.result().puback
    if puback is None:
        return "no PUBACK"
    return "" if puback.reason_code == mqtt5.PubackReasonCode.SUCCESS else repr(puback.reason_code)


def _suback_fault(done: "Future[Any]") -> str:
    error = done.exception()
    if error is not None:
        return str(error)
    refused = [code for code in done.result().reason_codes if code >= mqtt5.SubackReasonCode.UNSPECIFIED_ERROR]
    return repr(refused[0]) if refused else ""
