"""Lifecycle events: AWS IoT's word that a client came or went, with the fields, reasons and versions it documents."""
import json
from typing import Any

import pytest

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.lifecycle import Lifecycle
from local_cloud.gateway.packets import MQTT_3_1_1
from local_cloud.pki import LocalCa
from tests.gateway_rig import RawClient, Rig, in_loop, running, until


def events(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in rig.lifecycle]


async def told(rig: Rig, count: int) -> list[dict[str, Any]]:
    """The events, once there are so many."""
    await until(lambda: len(rig.lifecycle) >= count, f"{count} lifecycle events")
    return events(rig)


@in_loop
async def test_a_client_comes_and_takes_its_leave(ca: LocalCa) -> None:
    async with running(ca) as rig:
        client = await RawClient.connect(rig.port, rig.device("bridge"), "bridge")
        came, = await told(rig, 1)
        assert [message.topic for message in rig.lifecycle] == ["$aws/events/presence/connected/bridge"]
        certificate, = rig.registry.certificates
        assert came == {
            "clientId": "bridge", "timestamp": came["timestamp"], "eventType": "connected", "ipAddress": "127.0.0.1",
            "sessionIdentifier": came["sessionIdentifier"], "principalIdentifier": certificate, "versionNumber": 0}
        client.send(p.Disconnect(p.SUCCESS))
        _, gone = await told(rig, 2)
        assert rig.lifecycle[1].topic == "$aws/events/presence/disconnected/bridge"
        assert gone == {
            "clientId": "bridge", "timestamp": gone["timestamp"], "eventType": "disconnected", "versionNumber": 0,
            "clientInitiatedDisconnect": True, "disconnectReason": "CLIENT_INITIATED_DISCONNECT",
            "sessionIdentifier": came["sessionIdentifier"], "principalIdentifier": certificate}
        assert gone["timestamp"] >= came["timestamp"] and rig.gateway.counters.publishes == 0


@in_loop
async def test_a_broken_connection_and_the_next_one(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("bridge")
        client = await RawClient.connect(rig.port, device, "bridge", MQTT_3_1_1)
        client.close()
        _, gone = await told(rig, 2)
        assert (gone["disconnectReason"], gone["clientInitiatedDisconnect"]) == ("CONNECTION_LOST", False)
        later = await RawClient.connect(rig.port, device, "bridge")
        *_, again = await told(rig, 3)
        assert (again["eventType"], again["versionNumber"]) == ("connected", 1)
        assert again["sessionIdentifier"] != gone["sessionIdentifier"] and later.connack


@in_loop
async def test_a_taken_over_connection_ends_under_its_own_version(ca: LocalCa) -> None:
    async with running(ca) as rig:
        device = rig.device("bridge")
        clients = [await RawClient.connect(rig.port, device, "bridge") for _ in range(2)]
        found = sorted((one["versionNumber"], one["eventType"], one.get("disconnectReason"))
                       for one in await told(rig, 3))
        assert found == [(0, "connected", None), (0, "disconnected", "DUPLICATE_CLIENTID"), (1, "connected", None)]
        assert await clients[0].disconnected() == p.SESSION_TAKEN_OVER


@pytest.mark.parametrize(("how", "reason"), (
    ("deactivated", "API_INITIATED_DISCONNECT"), ("mute", "MQTT_KEEP_ALIVE_TIMEOUT"), ("wrong", "CLIENT_ERROR")))
@in_loop
async def test_reasons(ca: LocalCa, how: str, reason: str) -> None:
    async with running(ca, Limits.only(keep_alive_min_s=1)) as rig:
        client = await RawClient.connect(rig.port, rig.device("bridge"), "bridge", keep_alive_s=1)
        if how == "deactivated":
            rig.registry.set_status(next(iter(rig.registry.certificates)), "INACTIVE")
        elif how == "wrong":
            client.send(p.Connect("bridge"))
        assert (await told(rig, 2))[1]["disconnectReason"] == reason


@in_loop
async def test_subscribers_get_them_and_a_refused_client_makes_none(ca: LocalCa) -> None:
    async with running(ca) as rig:
        watcher = await RawClient.connect(rig.port, rig.device("watcher"), "watcher")
        await watcher.subscribe("$aws/events/presence/+/bridge")
        bridge = rig.device("bridge")
        client = await RawClient.connect(rig.port, bridge, "bridge")
        message = await watcher.message()
        assert (message.topic, json.loads(message.payload)["clientId"]) == (
            "$aws/events/presence/connected/bridge", "bridge")
        rig.registry.set_status(bridge_certificate(rig), "INACTIVE")
        assert len(await told(rig, 3)) == 3 and await client.disconnected() == p.ADMINISTRATIVE_ACTION
        with pytest.raises(OSError):
            await RawClient.connect(rig.port, bridge, "bridge")
        assert len(rig.lifecycle) == 3


def bridge_certificate(rig: Rig) -> str:
    return next(identity for identity, one in rig.registry.certificates.items() if "bridge" in one.things)


@in_loop
async def test_nothing_is_said_when_the_gateway_itself_ends_and_of_odd_names(ca: LocalCa) -> None:
    async with running(ca) as rig:
        clients = [await RawClient.connect(rig.port, rig.device(name), client_id)
                   for name, client_id in (("bridge", "bridge"), ("odd", "a+b"))]
        await told(rig, 1)
    assert [await client.disconnected() for client in clients] == [p.SERVER_SHUTTING_DOWN] * 2
    assert [one["eventType"] for one in events(rig)] == ["connected"]


class Client:
    """A connection as far as the events need it."""

    def __init__(self, client_id: str) -> None:
        self.client_id, self.principal, self.source_ip = client_id, "p", "10.0.0.1"
        self.ended_by: int | None = None


def test_versions_begin_anew_after_an_hour_away() -> None:
    said: list[dict[str, Any]] = []
    now = [0]
    lifecycle = Lifecycle(lambda topic, payload: said.append(json.loads(payload)), lambda: now[0])

    def visit(client: Any, ended_at_ms: int) -> int:
        lifecycle.came(client)
        now[0] = ended_at_ms
        lifecycle.gone(client)
        lifecycle.gone(client)  # told once
        return int(said[-1]["versionNumber"])

    assert [visit(Client("a"), 1000), visit(Client("a"), 2000), visit(Client("b"), 3000)] == [0, 1, 0]
    now[0] = 2000 + 3600 * 1000
    assert visit(Client("a"), now[0] + 1) == 0 and len(said) == 8
