"""The carbon policy: its text, its states through a day, and what follows from them."""
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import carbon, shadow
from contract.carbon import HIGH, LOW, NORMAL
from contract.errors import BadPayload
from edge_bridge import carbon_policy
from edge_bridge.carbon_curve import SCHEDULE
from edge_bridge.carbon_policy import LONGEST_BATCH_AGE_S, USUAL, States, Terms, limits, quantile, terms
from edge_bridge.pacing import BYTES_PER_S, Budget

DAY = [float(g) for g in SCHEDULE]
HOLDS = {"measured": True, "watched": False, "crowded": False}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_not_named_has_its_default() -> None:
    assert carbon.policy("")["high"] == ("q", 0.75) and set(carbon.policy("")) == set(carbon.NAMES)
    chosen = carbon.policy("high=450, low=q10 batch=2,adapt=always")
    assert (chosen["high"], chosen["low"], chosen["batch"], chosen["adapt"]) == (450.0, ("q", 0.1), 2.0, "always")
    assert chosen["frames"] == 0.5


@pytest.mark.parametrize(("text", "said"), [
    ("color=1", "'color=1' is unknown"), ("high", "'high' is unknown"), ("batch=11", "batch is '11'; expected a number "
     "from 1 to 10"), ("batch=nan", "batch is 'nan'"), ("frames=0", "frames is '0'"), ("high=q100", "or q1 to q99"),
    ("adapt=on", "one of off, measured, always"), ("high=200,low=300", "high is not above low"),
    ("high=q20,low=q20", "high is not above low"), ("batch=2,batch=3", "batch is there twice"),
    ("high=inf", "high is 'inf'"), ("backfill=0", "backfill is '0'"), ("postpone_h=25", "from 0 to 24")])
def test_every_fault_is_named(text: str, said: str) -> None:
    with pytest.raises(BadPayload) as refusal:
        carbon.policy(text)
    assert said in refusal.value.detail
    assert not carbon.is_policy(text)
    with pytest.raises(BadPayload):
        shadow.check({"carbon_policy": text}, ())


def test_the_shadow_takes_a_policy_and_nothing_else() -> None:
    assert shadow.check({"carbon_policy": "high=400,adapt=always"}, ())
    for value in (7, True, "x" * 400, "batch=2 " * 40):
        with pytest.raises(BadPayload, match="carbon_policy is"):
            shadow.check({"carbon_policy": value}, ())


def test_limits_come_from_the_day_or_are_numbers() -> None:
    found = limits(carbon.policy(""), DAY)
    assert found is not None and min(DAY) < found.low < found.high < max(DAY)
    assert limits(carbon.policy(""), DAY[:5]) is None, "too short a day has no quantiles"
    assert limits(carbon.policy(""), [300.0, 301.0] * 12) is None, "on a flat day no hour is a high one"
    assert limits(carbon.policy("high=400,low=100"), []) == (400, 100)
    assert limits(carbon.policy("high=100,low=q50"), DAY) is None, "high below low is no limit"


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_has_its_share_below(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert min(values) <= found <= max(values)
    assert quantile(values, 0) == min(values) and quantile(values, 1) == max(values)
    assert sum(v < found - 1e-9 * max(values) for v in values) <= share * (len(values) - 1) + 1


def test_a_state_is_left_beyond_a_margin_and_after_its_while() -> None:
    clock = Clock()
    states, policy = States(clock), carbon.policy("high=400,low=100,margin=10,dwell_min=30")

    def after(minutes: float, g: float) -> str:
        clock.now_s += minutes * 60
        return states.look(policy, g, [])

    assert after(0, 300) == NORMAL and after(1, 400) == HIGH, "the first change waits for nothing"
    assert after(1, 50) == HIGH and after(28, 50) == HIGH, "a state lasts its while"
    assert after(1, 370) == HIGH and after(100, 361) == HIGH, "within the margin nothing changes"
    assert after(1, 359) == NORMAL
    assert after(30, 100) == LOW and after(30, 109) == LOW and after(1, 111) == NORMAL
    assert states.look(policy, None, []) == NORMAL


def test_an_intensity_that_shakes_at_the_limit_changes_the_state_once() -> None:
    clock = Clock()
    states, policy = States(clock), carbon.policy("high=400,low=100")
    seen = []
    for n in range(600):
        clock.now_s += 60
        seen.append(states.look(policy, 400 + 5 * (-1) ** n, []))
    assert sum(a != b for a, b in pairwise(seen)) <= 1 and seen[-1] == HIGH


def test_without_an_intensity_everything_is_normal_at_once() -> None:
    clock = Clock()
    states = States(clock)
    assert states.look(carbon.policy("high=400,low=100"), 500, []) == HIGH
    clock.now_s += 1
    assert states.look(carbon.policy("high=400,low=100"), None, []) == NORMAL


def test_only_high_changes_anything_and_only_when_it_should() -> None:
    policy = carbon.policy("")
    assert terms(policy, HIGH, 0, **HOLDS) == Terms(3, 0.25, 0.5, True)
    for state in (LOW, NORMAL):
        assert terms(policy, state, 0, **HOLDS) == USUAL
    assert terms(policy, HIGH, 0, **{**HOLDS, "watched": True}) == USUAL, "who watches comes before the carbon"
    assert terms(policy, HIGH, 0, **{**HOLDS, "measured": False}) == USUAL, "an assumption delays nothing"
    assert terms(carbon.policy("adapt=always"), HIGH, 0, **{**HOLDS, "measured": False}).batch == 3
    assert terms(carbon.policy("adapt=off"), HIGH, 0, **HOLDS) == USUAL
    assert terms(policy, HIGH, 0, **{**HOLDS, "crowded": True}).backfill == 1, "a full outbox is not slowed down"


def test_what_is_put_off_has_its_bound() -> None:
    bounded = terms(carbon.policy("postpone_h=2"), HIGH, 2 * 3600, **HOLDS)
    assert bounded == Terms(3, 1.0, 0.5, False), "the backlog and heavy work go on, live batches stay long"


@given(st.floats(0.1, 400), st.floats(1, 10))
def test_a_batch_age_grows_within_its_bounds(usual_s: float, times: float) -> None:
    found = carbon_policy.batch_age_s(usual_s, times)
    assert usual_s <= found <= max(usual_s, LONGEST_BATCH_AGE_S)
    assert carbon_policy.batch_age_s(usual_s, 1.0) == usual_s


@pytest.mark.parametrize("share", [1.0, 0.25, 0.05])
def test_the_backlog_goes_at_its_share_and_nothing_else_waits(share: float) -> None:
    clock = Clock()
    budget: Any = Budget(clock)
    budget.backfill_share = share
    size_bytes, sent = 100_000, 0
    while clock.now_s < 100:
        if budget.may_backfill() and budget.wait_s() == 0:
            budget.backfilled(size_bytes)
            budget.published(str(sent), size_bytes, is_alert=False)
            budget.answered(str(sent))
            sent += 1
        assert budget.may_alert(), "alerts have a pace of their own"
        clock.now_s += 0.01
    assert sent * size_bytes / 100 == pytest.approx(BYTES_PER_S * share, rel=0.1)
