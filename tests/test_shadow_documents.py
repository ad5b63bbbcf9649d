"""Shadow documents as AWS documents them: updates, deltas, versions, and requests that are refused."""
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.gateway.shadow_document import DEEPEST, difference, merge
from local_cloud.gateway.shadows import Asked, asked, may_be_subscribed
from tests.shadow_desk import CLASSIC, NAMED, Desk


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
