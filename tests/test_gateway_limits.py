"""The gateway's quotas, enforced and lifted: what a bridge must keep to."""
import asyncio
import time

import pytest
from awscrt import mqtt5

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.pki import LocalCa
from tests.gateway_rig import AwsClient, RawClient, in_loop, running, until

KIB = 1024


def test_the_defaults_are_aws_s() -> None:
    limits = Limits()
    assert (limits.publishes_per_s, limits.bytes_per_s, limits.payload_bytes) == (100, 524_288, 131_072)
    assert (limits.unacked_inbound, limits.topic_slashes, limits.topic_bytes) == (100, 7, 256)
    limits.assign(Limits.lifted())
    assert limits == Limits.lifted() and limits.publishes_per_s is None


def test_a_bucket_keeps_its_rate() -> None:
    bucket = TokenBucket(0.0)
    assert sum(bucket.take(100, 0.0) for _ in range(150)) == 100
    assert sum(bucket.take(100, 0.5) for _ in range(150)) == 50
    assert bucket.wait_s(100, 0.5) == pytest.approx(0.01)
    assert bucket.take(None, 0.5)
    assert TokenBucket(0.0).spend(3000, 1000, 0.0) == pytest.approx(2.0)


@in_loop
async def test_publishes_over_100_a_second_are_discarded(ca: LocalCa) -> None:
    async with running(ca, Limits.only(publishes_per_s=100)) as rig:
        client = await RawClient.connect(rig.port, rig.device("eager"), "eager")
        client.send(*(p.Publish("a", b"%d" % number, 1, packet_id=number) for number in range(1, 301)))
        await client_sees_pubacks(client, 100)
        counters = rig.gateway.counters
        assert counters.publishes == len(rig.received) == 300 - counters.discarded
        assert 100 <= counters.publishes <= 130  # 100 at once and what the passing time adds
        rig.gateway.limits = Limits.lifted()  # at run time
        client.send(*(p.Publish("b", b"", 1, packet_id=number) for number in range(1001, 1301)))
        await until(lambda: sum(message.topic == "b" for message in rig.received) == 300, "all 300 now")


async def client_sees_pubacks(client: RawClient, at_least: int) -> None:
    """That many PUBACKs and then, behind a PINGREQ, no others than for accepted messages."""
    client.send(p.Pingreq())
    acks = 0
    while not isinstance(packet := await client.receive(), p.Pingresp):
        assert isinstance(packet, p.Ack) and packet.reason_code == 0
        acks += 1
    assert acks >= at_least


@in_loop
async def test_deliveries_count_into_the_same_100(ca: LocalCa) -> None:
    async with running(ca, Limits.only(publishes_per_s=100)) as rig:
        client = await RawClient.connect(rig.port, rig.device("both"), "both")
        await client.subscribe("down")
        for _ in range(100):
            await rig.gateway.publish("down", b"", 1)
        for _ in range(100):
            assert (await client.message()).topic == "down"
        client.send(*(p.Publish("up", b"", 1, packet_id=number) for number in range(1, 101)))
        await client_sees_pubacks(client, 0)
        assert rig.gateway.counters.discarded > 50
        await rig.gateway.publish("down", b"late but kept", 1)  # QoS 1 to a client waits, it is not lost
        assert (await client.message()).payload == b"late but kept"


@in_loop
async def test_throughput_over_the_limit_is_delayed(ca: LocalCa) -> None:
    async with running(ca, Limits.only(bytes_per_s=512 * KIB)) as rig:
        client = await RawClient.connect(rig.port, rig.device("heavy"), "heavy")
        started_s = time.monotonic()
        client.send(*(p.Publish("a", b"x" * 128 * KIB, 1, packet_id=number) for number in range(1, 13)))  # 1.5 MiB
        for number in range(1, 13):
            assert await client.receive() == p.Ack(p.PUBACK, number)
        assert time.monotonic() - started_s > 1.5  # a second's worth passes at once
        assert rig.gateway.counters.delayed > 0 and len(rig.received) == 12


