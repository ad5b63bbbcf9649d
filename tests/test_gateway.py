"""The device gateway over real TLS: what is published, and what reaches whom, as on AWS IoT Core."""
import asyncio

import pytest

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.pki import LocalCa
from tests.gateway_rig import AwsClient, PahoClient, RawClient, in_loop, running, until


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
@in_loop
async def test_paho_publishes_and_receives(ca: LocalCa, version: int) -> None:
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


@in_loop
async def test_basic_ingest_never_reaches_subscribers(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("basic"), "basic")
        assert await client.subscribe("#", "+/+", "$aws/rules/#", "$aws/rules/r/t") == [
            1, 1, p.TOPIC_FILTER_INVALID, p.TOPIC_FILTER_INVALID]
        assert (await client.publish("$aws/rules/rule_1/a/b", b"1")).reason_code == 0
        assert (await client.publish("$aws/rules/rule_1", b"2")).reason_code == 0
        assert [(m.rule_name, m.topic) for m in rig.received] == [("rule_1", "a/b"), ("rule_1", "")]
        for topic in ("$aws/rules/not-a-name/a", "$aws/rules/", "$aws/rules//a",
                      "$aws/rules//$aws/things/basic/shadow/get"):
            assert (await client.publish(topic)).reason_code == p.TOPIC_NAME_INVALID, topic
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
        for topic in ("a/#", "", "$aws/things/x", "$aws/rules//a", "$aws/rules/no-name/a"):
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
async def test_thousands_of_publishes_at_once_are_all_acknowledged(ca: LocalCa) -> None:
    async def rule_engine(message) -> None:
        return None

    async with running(ca, on_publish=rule_engine) as rig:
        client = AwsClient(rig.port, rig.device("fast"), "fast")
        await AwsClient.next(client.connected)
        count = 5000
        acknowledged = await asyncio.gather(*[client.send("$aws/rules/r/t", b"x" * 200) for _ in range(count)])
        assert len(rig.received) == count and {int(one.puback.reason_code) for one in acknowledged} == {0}
        await client.stop()
