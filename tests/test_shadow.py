"""The bridge's shadow against the local cloud's shadow service: settings that change while it runs, refusals, gaps and
repeats, a cloud that does not want it, and what is reported how often."""
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import numbers, topics
from contract import shadow as contract
from contract.errors import BadPayload
from edge_bridge import detectors, shadow_settings
from edge_bridge.events import Acked, Connected, Disconnected, Event, Received, Send, Subscribe, Subscribed
from edge_bridge.shadow import Shadow
from edge_bridge.shadow_report import AGAIN_S, LEAST_S, LEDGER_EVERY_S, Report, merged, patch, plain, summary
from edge_bridge.shadow_requests import BROKEN_IN_A_ROW, REFUSED_S, RETRY_MOST_S
from edge_bridge.shadow_settings import Reach, RemoteSettings
from local_cloud.gateway.shadows import Asked, Shadows, asked
from tests.bridge_rig import ROOT, until
from tests.outbox_rig import Parts

THING = "T"
INTERVAL_S = 30.0
STATUS = json.loads((ROOT / "contract" / "examples" / "status.json").read_text())


class Site:
    """A shadow thread with its outbox, and the cloud's shadow service in place of the uplink and the connection."""

    def __init__(self, path: Path, cloud: "CloudSide", **chosen: Any) -> None:
        self.parts, self.cloud = Parts(path), cloud
        self.chosen: Any = SimpleNamespace(**{"detector": "forest", "batch_age": 10.0, "log_level": "INFO",
                                              "scored_fields": ("sensor2",), "shadow": True, "carbon_policy": "",
                                              **chosen})
        self.ahead_s, self.status = 0.0, dict(STATUS)
        self.ages_s: list[tuple[float, float]] = []
        self.made: list[str] = []
        self.levels: list[str] = []
        in_force = shadow_settings.remembered(self.parts.store, self.chosen)
        reach = Reach(lambda *ages: self.ages_s.append(ages), lambda make: self.made.append(make.__name__),
                      self.levels.append)
        self.remote = RemoteSettings(self.chosen, self.parts.store, in_force, reach, self.clock)
        self.shadow = Shadow(THING, self.remote, self.ask, lambda: self.status, INTERVAL_S, self.clock)
        self.shadow.start()

    def clock(self) -> float:
        return time.monotonic() + self.ahead_s

    def ask(self, request: Send | Subscribe) -> None:
        self.cloud.asked(request, self.shadow.post)

    def connect(self) -> "Site":
        self.cloud.connected(self.shadow.post)
        return self

    def ready(self) -> "Site":
        """Connected, and the shadow is up to date."""
        self.connect()
        until(lambda: self.shadow.status()["state"] == "on" and self.cloud.reported().get("answers") is not None,
              "the first report")
        return self

    def answered(self, version: int) -> dict[str, Any]:
        """What is reported when this version is answered."""
        until(lambda: self.cloud.reported().get("answers", -1) >= version, f"an answer to version {version}")
        return self.cloud.reported()

    def close(self) -> None:
        self.shadow.stop(10.0)
        self.parts.store.close()


