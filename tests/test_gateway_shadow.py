"""The Device Shadow service of the local cloud, over MQTT and by boto3's requests: documents, versions, refusals."""
import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud import shadow_api
from local_cloud.gateway import Limits
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_3_1_1
from local_cloud.gateway.policy import ALLOWED, evaluate, parse
from local_cloud.gateway.shadow_document import DEEPEST, difference, merge
from local_cloud.gateway.shadows import Asked, Shadows, asked, may_be_subscribed
from local_cloud.http_wire import Request, Response, Server
from local_cloud.pki import LocalCa
from tests.gateway_rig import RawClient, Rig, in_loop, running, until
from tests.test_infra_device import policy as device_policy

ACCOUNT = "arn:aws:iot:eu-north-1:123456789012"
CLASSIC, NAMED = "$aws/things/t/shadow", "$aws/things/t/shadow/name/bridge"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalCa:
    return LocalCa(tmp_path_factory.mktemp("pki"))


class Desk:
    """Shadows of the thing t, and what they told, in order."""

    def __init__(self, per_s: float | None = None) -> None:
        self.now_s = 1000.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.metered: list[tuple[str, int]] = []
        self.shadows = Shadows({"t": None}, lambda topic, payload: self.told.append((topic, json.loads(payload))),
                               lambda: per_s, lambda: self.now_s, lambda *one: self.metered.append(one))

    def send(self, topic: str, payload: Any = b"") -> dict[str, dict[str, Any]]:
        """Publish; what was told then, by the rest of the topic."""
        self.told.clear()
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = asked(topic)
        assert request is not None
        self.shadows.answer(request, raw)
        assert all(told.startswith(topic.rpartition("/")[0]) for told, _ in self.told)
        return {told.removeprefix(topic + "/"): message for told, message in self.told}

    def update(self, state: Any, **more: Any) -> dict[str, dict[str, Any]]:
        return self.send(f"{NAMED}/update", {"state": state, **more})

    def get(self) -> dict[str, Any]:
        return self.send(f"{NAMED}/get")["accepted"]

    def refused(self, topic: str, payload: Any = b"") -> tuple[int, str]:
        told = self.send(topic, payload)
        assert list(told) == ["rejected"] and told["rejected"]["timestamp"] == self.now_s
        return told["rejected"]["code"], told["rejected"]["message"]


def test_an_update_is_accepted_told_as_delta_and_as_documents() -> None:
    desk = Desk()
    desk.update({"reported": {"color": "red", "on": True}})
    desk.now_s = 2000.0
    told = desk.update({"desired": {"color": "blue", "on": True}}, clientToken="c1")
    stamp = {"timestamp": 2000}
    assert told["accepted"] == {
        "state": {"desired": {"color": "blue", "on": True}}, "metadata": {"desired": {"color": stamp, "on": stamp}},
        "version": 2, "timestamp": 2000, "clientToken": "c1"}
    assert told["delta"] == {"state": {"color": "blue"}, "metadata": {"color": stamp}, "version": 2,
                             "timestamp": 2000, "clientToken": "c1"}
    before, after = told["documents"]["previous"], told["documents"]["current"]
    assert (before["version"], before["state"]) == (1, {"reported": {"color": "red", "on": True}})
    assert after["version"] == 2 and after["metadata"]["reported"]["color"] == {"timestamp": 1000}
    assert "delta" not in after["state"] and told["documents"]["clientToken"] == "c1"
    got = desk.send(f"{NAMED}/get", {"clientToken": "g"})["accepted"]
    assert got == {"state": {**after["state"], "delta": {"color": "blue"}}, "metadata": after["metadata"],
                   "version": 2, "timestamp": 2000, "clientToken": "g"}


def test_what_is_reported_as_desired_has_no_delta_and_what_is_only_reported_neither() -> None:
    desk = Desk()
    assert "delta" in desk.update({"desired": {"a": {"x": 1, "y": 2}}})
    told = desk.update({"reported": {"a": {"x": 1}, "more": 1}})
    assert told["delta"]["state"] == {"a": {"y": 2}} and set(told["delta"]["metadata"]["a"]) == {"y"}
    assert set(desk.update({"reported": {"a": {"y": 2}}})) == {"accepted", "documents"}
    assert "delta" not in desk.get()["state"]


