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

from edge_bridge.events import Acked, Connected, Disconnected, Event, Received, Subscribed
from edge_bridge.settings import Settings, SettingsError

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 30
PING_TIMEOUT_MS = 10_000
ACK_TIMEOUT_S = 60
SESSION_EXPIRY_S = 3600  # AWS IoT's own default maximum: receipts sent meanwhile wait there


class IotConnection:
    """awscrt's client, configured from the settings. Raises SettingsError for files that make no TLS identity."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = f"{settings.iot_endpoint}:{settings.iot_port}"
        self._post: Callable[[Event], None] = lambda event: None
        try:
            self._client = self._build(settings)
        except (AwsCrtError, RuntimeError, ValueError) as error:
            raise SettingsError([
                f"no TLS identity from {settings.certificate}, {settings.private_key} and {settings.root_ca}: {error}; "
                "expected PEM files, the key belonging to the certificate"]) from error

    def _build(self, settings: Settings) -> mqtt5.Client:
        return mqtt5_client_builder.mtls_from_path(
            settings.certificate, settings.private_key, ca_filepath=settings.root_ca,
            endpoint=settings.iot_endpoint, port=settings.iot_port, client_id=settings.client_id,
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,  # receipts wait across our restarts
            session_expiry_interval_sec=SESSION_EXPIRY_S,
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
            min_reconnect_delay_ms=1000, max_reconnect_delay_ms=max(1001, int(settings.reconnect_max * 1000)),
            keep_alive_interval_sec=KEEP_ALIVE_S, ping_timeout_ms=PING_TIMEOUT_MS, ack_timeout_sec=ACK_TIMEOUT_S,
            enable_metrics_collection=False,
            on_publish_received=self._received, on_lifecycle_connection_success=self._connected,
            on_lifecycle_connection_failure=self._failed, on_lifecycle_disconnection=self._disconnected)

    def start(self, post: Callable[[Event], None]) -> None:
        """See events.Connection."""
        self._post = post
        self._client.start()

    def stop(self) -> None:
        """See events.Connection."""
        self._client.stop()

    def publish(self, topic: str, payload: bytes, token: str) -> None:
        """See events.Connection."""
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)
        try:
            future = self._client.publish(packet)
        except (AwsCrtError, RuntimeError) as error:
            self._post(Acked(token, str(error)))
            return
        future.add_done_callback(lambda done: self._post(Acked(token, _puback_fault(done))))

    def subscribe(self, topic: str) -> None:
        """See events.Connection."""
        future = self._client.subscribe(mqtt5.SubscribePacket(
            subscriptions=[mqtt5.Subscription(topic_filter=topic, qos=mqtt5.QoS.AT_LEAST_ONCE)]))
        future.add_done_callback(lambda done: self._post(Subscribed(_suback_fault(done))))

    def _connected(self, data: mqtt5.LifecycleConnectSuccessData) -> None:
        self._post(Connected(bool(data.negotiated_settings.rejoined_session)))

    def _failed(self, data: mqtt5.LifecycleConnectFailureData) -> None:
        code = data.connack_packet.reason_code if data.connack_packet else None
        self._post(Disconnected(f"{self._endpoint} refused: {code!r}" if code is not None
                                else f"{self._endpoint}: {data.exception}"))

    def _disconnected(self, data: mqtt5.LifecycleDisconnectData) -> None:
        code = data.disconnect_packet.reason_code if data.disconnect_packet else None
        self._post(Disconnected(f"{self._endpoint}: {code!r}" if code is not None
                                else f"{self._endpoint}: {data.exception}"))

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
