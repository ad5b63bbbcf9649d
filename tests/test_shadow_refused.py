"""A cloud that does not want the shadow, or does not answer: delivery goes on, the shadow is tried again later."""
import logging
from collections.abc import Callable

import pytest

from contract import topics
from edge_bridge.connection import Received
from edge_bridge.shadow_requests import BROKEN_IN_A_ROW, REFUSED_S, RETRY_MOST_S
from tests.bridge_rig import until
from tests.shadow_rig import STATUS, THING, CloudSide, Site
from tests.shadow_rig import cloud as cloud
from tests.shadow_rig import site as site


def test_a_policy_without_the_shadow_is_told_once_and_tried_again_later(
        site: Callable[..., Site], cloud: CloudSide, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cloud.fault = "NOT_AUTHORIZED"
    one = site().connect()
    until(lambda: one.shadow.status()["state"] == "fault", "the refusal")
    assert "NOT_AUTHORIZED" in one.shadow.status()["fault"] and one.remote.in_force.batch_age_s == 10
    for _ in range(3):
        cloud.cut()
        one.connect()
    one.has_looked()
    assert cloud.subscribes == 1
    one.ahead_s += REFUSED_S + 1
    until(lambda: cloud.subscribes == 2, "another attempt in an hour")
    assert sum(r.levelname == "WARNING" for r in caplog.records) == 1, "told once, not at every connection"
    cloud.fault = ""
    one.ahead_s += REFUSED_S + 1
    until(lambda: one.shadow.status()["state"] == "on", "the shadow")
    assert any("works again" in r.message for r in caplog.records)


def test_a_link_that_breaks_meanwhile_is_no_refusal(site: Callable[..., Site], cloud: CloudSide) -> None:
    cloud.fault = "AWS_ERROR_MQTT5_OPERATION_FAILED_DUE_TO_OFFLINE_QUEUE_POLICY"
    one = site().connect()
    until(lambda: cloud.subscribes == 1, "the attempt")
    cloud.cut()
    cloud.fault = ""
    one.ready()


def test_a_publish_that_is_not_allowed_is_the_same(site: Callable[..., Site], cloud: CloudSide) -> None:
    cloud.publish_fault = "<PubackReasonCode.NOT_AUTHORIZED: 135>"
    one = site().connect()
    until(lambda: one.shadow.status()["state"] == "fault", "the refusal")
    assert len(cloud.sent) == 1


def test_a_cloud_that_ends_connections_for_it_is_asked_no_more(site: Callable[..., Site], cloud: CloudSide) -> None:
    cloud.silent = True
    one = site()
    for attempt in range(BROKEN_IN_A_ROW):
        one.connect()
        until(lambda wanted=attempt + 1: len(cloud.sent) == wanted, "a question")
        cloud.cut()
    until(lambda: one.shadow.status()["state"] == "fault", "the end of it")
    one.connect()
    one.ahead_s += 60
    one.has_looked()
    assert len(cloud.sent) == BROKEN_IN_A_ROW


def test_no_answer_is_no_end(site: Callable[..., Site], cloud: CloudSide) -> None:
    cloud.silent = True
    one = site().connect()
    until(lambda: len(cloud.sent) == 1, "a question")
    cloud.silent = False

    def later() -> bool:
        one.ahead_s += RETRY_MOST_S / 10
        return one.shadow.status()["state"] == "on"
    until(later, "an answer")


def test_a_cloud_that_is_too_busy_is_asked_again_soon(site: Callable[..., Site], cloud: CloudSide) -> None:
    cloud.rejection = 500
    one, states = site().connect(), set()
    until(lambda: len(cloud.sent) == 1, "a question")
    cloud.rejection = 0

    def later() -> bool:
        one.ahead_s += RETRY_MOST_S / 10
        states.add(one.shadow.status()["state"])
        return "on" in states
    until(later, "an answer")
    assert "fault" not in states, "that would be an hour"


def test_a_report_that_is_refused_stops_the_reports_and_nothing_else(
        site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site()
    one.status = {**STATUS, "alarms": {f"alarm {n}": "" for n in range(1000)}}
    one.connect()
    until(lambda: one.shadow.status()["state"] == "fault", "413")
    assert "413" in one.shadow.status()["fault"] and one.shadow._thread.is_alive()
    one.status = dict(STATUS)
    one.ahead_s += REFUSED_S + 1
    until(lambda: cloud.reported().get("alarms") == ["no_receipt"], "a report that fits")


def test_messages_that_are_none_change_nothing(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    for payload in (b"{", b"[]", b"{}", b"\xff", b'{"version":"x","state":{}}',
                    b'{"version":9,"state":7,"timestamp":1}', b'{"version":2,"state":{"desired":7},"timestamp":1}'):
        for answer in ("accepted", "delta"):
            one.shadow.post(Received(topics.shadow(THING, "update", answer), payload))
    one.shadow.post(Received("somewhere/else", b"{}"))
    assert one.answered(cloud.desire({"batch_age_s": 3}))["batch_age_s"] == 3