def test_null_takes_away_and_an_empty_section_goes() -> None:
    desk = Desk()
    desk.update({"desired": {"a": 1, "b": {"c": 1, "d": 2}}, "reported": {"a": 1}})
    told = desk.update({"desired": {"a": None, "b": {"c": None}}})
    assert told["accepted"]["state"] == {"desired": {"a": None, "b": {"c": None}}}
    assert desk.get()["state"]["desired"] == {"b": {"d": 2}} == desk.shadows.document("t", "bridge")["state"]["desired"]
    desk.update({"desired": {"b": {"d": None}}})
    assert set(desk.get()["state"]) == {"reported"}, "what became empty is gone"
    desk.update({"desired": {"z": 1}})
    assert set(desk.update({"desired": None})) == {"accepted", "documents"}
    assert desk.get()["state"] == {"reported": {"a": 1}}
    desk.update(None)
    assert desk.get()["state"] == {} and desk.get()["version"] == 6


def test_an_array_is_replaced_as_a_whole() -> None:
    desk = Desk()
    desk.update({"desired": {"a": [1, {"x": 1}]}})
    desk.now_s = 1001.0
    desk.update({"desired": {"a": [2]}})
    got = desk.get()
    assert got["state"]["desired"] == {"a": [2]} and got["metadata"]["desired"]["a"] == [{"timestamp": 1001}]


def test_versions_count_on_after_a_deletion_and_a_stale_one_conflicts() -> None:
    desk = Desk()
    assert desk.refused(f"{NAMED}/get") == (404, "No shadow exists with name: bridge")
    assert desk.refused(f"{CLASSIC}/get") == (404, "No shadow exists with thing: t")
    desk.update({"desired": {"a": 1}})
    assert desk.refused(f"{NAMED}/update", {"state": {"desired": {"a": 2}}, "version": 7}) == (409, "Version conflict")
    assert desk.update({"desired": {"a": 2}}, version=1)["accepted"]["version"] == 2
    assert desk.get()["state"]["desired"] == {"a": 2}
    told = desk.send(f"{NAMED}/delete", {"clientToken": "d"})
    assert told == {"accepted": {"version": 2, "timestamp": 1000, "clientToken": "d"}}
    assert desk.refused(f"{NAMED}/delete")[0] == desk.refused(f"{NAMED}/get")[0] == 404
    assert desk.update({"desired": {"b": 1}})["accepted"]["version"] > 2, "not reset to 0"
    assert desk.get()["state"]["desired"] == {"b": 1}


def test_classic_and_named_shadows_are_apart() -> None:
    desk = Desk()
    desk.send(f"{CLASSIC}/update", {"state": {"desired": {"a": 1}}})
    desk.update({"desired": {"a": 2}})
    assert desk.send(f"{CLASSIC}/get")["accepted"]["state"]["desired"] == {"a": 1}
    assert desk.shadows.names("t") == ["bridge"]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(("payload", "code", "message"), [
    (b"{", 400, "Invalid JSON"), (b"[]", 400, "Invalid JSON"), (b"", 400, "Invalid JSON"),
    (b'{"state":{"desired":{"a":NaN}}}', 400, "Invalid JSON"),
    (b'{"state":{"desired":{"a":1e999}}}', 400, "Invalid JSON"),
    (b'{"state":{"desired":{"a":%s%s}}}' % (b"[" * 4000, b"]" * 4000), 400,
     "JSON contains too many levels of nesting; maximum is 8"),
    (b'{"desired":{"a":1}}', 400, "Missing required node: state"),
    (b'{"state":[]}', 400, "State node must be an object"),
    (b'{"state":{"desired":1}}', 400, "Desired node must be an object"),
    (b'{"state":{"reported":[1]}}', 400, "Reported node must be an object"),
    (b'{"state":{"delta":{}}}', 400, "State contains an invalid node"),
    (b'{"state":{"desired":{"a":[1,null]}}}', 400, "State contains an invalid node"),
    (b'{"state":{},"version":"1"}', 400, "Invalid version"), (b'{"state":{},"version":true}', 400, "Invalid version"),
    (b'{"state":{},"clientToken":7}', 400, "Invalid clientToken"),
    (b'{"state":{},"clientToken":"%s"}' % (b"x" * 65), 400, "Invalid clientToken"),
    (b'{"state":{"desired":{"a":"\xff"}}}', 415, "Unsupported documented encoding; supported encoding is UTF-8"),
    (b'{"state":{"desired":{"a":"%s"}}}' % (b"x" * 8192), 413, "The payload exceeds the maximum size allowed"),
    (json.dumps({"state": {"desired": nested(DEEPEST + 1)}}).encode(), 400,
     "JSON contains too many levels of nesting; maximum is 8")], ids=lambda value: str(value)[:30])
