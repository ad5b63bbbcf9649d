"""The device gateway over real TLS: who gets in, what may be said, and what reaches whom, as on AWS IoT Core."""

import asyncio
import ssl
import time

import pytest

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.pki import LocalCa, certificate_id
from tests.gateway_rig import AwsClient, PahoClient, RawClient, in_loop, make_device, running, until

ACCOUNT = "arn:aws:iot:eu-north-1:123456789012"
BRIDGE_POLICY = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{ACCOUNT}:client/${{iot:Connection.Thing.ThingName}}",
     "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}},
    {"Effect": "Allow", "Action": "iot:Publish", "Resource": [
        f"{ACCOUNT}:topic/$aws/rules/edgecloud_readings/${{iot:Connection.Thing.ThingName}}",
        f"{ACCOUNT}:topic/edgecloud/alerts"]},
    {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{ACCOUNT}:topicfilter/edgecloud/receipts/*"},
    {"Effect": "Allow", "Action": "iot:Receive",
     "Resource": f"{ACCOUNT}:topic/edgecloud/receipts/${{iot:Connection.Thing.ThingName}}"}]}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalCa:
    return LocalCa(tmp_path_factory.mktemp("pki"))


async def refused_at_the_door(port: int, device) -> bool:
    """Whether the connection ends without a CONNACK."""
    try:
        client = await RawClient.open(port, device)
        await client.greet(p.Connect("x", MQTT_5))
    except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        return True
    return False


@in_loop
async def test_only_active_registered_certificates_of_the_ca_get_in(ca: LocalCa, tmp_path) -> None:
    async with running(ca) as rig:
        device = rig.device("door")
        stranger = make_device(ca, "unregistered")
        other_ca = LocalCa(tmp_path / "other")
        foreign = make_device(other_ca, "foreign")
        foreign.ca_path = ca.certificate_path
        (await RawClient.connect(rig.port, device, "door")).close()
        for status in ("INACTIVE", "REVOKED"):
            other = make_device(ca, status)
            rig.registry.add_certificate(other.pem, status)
            assert await refused_at_the_door(rig.port, other), status
        assert await refused_at_the_door(rig.port, stranger)
        assert await refused_at_the_door(rig.port, foreign)
        await until(lambda: rig.gateway.counters.refused == 4, "four refusals")


@in_loop
async def test_no_client_certificate_no_handshake(ca: LocalCa) -> None:
    async with running(ca) as rig:
        context = ssl.create_default_context(cafile=str(ca.certificate_path))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            reader, _ = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context, server_hostname="localhost")
            if not await reader.read(1):  # TLS 1.3 tells at the first read
                raise ConnectionResetError
        await until(lambda: rig.gateway.counters.refused == 1, "the refusal")


@in_loop
async def test_old_tls_is_refused(ca: LocalCa) -> None:
    async with running(ca) as rig:
        context = rig.device("old").context()
        with pytest.deprecated_call():
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", rig.port, ssl=context, server_hostname="localhost")


@in_loop
async def test_deactivating_a_certificate_drops_its_connections(ca: LocalCa) -> None:
    async with running(ca) as rig:
        keep, drop = rig.device("keep"), rig.device("drop")
        kept = await RawClient.connect(rig.port, keep, "keep")
        dropped = await RawClient.connect(rig.port, drop, "drop")
        rig.registry.set_status(certificate_id(drop.pem), "INACTIVE")
        assert await dropped.disconnected() == p.ADMINISTRATIVE_ACTION
        await kept.quiet()
        assert rig.gateway.counters.connections == 1


@in_loop
async def test_connack_states_what_aws_offers(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = await RawClient.open(rig.port, rig.device("connack"))
        connack = await client.greet(p.Connect("connack", MQTT_5, keep_alive_s=5, properties={
            "session_expiry_interval": 100_000}))
        assert connack == p.Connack(False, 0, {
            "maximum_qos": 1, "retain_available": 1, "topic_alias_maximum": 8, "receive_maximum": 100,
            "wildcard_subscription_available": 1, "subscription_identifier_available": 0,
            "shared_subscription_available": 0, "maximum_packet_size": 149_504, "session_expiry_interval": 3600,
            "server_keep_alive": 30})


@in_loop
async def test_the_aws_sdk_delivers_to_the_rule_engine(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = AwsClient(rig.port, rig.device("EdgeCloudAWS", BRIDGE_POLICY), "EdgeCloudAWS")
        settings = (await AwsClient.next(client.connected)).negotiated_settings
        assert settings.receive_maximum_from_server == 100
        assert settings.maximum_packet_size_to_server == 149_504
        assert await client.publish("$aws/rules/edgecloud_readings/EdgeCloudAWS", b"batch") == 0
        assert await client.publish("edgecloud/alerts", b"alert") == 0
        batch, alert = rig.received
        assert (batch.topic, batch.rule_name, batch.payload) == ("EdgeCloudAWS", "edgecloud_readings", b"batch")
        assert (alert.topic, alert.rule_name) == ("edgecloud/alerts", None)
        assert batch.client_id == "EdgeCloudAWS" and batch.source_ip == "127.0.0.1" and batch.qos == 1
        assert batch.principal in rig.registry.certificates
        await client.stop()


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_paho_publishes_and_receives(ca: LocalCa, version: int) -> None:
    @in_loop
    async def scenario() -> None:
        async with running(ca) as rig:
            client = await PahoClient(rig.port, rig.device("paho"), "paho", version).ready()
            client.client.subscribe("a/+", qos=1)
            await until(lambda: len(client.subscribed) == 1, "the SUBACK")
            client.client.publish("a/b", b"hello", qos=1)
            client.client.publish("a/b", b"zero", qos=0)
            await until(lambda: len(client.messages) == 2, "both messages")
            assert client.messages == [("a/b", b"hello", False), ("a/b", b"zero", False)]
            await until(lambda: len(client.acknowledged) == 2, "the PUBACK")
            assert rig.payloads() == [b"hello", b"zero"]
            client.stop()
    scenario()


@in_loop
async def test_connect_is_refused_without_a_matching_policy(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.open(rig.port, device)
        assert (await client.greet(p.Connect("someone-else", MQTT_5))).reason_code == p.NOT_AUTHORIZED
        client = await RawClient.open(rig.port, device, MQTT_3_1_1)
        assert (await client.greet(p.Connect("someone-else", MQTT_3_1_1))).reason_code == 5
        rig.registry.detach_thing("EdgeCloudAWS", next(iter(rig.registry.certificates)))
        client = await RawClient.open(rig.port, device)
        assert (await client.greet(p.Connect("EdgeCloudAWS", MQTT_5))).reason_code == p.NOT_AUTHORIZED


@in_loop
async def test_a_denied_publish(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS")
        assert (await client.publish("edgecloud/other")).reason_code == p.NOT_AUTHORIZED
        assert (await client.publish("$aws/rules/edgecloud_events/EdgeCloudAWS")).reason_code == p.NOT_AUTHORIZED
        assert (await client.publish("edgecloud/alerts")).reason_code == 0  # the connection stays
        client.send(p.Publish("edgecloud/other", b"", 0))  # nothing to acknowledge: disconnected
        assert await client.disconnected() == p.NOT_AUTHORIZED
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS", MQTT_3_1_1)
        client.send(p.Publish("edgecloud/other", b"", 1, packet_id=1))
        assert await client.disconnected() is None
        assert rig.payloads() == [b"x"]
        assert rig.gateway.counters.denied == 4


@in_loop
async def test_the_aws_sdk_sees_the_failing_puback(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = AwsClient(rig.port, rig.device("EdgeCloudAWS", BRIDGE_POLICY), "EdgeCloudAWS")
        await AwsClient.next(client.connected)
        assert await client.publish("edgecloud/other") == p.NOT_AUTHORIZED
        assert await client.subscribe("edgecloud/status/x") == [p.NOT_AUTHORIZED]
        assert await client.subscribe("edgecloud/receipts/EdgeCloudAWS") == [1]
        await client.stop()


@in_loop
async def test_denied_subscriptions_and_deliveries(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("EdgeCloudAWS", BRIDGE_POLICY)
        client = await RawClient.connect(rig.port, device, "EdgeCloudAWS")
        codes = await client.subscribe("edgecloud/receipts/#", "edgecloud/alerts", "#")
        assert codes == [1, p.NOT_AUTHORIZED, p.NOT_AUTHORIZED]
        await rig.gateway.publish("edgecloud/receipts/someone-else", b"not yours", 1)  # iot:Receive denies it
        await rig.gateway.publish("edgecloud/receipts/EdgeCloudAWS", b"yours", 1)
        assert (await client.message()).payload == b"yours"
        old = await RawClient.connect(rig.port, device, "EdgeCloudAWS", MQTT_3_1_1)
        assert await old.subscribe("edgecloud/alerts", "edgecloud/receipts/+") == [0x80, 1]


@in_loop
async def test_policies_change_under_a_live_connection(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("live"), "live")
        assert (await client.publish("a")).reason_code == 0
        certificate = next(iter(rig.registry.certificates))
        rig.registry.detach_policy("policy-live", certificate)
        assert (await client.publish("a")).reason_code == p.NOT_AUTHORIZED
        rig.registry.attach_policy("policy-live", certificate)
        assert (await client.publish("a")).reason_code == 0


@in_loop
async def test_basic_ingest_never_reaches_subscribers(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("basic"), "basic")
        assert await client.subscribe("#", "+/+", "$aws/rules/#", "$aws/rules/r/t") == [
            1, 1, p.TOPIC_FILTER_INVALID, p.TOPIC_FILTER_INVALID]
        assert (await client.publish("$aws/rules/rule_1/a/b", b"1")).reason_code == 0
        assert (await client.publish("$aws/rules/rule_1", b"2")).reason_code == 0
        assert [(m.rule_name, m.topic) for m in rig.received] == [("rule_1", "a/b"), ("rule_1", "")]
        assert (await client.publish("$aws/rules/not-a-name/a")).reason_code == p.TOPIC_NAME_INVALID
        assert (await client.publish("$aws/things/x/jobs/get")).reason_code == p.TOPIC_NAME_INVALID
        assert (await client.publish("$aws/rules/rule_1/a", retain=True)).reason_code == p.TOPIC_NAME_INVALID
        await client.quiet()
        assert rig.gateway.retained == {}


@in_loop
async def test_hash_does_not_match_the_parent(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("hash"), "hash")
        await client.subscribe("sensor/#")
        for topic in ("sensor", "sensor/", "sensor/data"):
            await rig.gateway.publish(topic, topic.encode(), 1)
        assert [(await client.message()).topic for _ in range(2)] == ["sensor/", "sensor/data"]
        await client.quiet()


@in_loop
async def test_a_client_id_is_taken_over(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("twin")
        first = AwsClient(rig.port, device, "twin")
        await AwsClient.next(first.connected)
        second = await RawClient.connect(rig.port, device, "twin")
        lost = await AwsClient.next(first.disconnected)
        assert int(lost.disconnect_packet.reason_code) == p.SESSION_TAKEN_OVER
        await first.stop()  # else the SDK comes back and takes over in turn
        assert rig.gateway.counters.taken_over >= 1
        second.close()


@pytest.mark.parametrize(("version", "persistent"), [
    (MQTT_3_1_1, {"clean_start": False}),
    (MQTT_5, {"clean_start": False, "properties": {"session_expiry_interval": 600}})])
def test_a_persistent_session_keeps_order_across_connections(ca: LocalCa, version: int, persistent: dict) -> None:
    @in_loop
    async def scenario() -> None:
        async with running(ca) as rig:
            device = rig.device("away")
            client = await RawClient.connect(rig.port, device, "away", version, **persistent)
            await client.subscribe("receipts/away")
            await rig.gateway.publish("receipts/away", b"0", 1)
            unacknowledged = await client.message(acknowledge=False)
            client.close()
            await until(lambda: rig.gateway.counters.connections == 0, "the end of the connection")
            for number in range(1, 60):
                await rig.gateway.publish("receipts/away", b"%d" % number, 1)
            await rig.gateway.publish("receipts/away", b"not kept", 0)
            client = await RawClient.connect(rig.port, device, "away", version, **persistent)
            assert client.connack and client.connack.session_present
            await rig.gateway.publish("receipts/away", b"60", 1)
            messages = [await client.message() for _ in range(61)]
            assert [int(one.payload) for one in messages] == list(range(61))
            assert messages[0].packet_id == unacknowledged.packet_id and not messages[0].dup
            await client.quiet()
    scenario()


@in_loop
async def test_sessions_end_as_asked(ca: LocalCa) -> None:
    kept = {"session_expiry_interval": 600}
    async with running(ca) as rig:
        device = rig.device("ends")

        async def present(version: int = MQTT_5, **connect) -> bool:
            client = await RawClient.connect(rig.port, device, "ends", version, **connect)
            client.send(p.Disconnect())
            await until(lambda: rig.gateway.counters.connections == 0, "the goodbye")
            return client.connack is not None and client.connack.session_present

        assert not await present(clean_start=False, properties=kept)
        assert await present(clean_start=False, properties=kept)
        assert not await present(MQTT_3_1_1, clean_start=False)  # 3.1.1 and 5 cannot resume each other
        assert not await present(clean_start=False, properties=kept)
        assert not await present(clean_start=True)
        assert not await present(clean_start=False)
        client = await RawClient.connect(rig.port, device, "ends", clean_start=False, properties=kept)
        client.send(p.Disconnect(properties={"session_expiry_interval": 0}))
        await until(lambda: not rig.gateway.broker.sessions, "the session's end")


@in_loop
async def test_a_session_expires(ca: LocalCa) -> None:
    async with running(ca, Limits(session_expiry_s=1, connect_interval_s=None)) as rig:
        device = rig.device("expires")
        client = await RawClient.connect(rig.port, device, "expires", MQTT_3_1_1, clean_start=False)
        await client.subscribe("a")
        client.close()
        await until(lambda: rig.gateway.counters.connections == 0, "the end of the connection")
        assert rig.gateway.broker.sessions
        await until(lambda: not rig.gateway.broker.sessions, "the session to expire")
        await rig.gateway.publish("a", b"nobody", 1)


@in_loop
async def test_retained_messages_need_the_exact_filter(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("retained")
        client = await RawClient.connect(rig.port, device, "retained")
        await client.publish("config/a", b"first", retain=True)
        await client.publish("config/a", b"second", retain=True)
        assert await client.subscribe("config/+", "config/#") == [1, 1]
        await client.quiet()
        assert await client.subscribe("config/a") == [1]
        message = await client.message()
        assert (message.payload, message.retain) == (b"second", True)
        await rig.gateway.publish("config/a", b"third", 1, retain=True)
        assert (await client.message()).retain is False  # an established subscription
        client.send(p.Publish("config/a", b"", 1, retain=True, packet_id=9))  # empty: forgotten
        assert {type(await client.receive()) for _ in range(2)} == {p.Ack, p.Publish}
        assert rig.gateway.retained == {}


@in_loop
async def test_retain_needs_its_own_permission(ca: LocalCa) -> None:
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": "*"}]}
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("retains", policy), "retains")
        assert (await client.publish("a")).reason_code == 0
        assert (await client.publish("a", retain=True)).reason_code == p.NOT_AUTHORIZED


@in_loop
async def test_the_will_is_published_unless_the_client_says_goodbye(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device, watcher_device = rig.device("mortal"), rig.device("watcher")
        watcher = await RawClient.connect(rig.port, watcher_device, "watcher")
        await watcher.subscribe("wills")
        will = p.Will("wills", b"gone", 1)
        client = await RawClient.connect(rig.port, device, "mortal", will=will)
        client.send(p.Disconnect())
        await until(lambda: rig.gateway.counters.connections == 1, "the goodbye")
        await watcher.quiet()
        for ending in ("drop", "take over", "disconnect with will"):
            client = await RawClient.connect(rig.port, device, "mortal", will=will)
            if ending == "drop":
                client.close()
            elif ending == "disconnect with will":
                client.send(p.Disconnect(p.DISCONNECT_WITH_WILL))
            else:
                await RawClient.connect(rig.port, device, "mortal")
            assert (await watcher.message()).payload == b"gone", ending
        assert rig.payloads() == [b"gone"] * 3


@in_loop
async def test_mqtt5_properties_travel(ca: LocalCa) -> None:
    sent = {"content_type": "application/json", "response_topic": "answers", "correlation_data": b"\x01",
            "payload_format_indicator": 1, "message_expiry_interval": 60,
            "user_property": [("k", "1"), ("k", "2")]}
    async with running(ca) as rig:
        device = rig.device("properties")
        client = await RawClient.connect(rig.port, device, "properties")
        await client.subscribe("p")
        client.send(p.Publish("p", b"", 1, packet_id=1, properties={**sent, "topic_alias": 3}))
        client.send(p.Publish("", b"by alias", 0, properties={"topic_alias": 3}))
        packets = [await client.receive() for _ in range(3)]
        messages = [one for one in packets if isinstance(one, p.Publish)]
        assert messages[0].properties == {**sent, "message_expiry_interval": pytest.approx(60, abs=1)}
        assert (messages[1].topic, messages[1].properties) == ("p", {})
        assert rig.received[0].mqtt5 == {
            "contentType": "application/json", "responseTopic": "answers", "correlationData": b"\x01",
            "payloadFormatIndicator": 1, "messageExpiryInterval": 60, "userProperties": [["k", "1"], ["k", "2"]]}


@in_loop
async def test_an_expired_message_is_not_delivered(ca: LocalCa) -> None:
    kept = {"clean_start": False, "properties": {"session_expiry_interval": 600}}
    async with running(ca) as rig:
        device = rig.device("late")
        client = await RawClient.connect(rig.port, device, "late", **kept)
        await client.subscribe("m")
        client.close()
        await until(lambda: rig.gateway.counters.connections == 0, "the end of the connection")
        sender = await RawClient.connect(rig.port, device, "sender")
        await sender.publish("m", b"short", properties={"message_expiry_interval": 1})
        await sender.publish("m", b"long", properties={"message_expiry_interval": 100})
        expires_at_s = rig.received[0].expires_at_s
        await until(lambda: asyncio.get_running_loop().time() > expires_at_s, "the first message to expire")
        client = await RawClient.connect(rig.port, device, "late", **kept)
        assert (await client.message()).payload == b"long"


@in_loop
async def test_what_belongs_to_a_gateway_only_ends_the_connection(ca: LocalCa) -> None:
    cases = [(p.Publish("a", b"", 2, packet_id=1), p.QOS_NOT_SUPPORTED),
             (p.Subscribe(1, [p.Subscription("a", 2)]), p.QOS_NOT_SUPPORTED),
             (p.Subscribe(1, [p.Subscription("a")], {"subscription_identifier": [1]}),
              p.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED),
             (p.Publish("a/+", b"", 1, packet_id=1), p.TOPIC_NAME_INVALID),
             (p.Publish("", b"", 0, properties={"topic_alias": 9}), p.TOPIC_ALIAS_INVALID),
             (p.Publish("", b"", 0, properties={"topic_alias": 1}), p.PROTOCOL_ERROR),
             (p.Connect("odd", MQTT_5), p.PROTOCOL_ERROR), (p.Ack(p.PUBREC, 1), p.PROTOCOL_ERROR),
             (p.Suback(1, [0]), p.PROTOCOL_ERROR), (p.Auth(0), p.PROTOCOL_ERROR)]
    async with running(ca) as rig:
        device = rig.device("odd")
        for packet, code in cases:
            client = await RawClient.connect(rig.port, device, "odd")
            client.send(packet)
            assert await client.disconnected() == code, packet
        client = await RawClient.connect(rig.port, device, "odd")
        client.send_bytes(b"\x30\x02\xff\xff")
        assert await client.disconnected() == p.MALFORMED_PACKET
        assert rig.received == []


@in_loop
async def test_pubacks_keep_their_order_while_the_rule_engine_is_slow(ca: LocalCa) -> None:
    gates: list[asyncio.Future[None]] = []

    async def slow(message) -> None:
        gate = asyncio.get_running_loop().create_future()
        gates.append(gate)
        await gate

    async with running(ca, Limits(publishes_per_s=None, connect_interval_s=None), slow) as rig:
        client = await RawClient.connect(rig.port, rig.device("slow"), "slow")
        client.send(*(p.Publish("a", b"", 1, packet_id=number) for number in range(1, 101)))
        await until(lambda: len(gates) == 100, "100 messages under way at once")
        for gate in reversed(gates[1:]):  # finished in the opposite order
            gate.set_result(None)
        for _ in range(3):  # nothing is acknowledged while the first is not finished
            await client.quiet()
        gates[0].set_result(None)
        acks = [await client.receive() for _ in range(100)]
        assert acks == [p.Ack(p.PUBACK, number) for number in range(1, 101)]


@in_loop
async def test_a_failing_rule_engine_is_a_failing_puback(ca: LocalCa) -> None:
    async def fails(message) -> None:
        raise RuntimeError("rule engine is broken")

    async with running(ca, on_publish=fails) as rig:
        client = await RawClient.connect(rig.port, rig.device("fails"), "fails")
        assert (await client.publish("a")).reason_code == p.UNSPECIFIED_ERROR
        assert rig.gateway.counters.failed == 1


@in_loop
async def test_the_cloud_publishes_to_devices_and_rules(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = AwsClient(rig.port, rig.device("reader"), "reader")
        await AwsClient.next(client.connected)
        assert await client.subscribe("edgecloud/receipts/reader") == [1]
        await rig.gateway.publish("edgecloud/receipts/reader", b"receipt", 1)
        assert (await AwsClient.next(client.messages)).publish_packet.payload == b"receipt"
        await rig.gateway.publish("$aws/rules/r/t", b"http", 1)
        assert [(m.rule_name, m.topic, m.client_id) for m in rig.received] == [
            (None, "edgecloud/receipts/reader", None), ("r", "t", None)]
        for topic in ("a/#", "", "$aws/things/x"):
            with pytest.raises(ValueError, match="topic"):
                await rig.gateway.publish(topic, b"")
        assert rig.gateway.disconnect("reader") and not rig.gateway.disconnect("nobody")
        await client.stop()


@in_loop
async def test_closing_tells_the_clients(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("closing"), "closing")
        await rig.gateway.close()
        assert await client.disconnected() == p.SERVER_SHUTTING_DOWN
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", rig.port)


@in_loop
async def test_thousands_of_publishes_a_second(ca: LocalCa) -> None:
    async def rule_engine(message) -> None:
        return None

    async with running(ca, on_publish=rule_engine) as rig:
        client = AwsClient(rig.port, rig.device("fast"), "fast")
        await AwsClient.next(client.connected)
        started_s, count = time.monotonic(), 5000
        await asyncio.gather(*[client.send("$aws/rules/r/t", b"x" * 200) for _ in range(count)])
        assert len(rig.received) == count
        assert count / (time.monotonic() - started_s) > 1000  # ~10,000 on an idle 2-core machine
        await client.stop()