@in_loop
async def test_the_sdk_s_own_pace_passes_without_loss(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = AwsClient(rig.port, rig.device("paced"), "paced", extended_validation_and_flow_control_options=(
            mqtt5.ExtendedValidationAndFlowControlOptions.AWS_IOT_CORE_DEFAULTS))
        await AwsClient.next(client.connected)
        results = await asyncio.gather(*[client.send("$aws/rules/r/t", b"x" * 200) for _ in range(250)])
        assert {int(one.puback.reason_code) for one in results} == {0}
        assert rig.gateway.counters.discarded == 0
        await client.stop()


@in_loop
async def test_payloads_over_128_kib_end_the_connection(ca: LocalCa) -> None:
    async with running(ca, Limits.only(payload_bytes=128 * KIB, packet_bytes=146 * KIB)) as rig:
        device = rig.device("big")
        client = await RawClient.connect(rig.port, device, "big")
        assert (await client.publish("a", b"x" * 128 * KIB)).reason_code == 0
        client.send(p.Publish("a", b"x" * (128 * KIB + 1), 1, packet_id=1))
        assert await client.disconnected() == p.QUOTA_EXCEEDED
        client = await RawClient.connect(rig.port, device, "big")
        client.send_bytes(b"\x32\xff\xff\xff\x7f")  # announces 256 MiB
        assert await client.disconnected() == p.PACKET_TOO_LARGE
        assert len(rig.received) == 1


@in_loop
async def test_the_sdk_sends_128_kib_and_no_more_than_the_packet_limit(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = AwsClient(rig.port, rig.device("full"), "full")
        await AwsClient.next(client.connected)
        assert await client.publish("$aws/rules/r/full", b"x" * 128 * KIB) == 0
        assert len(rig.received[0].payload) == 128 * KIB
        with pytest.raises(Exception, match="PACKET_VALIDATION"):
            await client.publish("$aws/rules/r/full", b"x" * 150 * KIB)
        await client.stop()


@in_loop
async def test_topics_are_limited_but_basic_ingest_s_prefix_is_free(ca: LocalCa) -> None:
    async with running(ca, Limits.only(topic_slashes=7, topic_bytes=256)) as rig:
        client = await RawClient.connect(rig.port, rig.device("deep"), "deep")
        assert (await client.publish("1/2/3/4/5/6/7/8")).reason_code == 0
        assert (await client.publish("1/2/3/4/5/6/7/8/9")).reason_code == p.TOPIC_NAME_INVALID
        assert (await client.publish("$aws/rules/r/1/2/3/4/5/6/7/8")).reason_code == 0
        assert (await client.publish("$aws/rules/r/1/2/3/4/5/6/7/8/9")).reason_code == p.TOPIC_NAME_INVALID
        assert (await client.publish("ä" * 128)).reason_code == 0  # 256 bytes of UTF-8
        assert (await client.publish("ä" * 128 + "a")).reason_code == p.TOPIC_NAME_INVALID
        assert (await client.publish("$aws/rules/r/" + "a" * 256)).reason_code == 0
        assert await client.subscribe("1/2/3/4/5/6/7/#", "1/2/3/4/5/6/7/8/#") == [1, p.TOPIC_FILTER_INVALID]


@in_loop
async def test_subscriptions_are_limited(ca: LocalCa) -> None:
    async with running(ca, Limits.only(subscriptions=9, subscriptions_per_request=8)) as rig:
        client = await RawClient.connect(rig.port, rig.device("many"), "many")
        assert await client.subscribe(*[f"a{number}" for number in range(9)]) == [p.QUOTA_EXCEEDED] * 9
        assert await client.subscribe(*[f"a{number}" for number in range(8)]) == [1] * 8
        assert await client.subscribe("a8", "a9", "a0") == [1, p.QUOTA_EXCEEDED, 1]
        assert await client.subscribe("$share/group/a") == [p.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED]
        assert await client.subscribe("a/#/b", "a+") == [p.TOPIC_FILTER_INVALID] * 2


@in_loop
async def test_one_connect_a_second_per_client_id(ca: LocalCa) -> None:
    async with running(ca, Limits.only(connect_interval_s=1.0)) as rig:
        device = rig.device("again")
        (await RawClient.connect(rig.port, device, "again")).close()
        client = await RawClient.open(rig.port, device)
        assert (await client.greet(p.Connect("again", MQTT_5))).reason_code == p.QUOTA_EXCEEDED
        client = await RawClient.open(rig.port, device, MQTT_3_1_1)
        assert (await client.greet(p.Connect("again", MQTT_3_1_1))).reason_code == 3
        (await RawClient.connect(rig.port, device, "another")).close()
        rig.gateway.limits.connect_interval_s = 0.01
        await RawClient.connect(rig.port, device, "again")


@in_loop
async def test_client_ids_are_limited_and_made_up(ca: LocalCa) -> None:
    async with running(ca, Limits.only(client_id_bytes=128)) as rig:
        device = rig.device("ids")
        client = await RawClient.open(rig.port, device)
        connack = await client.greet(p.Connect("x" * 129, MQTT_5))
        assert connack.reason_code == p.CLIENT_IDENTIFIER_NOT_VALID
        connack = await (await RawClient.open(rig.port, device)).greet(p.Connect("", MQTT_5))
        assert connack.properties["assigned_client_identifier"] in rig.gateway.broker.sessions
        old = await RawClient.open(rig.port, device, MQTT_3_1_1)
        assert (await old.greet(p.Connect("", MQTT_3_1_1, clean_start=False))).reason_code == 2


@in_loop
async def test_silence_over_one_and_a_half_keep_alives_ends_it(ca: LocalCa) -> None:
    async with running(ca, Limits.only(keep_alive_min_s=1, keep_alive_max_s=1)) as rig:
        device, started_s = rig.device("silent"), time.monotonic()
        client = await RawClient.connect(rig.port, device, "silent", keep_alive_s=1)
        assert await client.disconnected() == p.KEEP_ALIVE_TIMEOUT
        assert time.monotonic() - started_s > 1.4


@in_loop
async def test_no_more_than_100_await_their_puback(ca: LocalCa) -> None:
    async def never(message) -> None:
        await asyncio.get_running_loop().create_future()

    async with running(ca, Limits.only(unacked_inbound=100), never) as rig:
        device = rig.device("greedy")
        client = await RawClient.connect(rig.port, device, "greedy")
        client.send(*(p.Publish("a", b"", 1, packet_id=number) for number in range(1, 102)))
        assert await client.disconnected() == p.RECEIVE_MAXIMUM_EXCEEDED
        assert len(rig.received) == 100
        old = await RawClient.connect(rig.port, device, "old", MQTT_3_1_1)  # cannot know: is not read any more
        old.send(*(p.Publish("b", b"", 1, packet_id=number) for number in range(1, 151)))
        await until(lambda: len(rig.received) == 200, "100 more")
        same = await RawClient.connect(rig.port, device, "same")
        same.send(p.Publish("c", b"", 1, packet_id=7), p.Publish("c", b"", 1, packet_id=7))
        assert await same.receive() == p.Ack(p.PUBACK, 7, p.PACKET_IDENTIFIER_IN_USE)
        assert len(rig.received) == 201


@in_loop
async def test_a_client_s_receive_maximum_is_kept(ca: LocalCa) -> None:
    async with running(ca, Limits.only(unacked_outbound=100)) as rig:
        client = await RawClient.connect(rig.port, rig.device("narrow"), "narrow", properties={"receive_maximum": 2})
        await client.subscribe("a")
        for number in range(5):
            await rig.gateway.publish("a", b"%d" % number, 1)
        first = [await client.message(acknowledge=False) for _ in range(2)]
        await client.quiet()
        client.send(p.Ack(p.PUBACK, first[0].packet_id))
        assert (await client.message(acknowledge=False)).payload == b"2"
        await client.quiet()


@in_loop
async def test_a_messages_expiry_is_capped(ca: LocalCa) -> None:
    async with running(ca, Limits.only(message_expiry_max_s=60)) as rig:
        client = await RawClient.connect(rig.port, rig.device("lasting"), "lasting")
        await client.subscribe("a")
        for wanted_s, least_s, most_s in ((1_000_000, 2, 60), (30, 2, 30), (0, 0, 1)):
            client.send(p.Publish("a", b"", 0, properties={"message_expiry_interval": wanted_s}))
            assert least_s <= (await client.message()).properties["message_expiry_interval"] <= most_s, wanted_s


@in_loop
async def test_stored_messages_come_slowly(ca: LocalCa) -> None:
    kept = {"clean_start": False, "properties": {"session_expiry_interval": 60}}
    async with running(ca, Limits.only(stored_messages_per_s=10)) as rig:
        device = rig.device("stored")
        client = await RawClient.connect(rig.port, device, "stored", **kept)
        await client.subscribe("a")
        client.close()
        await until(lambda: rig.gateway.counters.connections == 0, "the end of the connection")
        for number in range(15):
            await rig.gateway.publish("a", b"%d" % number, 1)
        started_s = time.monotonic()
        client = await RawClient.connect(rig.port, device, "stored", **kept)
        assert [int((await client.message()).payload) for _ in range(15)] == list(range(15))
        assert time.monotonic() - started_s > 0.4  # ten pass at once
