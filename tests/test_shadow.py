"""Settings that change while the bridge runs: applied, answered and refused; restarts, gaps, repeats."""
import random
from collections.abc import Callable
from typing import Any

import pytest

from contract import shadow as contract
from edge_bridge import detectors
from local_cloud.gateway.shadows import Asked
from tests.bridge_rig import until
from tests.shadow_rig import STATUS, THING, CloudSide, Site
from tests.shadow_rig import cloud as cloud
from tests.shadow_rig import site as site

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
