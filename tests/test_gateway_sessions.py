"""Sessions of the device gateway: taken over, kept in order across connections, ended; wills and expiry."""
import asyncio

import pytest

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1, MQTT_5
from local_cloud.pki import LocalCa
from tests.gateway_rig import AwsClient, RawClient, in_loop, running, until


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
@in_loop
async def test_a_persistent_session_keeps_order_across_connections(ca: LocalCa, version: int, persistent: dict) -> None:
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
async def test_a_will_that_the_rule_engine_fails_on_ends_the_session_all_the_same(ca: LocalCa) -> None:
    def fails(message) -> None:
        raise RuntimeError("rule engine is broken")

    async with running(ca, on_publish=fails) as rig:
        client = await RawClient.connect(rig.port, rig.device("mortal"), "mortal", will=p.Will("wills", b"gone", 1))
        client.close()
        await until(lambda: not rig.gateway.broker.sessions, "the session's end")
        await until(lambda: len(rig.lifecycle) == 2, "the word that the client is gone")
        assert rig.payloads() == [b"gone"] and rig.gateway.counters.failed == 1


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