class CloudSide:
    """Shadows, and the connection to them. fault: of subscriptions; publish_fault: of PUBACKs; silent: no answers;
    held: messages that were not passed on yet, while holding."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.now_s = 1_795_000_000.0
        self.shadows = Shadows({THING: None}, self._tell, now_s=lambda: self.now_s)
        self.fault = self.publish_fault = ""
        self.silent = self.holding = False
        self.held: list[Event] = []
        self.sent: list[Send] = []
        self.subscribes = 0
        self._post: Callable[[Event], None] | None = None
        self._topics: tuple[str, ...] = ()

    def connected(self, post: Callable[[Event], None]) -> None:
        with self.lock:
            self._post = post
            post(Connected(False))

    def cut(self) -> None:
        with self.lock:
            post, self._post = self._post, None
            assert post
            post(Disconnected("the link is cut"))

    def asked(self, request: Send | Subscribe, post: Callable[[Event], None]) -> None:
        with self.lock:
            if isinstance(request, Subscribe):
                self.subscribes += 1
                self._topics = () if self.fault else request.topics
                post(Subscribed(self.fault, request.topics))
                return
            self.sent.append(request)
            post(Acked(request.token, self.publish_fault))
            wanted = asked(request.topic)
            assert wanted is not None
            if not self.silent and not self.publish_fault:
                self.shadows.answer(wanted, request.payload)

    def _tell(self, topic: str, payload: bytes) -> None:
        if topic in self._topics and self._post:
            if self.holding:
                self.held.append(Received(topic, payload))
            else:
                self._post(Received(topic, payload))

    def release(self, events: list[Event]) -> None:
        """Pass on what was held, in this order; what comes from now on, too."""
        with self.lock:
            self.holding = False
            assert self._post
            for event in events:
                self._post(event)

    def desire(self, desired: Any) -> int:
        """Somebody in the cloud wants this; the version that it makes."""
        with self.lock:
            request = json.dumps(contract.update("desired", desired) if isinstance(desired, dict) else
                                 {"state": {"desired": None}}).encode()
            return int(self.shadows.do(Asked(THING, "bridge", "update"), request)["version"])

    def state(self) -> dict[str, Any]:
        with self.lock:
            return dict((self.shadows.document(THING, "bridge") or {"state": {}})["state"])

    def reported(self) -> dict[str, Any]:
        return dict(self.state().get("reported", {}))

    def updates(self) -> list[dict[str, Any]]:
        """What was reported, update by update."""
        with self.lock:
            return [json.loads(one.payload)["state"]["reported"] for one in self.sent if one.topic.endswith("update")]


@pytest.fixture
def cloud() -> CloudSide:
    return CloudSide()


@pytest.fixture
def site(tmp_path: Path, cloud: CloudSide) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(**chosen: Any) -> Site:
        sites.append(Site(tmp_path / "outbox.db", cloud, **chosen))
        return sites[-1]
    yield make
    for one in sites:
        one.close()


# --- what is asked for is applied, and answered

def test_the_first_report_makes_the_shadow_and_is_small(site: Callable[..., Site], cloud: CloudSide) -> None:
    site().ready()
    reported = cloud.reported()
    assert (reported["detector"], reported["batch_age_s"], reported["log_level"]) == ("forest", 10, "INFO")
    assert reported["ledger"]["delivered"] == STATUS["delivered"] and reported["ledger"]["waiting"] == 19
    assert reported["alarms"] == ["no_receipt"] and "refused" not in reported and "live_until" not in reported
    assert [one.publishes for one in cloud.sent] == [1, 4], "an update counts fourfold under AWS's limits"
    assert len(cloud.sent[-1].payload) < 1024, "one unit of what AWS meters"
    assert cloud.subscribes == 1 and len(cloud._topics) <= 8, "one SUBSCRIBE"


def test_what_is_desired_holds_without_a_restart_and_leaves_no_delta(
        site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    version = cloud.desire({"detector": "context", "batch_age_s": 2.5, "log_level": "DEBUG"})
    reported = one.answered(version)
    assert (reported["detector"], reported["batch_age_s"], reported["log_level"]) == ("context", 2.5, "DEBUG")
    assert one.ages_s[-1] == (2.5, 2.5) and one.made == ["ContextDetector"] and one.levels == ["DEBUG"]
    answer = cloud.shadows.do(Asked(THING, "bridge", "get"), b"")
    assert "delta" not in answer["state"]
    assert [set(sent) for sent in cloud.updates()[1:]] == [{"detector", "batch_age_s", "log_level", "answers"}]
    told = one.shadow.status()
    assert (told["state"], told["batch_age_s"], told["answers"], told["refused"]) == ("on", 2.5, version, None)


def test_a_bad_desired_state_is_refused_whole_with_its_reason(
        site: Callable[..., Site], cloud: CloudSide, caplog: pytest.LogCaptureFixture) -> None:
    one = site().ready()
    first = cloud.desire({"batch_age_s": 5})
    one.answered(first)
    bad = cloud.desire({"batch_age_s": 3, "log_level": "LOUD", "colour": "red"})
    refused = one.answered(bad)["refused"]
    assert refused["version"] == bad and "colour is unknown" in refused["reason"] and "LOUD" in refused["reason"]
    assert cloud.reported()["batch_age_s"] == 5 and one.ages_s[-1] == (5, 5) and one.levels == ["INFO"]
    assert one.shadow.status()["refused"] == refused["reason"]
    again = cloud.desire({"colour": "red"})  # the same once more is answered once more, and nothing goes in circles
    one.answered(again)
    assert len(cloud.updates()) == 4
    good = cloud.desire({"log_level": "ERROR", "colour": None})
    reported = one.answered(good)
    assert "refused" not in reported and (reported["batch_age_s"], reported["log_level"]) == (3, "ERROR")
    assert sum("is refused" in r.message for r in caplog.records) == 2


@pytest.mark.parametrize("cleared", [{"batch_age_s": None, "log_level": None}, None])
def test_what_is_no_longer_desired_is_the_bridges_own_setting_again(
        site: Callable[..., Site], cloud: CloudSide, cleared: Any) -> None:
    one = site(batch_age=20.0).ready()
    one.answered(cloud.desire({"batch_age_s": 2, "log_level": "DEBUG"}))
    reported = one.answered(cloud.desire(cleared))
    assert (reported["batch_age_s"], reported["log_level"]) == (20, "INFO")
    assert one.ages_s[-1] == (20, 20) and one.levels == ["DEBUG", "INFO"]


def test_somebody_watches_for_a_while(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    reported = one.answered(cloud.desire({"live_until": cloud.now_s + 60}))
    assert one.ages_s[-1] == (0.5, 10) and reported["live_until"] == cloud.now_s + 60 and reported["batch_age_s"] == 10
    assert 0 < one.shadow.status()["live_s"] <= 60, "by the cloud's clock, whatever ours says"
    one.ahead_s += 61
    until(lambda: one.ages_s[-1] == (10, 10), "the usual batch age")
    one.answered(cloud.desire({"live_until": cloud.now_s - 1}))
    assert one.ages_s[-1] == (10, 10) and one.shadow.status()["live_s"] == 0


def test_a_live_until_far_away_is_cut_short(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    reported = one.answered(cloud.desire({"live_until": cloud.now_s + 10 ** 8}))
    assert reported["live_until"] == cloud.now_s + contract.MAX_LIVE_S
    one.ahead_s += contract.MAX_LIVE_S + 1
    until(lambda: one.ages_s[-1] == (10, 10), "the end of it")


def test_a_batch_age_below_that_of_watching_stays(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site(batch_age=0.3).ready()
    one.answered(cloud.desire({"live_until": cloud.now_s + 60}))
    assert one.ages_s[-1] == (0.3, 0.3)
    one.answered(cloud.desire({"live_until": None}))
    assert len(cloud.updates()) == 3, "0.3 is reported as it is held: it is not sent again and again"


# --- detectors

def test_a_detector_that_cannot_be_had_leaves_everything_as_it_was(
        site: Callable[..., Site], cloud: CloudSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.REGISTRY, "gone", ("edge_bridge.no_such_module", "Gone"))
    one = site().ready()
    reported = one.answered(cloud.desire({"detector": "gone", "batch_age_s": 2}))
    assert "cannot be used here" in reported["refused"]["reason"] and reported["detector"] == "forest"
    assert one.made == [] and one.remote.in_force.batch_age_s == 10


def test_the_cloud_cannot_say_which_code_runs_here(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    reported = one.answered(cloud.desire({"detector": "os:system"}))
    assert "expected one of context, forest, seed, seed-sklearn" in reported["refused"]["reason"] and one.made == []


def test_a_bridge_that_scores_nothing_says_so(site: Callable[..., Site], cloud: CloudSide) -> None:
    reported = site(scored_fields=()).ready().answered(cloud.desire({"detector": "context"}))
    assert "scores nothing" in reported["refused"]["reason"]


# --- restarts, gaps, repeats

def test_a_restart_goes_on_with_what_held_before_the_cloud_is_there(
        site: Callable[..., Site], cloud: CloudSide) -> None:
    first = site().ready()
    first.answered(cloud.desire({"detector": "context", "batch_age_s": 2, "live_until": cloud.now_s + 60}))
    first.close()
    second = site(log_level="ERROR")
    assert second.remote.in_force[:3] == ("context", 2, "ERROR") and second.remote.live_left_s() == 0
    second.ready()
    assert second.made == [], "the same detector goes on"
    until(lambda: second.ages_s[-1:] == [(0.5, 2)], "the live time that the cloud still wants")


def test_what_changed_while_the_link_was_down_is_applied_at_the_next_connection(
        site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    cloud.cut()
    cloud.desire({"batch_age_s": 7})
    version = cloud.desire({"log_level": "DEBUG"})
    assert one.connect().answered(version)["batch_age_s"] == 7 and one.levels[-1] == "DEBUG"
    before = len(cloud.updates())
    cloud.cut()
    one.connect()
    until(lambda: cloud.sent[-1].topic.endswith("get"), "another look")
    one.answered(cloud.desire({"batch_age_s": 8}))
    assert len(cloud.updates()) == before + 1, "a connection that brings nothing new is not reported"


def test_what_was_remembered_and_is_no_longer_known_is_left(site: Callable[..., Site], cloud: CloudSide) -> None:
    first = site(detector="seed")
    with first.parts.store.write() as db:
        db.execute("INSERT INTO meta VALUES ('remote', '{\"detector\":\"of another version\",\"batch_age_s\":2}')")
    first.close()
    assert site(detector="seed").remote.in_force[:3] == ("seed", 10, "INFO")


def test_a_remembered_detector_that_this_machine_no_longer_has_stops_no_start(
        site: Callable[..., Site], cloud: CloudSide, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site().ready()
    first.answered(cloud.desire({"detector": "context"}))
    first.close()
    monkeypatch.setitem(detectors.REGISTRY, "context", ("edge_bridge.no_such_module", "Gone"))
    assert site().remote.in_force.detector == "forest"


def test_with_the_shadow_off_nothing_is_remembered(site: Callable[..., Site], cloud: CloudSide) -> None:
    first = site().ready()
    first.answered(cloud.desire({"batch_age_s": 2}))
    first.close()
    assert site(shadow=False).remote.in_force.batch_age_s == 10


@pytest.mark.parametrize("seed", range(5))
def test_repeats_and_messages_out_of_order_end_in_what_is_desired_last(
        site: Callable[..., Site], cloud: CloudSide, seed: int) -> None:
    chance = random.Random(seed)
    one = site().ready()
    cloud.holding = True
    ages_s = [chance.randrange(1, 300) for _ in range(6)]
    versions = [cloud.desire({"batch_age_s": age_s} if chance.random() < 0.8 else {"log_level": "DEBUG"})
                for age_s in ages_s]
    events = [*cloud.held, *chance.sample(cloud.held, 3)]
    chance.shuffle(events)
    if seed % 2:
        events = chance.sample(events, len(events) // 2)  # some never come
    last = cloud.desire({"live_until": 1})
    cloud.release([*events, cloud.held[-2]])
    reported = one.answered(last)
    desired = cloud.state()["desired"]
    assert versions[-1] < last
    assert one.remote.in_force[:3] == ("forest", desired.get("batch_age_s", 10), desired.get("log_level", "INFO"))
    assert reported["batch_age_s"] == desired.get("batch_age_s", 10)


def test_what_was_fetched_before_a_change_does_not_undo_it(site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    one.answered(cloud.desire({"batch_age_s": 5}))
    cloud.cut()
    cloud.holding = True
    one.connect()
    until(lambda: cloud.held, "the answer to get, on its way")
    [got] = cloud.held
    last = cloud.desire({"batch_age_s": 6})
    cloud.release([*cloud.held[1:], got])
    assert one.answered(last)["batch_age_s"] == 6 and one.remote.in_force.batch_age_s == 6
    assert one.answered(cloud.desire({"log_level": "DEBUG"}))["batch_age_s"] == 6
    assert (5, 5) not in one.ages_s[one.ages_s.index((6, 6)):], "not even for a while"


def test_a_deleted_shadow_is_made_again_with_the_bridges_own_settings(
        site: Callable[..., Site], cloud: CloudSide) -> None:
    one = site().ready()
    one.answered(cloud.desire({"batch_age_s": 2}))
    with cloud.lock:
        cloud.shadows.do(Asked(THING, "bridge", "delete"), b"")
    until(lambda: cloud.reported().get("batch_age_s") == 10, "a new shadow")
    assert one.answered(cloud.desire({"batch_age_s": 3}))["batch_age_s"] == 3


# --- a cloud that does not want it

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
    until(one.shadow._events.empty, "all that to be taken in")
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
    time.sleep(0.05)
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


# --- what is reported, and how often

def test_reports_are_rare_unless_they_answer() -> None:
    clock = SimpleNamespace(now_s=0.0)
    report = Report(INTERVAL_S, lambda: clock.now_s)

    def due(status: dict[str, Any], **answer: Any) -> dict[str, Any]:
        current = summary(status, {"batch_age_s": 10, **answer})
        found = report.due(current)
        if found:
            report.sent(found)
            report.updated(found)
            assert report.held == current
        return found
    assert due(STATUS)["v"] == 1 and due(STATUS) == {}
    clock.now_s += LEAST_S
    busy = {**STATUS, "at": STATUS["at"] + 1, "committed": 2000}
    clock.now_s += INTERVAL_S + 1
    assert due(busy) == {}, "the ledger alone is no news"
    assert set(due({**busy, "alarms": {}})) == {"alarms", "ledger"}
    assert due({**busy, "alarms": {}, "lost": 3}) == {}, "not yet"
    clock.now_s += INTERVAL_S + 1
    assert due({**busy, "alarms": {}, "lost": 3})["ledger"] == {"lost": 3}, "the first loss is news"
    clock.now_s += INTERVAL_S + 1
    assert due({**busy, "alarms": {}, "lost": 4}) == {}
    clock.now_s += LEDGER_EVERY_S
    assert due({**busy, "alarms": {}, "lost": 4})["ledger"] == {"lost": 4}
    clock.now_s += LEDGER_EVERY_S + 1
    assert due({**busy, "alarms": {}, "lost": 4, "at": busy["at"] + 9}) == {}, "only time went by"
    assert due({**busy, "alarms": {}, "lost": 4}, batch_age_s=2) == {"batch_age_s": 2}, "an answer does not wait"
    assert due({**busy, "alarms": {}, "lost": 4}, batch_age_s=3) == {}, "but a little"
    clock.now_s += LEAST_S
    assert due({**busy, "alarms": {}, "lost": 4}, batch_age_s=3) == {"batch_age_s": 3}


def test_what_does_not_hold_is_not_sent_again_at_once() -> None:
    clock = SimpleNamespace(now_s=0.0)
    report = Report(INTERVAL_S, lambda: clock.now_s)
    current = summary(STATUS, {"batch_age_s": 0.3})
    report.held = plain(numbers.loads(numbers.dumps({"v": 1, "batch_age_s": Decimal("0.3")})))
    assert report.held["batch_age_s"] == 0.3 and "batch_age_s" not in report.due(current)
    first = report.due(current)
    report.sent(first)
    clock.now_s += AGAIN_S - 1
    assert first and report.due(current) == {}
    clock.now_s += 1
    assert report.due(current) == first
    report.sent(first)
    clock.now_s += LEAST_S
    report.fetched({"v": 1})
    assert report.due(current)["batch_age_s"] == 0.3, "it was lost: no need to wait"


VALUES = st.recursive(st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
                      lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1), max_leaves=5)
SECTION = st.dictionaries(st.sampled_from("abcd"), VALUES)


@given(SECTION, SECTION)
def test_a_patch_makes_the_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merged(before, patch(before, after)) == after
    assert (patch(before, after) == {}) == (before == after)


# --- the contract

@pytest.mark.parametrize(("desired", "said"), [
    ([], "expected an object"), ({"batch_age_s": 0}, "batch_age_s is 0; expected a number of seconds from 1 to 300"),
    ({"batch_age_s": True}, "batch_age_s is True"), ({"batch_age_s": "2"}, "batch_age_s is '2'"),
    ({"live_until": -1}, "live_until is -1"), ({"live_until": {"a": 1}}, "live_until is {'a': 1}"),
    ({"log_level": ["INFO"]}, "log_level is ['INFO']"), ({"detector": 1}, "detector is 1; expected the name"),
    ({"detector": "b"}, "detector is 'b'; expected one of a"), ({"carbon": {}}, "carbon is unknown; expected any of")])
def test_every_fault_of_a_desired_state_is_named(desired: Any, said: str) -> None:
    with pytest.raises(BadPayload) as refusal:
        contract.check(desired, {"a"})
    assert said in refusal.value.detail
    assert contract.check({"detector": "a", "batch_age_s": 1, "live_until": 0, "log_level": "INFO"}, {"a"})


def test_what_can_be_desired_can_be_set_here() -> None:
    in_force = set(shadow_settings.InForce._fields)
    assert in_force | {"live_until"} == set(contract.NAMES), "a new key needs its place in shadow_settings.py"
    assert set(contract.LOG_LEVELS) <= set(logging.getLevelNamesMapping())
