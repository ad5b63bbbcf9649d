"""Device shadows through the gateway: what a device may do with its own, over MQTT, and what rules see."""
import json
from typing import Any

from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1
from local_cloud.gateway.policy import ALLOWED, evaluate, parse
from local_cloud.gateway.shadows import Asked
from local_cloud.pki import LocalCa
from tests.gateway_rig import RawClient, Rig, in_loop, running, until
from tests.shadow_desk import CLASSIC, NAMED
from tests.test_infra_device import policy as device_policy

ACCOUNT = "arn:aws:iot:eu-north-1:123456789012"


def policy(thing: str) -> dict[str, Any]:
    """What a bridge may do with its own shadow."""
    shadow = f"$aws/things/{thing}/shadow/name/bridge"
    return {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:Publish",
         "Resource": [f"{ACCOUNT}:topic/{shadow}/get", f"{ACCOUNT}:topic/{shadow}/update"]},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{ACCOUNT}:topicfilter/{shadow}/*"},
        {"Effect": "Allow", "Action": "iot:Receive", "Resource": f"{ACCOUNT}:topic/{shadow}/*"}]}


def seen_by_rules(rig: Rig) -> list[str]:
    """What the rule engine got of the shadow `bridge`."""
    return [m.topic.rpartition("bridge/")[2] for m in rig.received if m.topic.startswith("$aws/things/")]


async def said(client: RawClient) -> tuple[str, dict[str, Any]]:
    packet = await client.message()
    return packet.topic, json.loads(packet.payload)


@in_loop
async def test_a_device_gets_and_updates_its_own_shadow_and_rules_see_it(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        client = await RawClient.connect(rig.port, rig.device("t", policy("t")), "t")
        assert await client.subscribe(f"{NAMED}/get/accepted", f"{NAMED}/get/rejected", f"{NAMED}/update/accepted",
                                      f"{NAMED}/update/delta") == [1, 1, 1, 1]
        client.send(p.Publish(f"{NAMED}/get", b"", 1, packet_id=1))
        answers = [await client.receive(), await client.receive()]
        [refusal] = [one for one in answers if isinstance(one, p.Publish)]
        assert refusal.topic == f"{NAMED}/get/rejected" and json.loads(refusal.payload)["code"] == 404
        assert [one.reason_code for one in answers if isinstance(one, p.Ack)] == [p.SUCCESS]
        rig.gateway.shadows.do(Asked("t", "bridge", "update"), b'{"state":{"desired":{"a":1}}}')
        assert (await said(client))[0] == f"{NAMED}/update/accepted"
        topic, delta = await said(client)
        assert (topic, delta["state"]) == (f"{NAMED}/update/delta", {"a": 1})
        await until(lambda: len(seen_by_rules(rig)) == 5, "request, refusal, accepted, delta and documents")
        assert seen_by_rules(rig) == ["get", "get/rejected", "update/accepted", "update/delta", "update/documents"]
        client.close()


@in_loop
async def test_the_policy_and_the_reserved_topics_hold(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        rig.registry.add_thing("other")
        client = await RawClient.connect(rig.port, rig.device("t", policy("t")), "t")
        other = "$aws/things/other/shadow/name/bridge"
        for topic in (f"{other}/update", f"{CLASSIC}/update", f"{NAMED}/delete"):
            assert (await client.publish(topic, b'{"state":{}}')).reason_code == p.NOT_AUTHORIZED, topic
        for topic in (f"{NAMED}/update/accepted", f"{NAMED}/update/delta", "$aws/things/t/jobs/get", "$aws/things/t"):
            assert (await client.publish(topic)).reason_code == p.TOPIC_NAME_INVALID, topic
        assert (await client.publish(f"{NAMED}/update", b"{}", retain=True)).reason_code == p.TOPIC_NAME_INVALID
        assert await client.subscribe(f"{other}/update/delta", "$aws/things/+/shadow/name/bridge/update/delta",
                                      "$aws/rules/r/t") == [p.NOT_AUTHORIZED, p.NOT_AUTHORIZED, p.TOPIC_FILTER_INVALID]
        assert rig.gateway.shadows.operations == {} and seen_by_rules(rig) == []
        client.close()


def test_the_templates_policy_lets_a_thing_have_its_own_shadow_and_no_other() -> None:
    statements = parse(device_policy())
    context = {"iot:Connection.Thing.ThingName": "t", "iot:ClientId": "t", "iot:Connection.Thing.IsAttached": "true"}

    def may(action: str, resource: str) -> bool:
        return evaluate(statements, f"iot:{action}", f"{ACCOUNT}:{resource}", context) == ALLOWED
    assert may("Publish", f"topic/{NAMED}/get") and may("Publish", f"topic/{NAMED}/update")
    assert not may("Publish", f"topic/{NAMED}/delete") and not may("Publish", f"topic/{CLASSIC}/update")
    for operation, answer in (("get", "accepted"), ("update", "rejected"), ("update", "delta"), ("delete", "accepted")):
        topic = f"{NAMED}/{operation}/{answer}"
        assert may("Subscribe", f"topicfilter/{topic}") and may("Receive", f"topic/{topic}")
        other = topic.replace("/t/", "/other/")
        assert not may("Subscribe", f"topicfilter/{other}") and not may("Receive", f"topic/{other}")
    assert not may("Publish", f"topic/{NAMED.replace('/t/', '/other/')}/update")


@in_loop
async def test_mqtt_3_is_answered_too_and_cut_off_for_what_is_not_allowed(ca: LocalCa) -> None:
    async with running(ca, Limits()) as rig:
        device = rig.device("t", policy("t"))
        client = await RawClient.connect(rig.port, device, "t", MQTT_3_1_1, clean_start=True)
        await client.subscribe(f"{NAMED}/update/accepted")
        client.send(p.Publish(f"{NAMED}/update", b'{"state":{"reported":{"a":1}}}', 0))
        assert (await said(client))[1]["version"] == 1
        client.send(p.Publish(f"{CLASSIC}/update", b"{}", 0))
        assert await client.disconnected() is None
