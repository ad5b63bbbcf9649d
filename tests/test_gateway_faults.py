"""The gateway's fault switchboard: what a bridge must live through."""
import asyncio
import time

import pytest

from local_cloud.gateway import Faults, Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_5
from local_cloud.pki import LocalCa
from tests.gateway_rig import AwsClient, RawClient, in_loop, running, until


@in_loop
async def test_a_cut_link_drops_and_refuses_until_restored(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("cut")
        client = AwsClient(rig.port, device, "cut")
        await AwsClient.next(client.connected)
        rig.gateway.faults.cut()
        await AwsClient.next(client.disconnected)
        await AwsClient.next(client.failed)
        assert rig.gateway.counters.connections == 0 and rig.gateway.counters.refused >= 1
        waiting = client.send("$aws/rules/r/cut", b"kept by the client")
        rig.gateway.faults.restore()
        await AwsClient.next(client.connected)
        assert int((await waiting).puback.reason_code) == 0
        await client.stop()


@in_loop
async def test_a_black_hole_answers_nothing_until_restored(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("hole")
        client = await RawClient.connect(rig.port, device, "hole")
        rig.gateway.faults.black_hole()
        client.send(p.Publish("a", b"in the pipe", 1, packet_id=1))
        await rig.gateway.publish("b", b"", 1)
        newcomer = asyncio.ensure_future(RawClient.connect(rig.port, device, "newcomer"))
        with pytest.raises(TimeoutError):  # silence is what is tested, so it takes its time
            await asyncio.wait_for(client.receive(), 0.3)
        assert not newcomer.done() and rig.payloads() == [b""]
        rig.gateway.faults.restore()
        assert await client.receive() == p.Ack(p.PUBACK, 1)
        assert (await newcomer).connack.reason_code == 0
        assert rig.payloads() == [b"", b"in the pipe"]


@in_loop
async def test_a_connection_that_dies_in_a_black_hole_is_not_told(ca: LocalCa) -> None:
    async with running(ca, Limits.only(keep_alive_max_s=1)) as rig:
        client = await RawClient.connect(rig.port, rig.device("lost"), "lost", keep_alive_s=1)
        rig.gateway.faults.black_hole()
        await until(lambda: rig.gateway.counters.connections == 0, "the gateway to give the client up")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.receive(), 0.3)
        rig.gateway.faults.restore()
        assert await client.disconnected() is None
        assert not rig.gateway.broker.connections


@in_loop
async def test_connects_are_refused_while_others_stay(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("refused")
        client = await RawClient.connect(rig.port, device, "stays")
        rig.gateway.faults.refuse_connects(count=2)
        for _ in range(2):
            other = await RawClient.open(rig.port, device)
            assert (await other.greet(p.Connect("x", MQTT_5))).reason_code == p.SERVER_UNAVAILABLE
        await RawClient.connect(rig.port, device, "x")
        rig.gateway.faults.refuse_connects(reason_code=p.QUOTA_EXCEEDED)
        other = await RawClient.open(rig.port, device)
        assert (await other.greet(p.Connect("y", MQTT_5))).reason_code == p.QUOTA_EXCEEDED
        rig.gateway.faults.accept_connects()
        await RawClient.connect(rig.port, device, "y")
        await client.quiet()


@in_loop
async def test_pubacks_are_withheld_late_and_negative(ca: LocalCa) -> None:
    async with running(ca) as rig:
        faults = rig.gateway.faults
        client = await RawClient.connect(rig.port, rig.device("acks"), "acks")
        faults.withhold_puback("$aws/rules/readings", count=2)
        for number in (1, 2):
            client.send(p.Publish("$aws/rules/readings/t", b"withheld", 1, packet_id=number))
        assert (await client.publish("$aws/rules/readings/t", b"third", 3)).reason_code == 0
        assert rig.payloads() == [b"withheld", b"withheld", b"third"]  # accepted all the same
        faults.fail_puback(p.QUOTA_EXCEEDED, count=1)
        assert (await client.publish("a", b"rejected", 4)).reason_code == p.QUOTA_EXCEEDED
        assert b"rejected" not in rig.payloads()
        faults.delay_puback(0.3)
        started_s = time.monotonic()
        client.send(p.Publish("a", b"", 1, packet_id=5), p.Publish("a", b"", 1, packet_id=6))
        assert [await client.receive(), await client.receive()] == [p.Ack(p.PUBACK, 5), p.Ack(p.PUBACK, 6)]
        assert time.monotonic() - started_s > 0.29
        faults.withhold_puback(count=None)
        faults.clear()
        assert (await client.publish("a", b"", 7)).reason_code == 0


@in_loop
async def test_the_sdk_lives_through_a_drop_between_publish_and_puback(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = AwsClient(rig.port, rig.device("dropped"), "dropped")
        await AwsClient.next(client.connected)
        rig.gateway.faults.drop_before_puback("$aws/rules/")
        future = client.send("$aws/rules/r/dropped", b"twice")
        await AwsClient.next(client.disconnected)
        await AwsClient.next(client.connected)
        assert int((await asyncio.wait_for(future, 30)).puback.reason_code) == 0
        assert rig.payloads() == [b"twice", b"twice"]  # accepted, not acknowledged, so sent again
        await client.stop()


@in_loop
async def test_the_link_is_throttled(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("throttled"), "throttled")
        rig.gateway.faults.throttle(100_000)
        started_s = time.monotonic()
        for number in range(1, 6):
            await client.publish("a", b"x" * 40_000, number)
        assert time.monotonic() - started_s > 0.7  # 200 KB, of which a second's worth passes at once
        rig.gateway.faults.throttle(None)


@pytest.mark.parametrize(("switch", "arguments", "says"), [
    ("refuse_connects", {"reason_code": 0}, "0x00 does not fail"), ("fail_puback", {"reason_code": 0x10}, "0x80 to"),
    ("fail_puback", {"reason_code": 256}, "0x80 to 0xFF"), ("refuse_connects", {"count": 0}, "count 0"),
    ("withhold_puback", {"count": 0}, "count 0"), ("delay_puback", {"delay_s": 0}, "delay of 0 s"),
    ("throttle", {"bytes_per_s": 0}, "above 0")])
def test_a_switch_that_would_do_nothing_or_harm_is_refused(switch: str, arguments: dict, says: str) -> None:
    faults = Faults()
    before = faults.state()
    with pytest.raises(ValueError, match=says):
        getattr(faults, switch)(**arguments)
    assert faults.state() == before


@in_loop
async def test_counters_and_switches_can_be_read(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("counted"), "counted")
        await client.publish("a", b"12345")
        rig.gateway.faults.withhold_puback("x", 3)
        counters = rig.gateway.counters.as_dict()
        assert (counters["connects"], counters["connections"], counters["publishes"]) == (1, 1, 1)
        assert counters["bytes_in"] > 20 and counters["bytes_out"] > 8
        state = rig.gateway.faults.state()
        assert state["link"] == "up"
        assert [(one["topic_prefix"], one["left"]) for one in state["pubacks"]] == [("x", 3)]