def test_a_bad_request_is_refused_by_awss_words_and_changes_nothing(payload: bytes, code: int, message: str) -> None:
    desk = Desk()
    desk.update({"desired": {"kept": 1}})
    assert desk.refused(f"{NAMED}/update", payload) == (code, message)
    assert desk.get()["version"] == 1 and desk.get()["state"]["desired"] == {"kept": 1}


def test_the_limits_themselves_are_within() -> None:
    desk = Desk()
    assert "accepted" in desk.update({"desired": nested(DEEPEST)}, clientToken="x" * 64)
    assert "accepted" in desk.update({"reported": {"b": "x" * 4000}})
    assert "accepted" in desk.update({"reported": {"c": "x" * 4000}})
    assert desk.refused(f"{NAMED}/update", {"state": {"reported": {"d": "x" * 200}}})[0] == 413, "8 KB together"


def test_a_refusal_carries_the_client_token() -> None:
    told = Desk().send(f"{NAMED}/update", {"state": 1, "clientToken": "mine"})
    assert told["rejected"]["clientToken"] == "mine"


def test_an_unknown_thing_and_too_many_requests_are_refused() -> None:
    desk = Desk(per_s=2)
    assert desk.refused("$aws/things/other/shadow/get") == (404, "Thing not found")
    desk.update({"desired": {"a": 1}})
    desk.update({"desired": {"a": 1}})
    assert desk.refused(f"{NAMED}/get") == (429, "Too Many Requests")
    desk.now_s += 1
    assert desk.get()["version"] == 2
    assert desk.shadows.operations == {"update": 2, "get": 1}
    assert desk.metered == [(NAMED, len('{"desired":{"a":1}}'))] * 3, "refusals are free"


VALUES = st.recursive(st.integers() | st.text(max_size=3) | st.booleans(),
                      lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner,
                                                                                  min_size=1, max_size=3), max_leaves=6)
SECTION = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@settings(max_examples=100, deadline=None)
@given(SECTION, SECTION)
def test_reporting_the_delta_leaves_none_and_metadata_has_the_shape_of_the_state(wanted: Any, reported: Any) -> None:
    values, times = merge({}, {}, reported, 1)
    delta = difference(wanted, values)
    merged, stamps = merge(values, times, delta, 2)
    assert difference(wanted, merged) == {}

    def shape(value: Any, stamp: Any) -> bool:
        if isinstance(value, dict):
            return set(value) == set(stamp) and all(shape(value[name], stamp[name]) for name in value)
        if isinstance(value, list):
            return len(value) == len(stamp) and all(map(shape, value, stamp))
        return set(stamp) == {"timestamp"}
    assert shape(merged, stamps)


def test_only_requests_are_topics_to_publish_to() -> None:
    assert asked(f"{NAMED}/update") == Asked("t", "bridge", "update")
    assert asked("$aws/things/a:b_c-1/shadow/delete") == Asked("a:b_c-1", None, "delete")
    for topic in (f"{NAMED}/update/accepted", f"{NAMED}/update/delta", f"{NAMED}/", "$aws/things//shadow/get",
                  "$aws/things/t/shadow/name//get", f"$aws/things/{'x' * 129}/shadow/get", "$aws/things/t/shadow/put",
                  f"$aws/things/t/shadow/name/{'x' * 65}/get", "aws/things/t/shadow/get"):
        assert asked(topic) is None, topic


@pytest.mark.parametrize(("topic_filter", "may"), [
    (f"{NAMED}/update/accepted", True), (f"{CLASSIC}/#", True), ("$aws/things/+/shadow/get/accepted", True),
    ("$aws/things/#", True), ("$aws/things/t/#", True), ("$aws/things/t/+/update/delta", True),
    ("$aws/things/t/jobs/notify", False), ("$aws/things/t", False), ("$aws/things/", False), ("$aws/rules/r/t", False)])
def test_what_may_be_subscribed_is_about_shadows(topic_filter: str, may: bool) -> None:
    assert may_be_subscribed(topic_filter) == may


# --- through the gateway

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


# --- the HTTPS data API

@pytest.fixture
def api() -> Iterator[tuple[Any, Desk]]:
    """boto3's client of the data API, served on a port of its own, and the shadows behind it."""
    desk = Desk()

    async def handle(request: Request) -> Response:
        return shadow_api.handle(desk.shadows, request) or Response(501, b"")

    loop, server = asyncio.new_event_loop(), Server(handle)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(10)
    yield boto3.client(
        "iot-data", endpoint_url=f"http://127.0.0.1:{server.port}", region_name="eu-north-1", aws_access_key_id="a",
        aws_secret_access_key="b", config=Config(retries={"total_max_attempts": 1})), desk
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def code(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    return str(refusal.value.response["Error"]["Code"])


def test_the_data_api_reads_and_writes_the_same_shadows(api: tuple[Any, Desk]) -> None:
    client, desk = api
    of = {"thingName": "t", "shadowName": "bridge"}
    answer = json.loads(client.update_thing_shadow(**of, payload='{"state":{"desired":{"a":1}}}')["payload"].read())
    assert answer["version"] == 1 and answer["state"] == {"desired": {"a": 1}}
    assert [topic for topic, _ in desk.told] == [f"{NAMED}/update/{one}" for one in ("accepted", "delta", "documents")]
    desk.told.clear()
    got = json.loads(client.get_thing_shadow(**of)["payload"].read())
    assert got["state"] == {"desired": {"a": 1}, "delta": {"a": 1}} and desk.told == []
    client.update_thing_shadow(thingName="t", payload='{"state":{"reported":{"b":1}}}')
    assert json.loads(client.get_thing_shadow(thingName="t")["payload"].read())["state"] == {"reported": {"b": 1}}
    for name in ("x", "y"):
        client.update_thing_shadow(thingName="t", shadowName=name, payload='{"state":{}}')
    listed = client.list_named_shadows_for_thing(thingName="t", pageSize=2)
    assert listed["results"] == ["bridge", "x"]
    rest = client.list_named_shadows_for_thing(thingName="t", pageSize=2, nextToken=listed["nextToken"])
    assert rest["results"] == ["y"] and "nextToken" not in rest
    assert json.loads(client.delete_thing_shadow(**of)["payload"].read())["version"] == 1
    assert client.list_named_shadows_for_thing(thingName="t")["results"] == ["x", "y"]


def test_the_data_api_refuses_by_awss_names_and_tells_nobody(api: tuple[Any, Desk]) -> None:
    client, desk = api
    of = {"thingName": "t", "shadowName": "bridge"}
    assert code(client.get_thing_shadow, **of) == "ResourceNotFoundException"
    assert code(client.get_thing_shadow, thingName="other") == "ResourceNotFoundException"
    for payload, kind in ((b"{", "InvalidRequestException"), (b'{"state":{},"version":3}', "ConflictException"),
                          (b"x" * 9000, "RequestEntityTooLargeException"),
                          (b'{"state":"\xff"}', "UnsupportedDocumentEncodingException")):
        assert code(client.update_thing_shadow, **of, payload=payload) == kind
    assert desk.told == []
