"""The feed of carbon intensities: how often a source is asked, what holds when it fails, and the cache on disk."""
import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import carbon_curve
from edge_bridge.carbon_curve import SCHEDULE, BadCurve, Curve
from edge_bridge.carbon_feed import EVERY_S, JITTER_S, Feed
from edge_bridge.carbon_fetch import NoAnswer
from edge_bridge.carbon_sources import chosen
from tests.carbon_rig import HOUR_S, NOON_S


class Times:
    def __init__(self) -> None:
        self.s = NOON_S

    def __call__(self) -> float:
        return self.s


class Fed:
    """A feed of a source whose answers are given here, under a clock that is set."""

    def __init__(self, cache: Path, name: str = "uk") -> None:
        self.times, self.asked = Times(), 0
        self.answers: Any = Curve({NOON_S: 250.0})
        self._name, self._cache = name, cache
        self.feed = self.new()

    def new(self) -> Feed:
        return Feed(chosen(self._name) or pytest.fail(), self.ask, ("schedule", carbon_curve.built_in()), self._cache,
                    6 * HOUR_S, self.times, self.times)

    def ask(self, source: Any) -> Curve:
        self.asked += 1
        if isinstance(self.answers, Exception):
            raise self.answers
        found: Curve = self.answers
        return found


@pytest.fixture
def fed(tmp_path: Path) -> Fed:
    return Fed(tmp_path / "cache.json")


def test_a_source_is_asked_every_quarter_of_an_hour_at_most(fed: Fed) -> None:
    asked_s = []
    for _ in range(4 * 3600):
        before = fed.asked
        fed.feed.refresh()
        asked_s += [fed.times.s] if fed.asked > before else []
        fed.times.s += 1
    gaps = [b - a for a, b in pairwise(asked_s)]
    assert len(gaps) >= 13 and min(gaps) >= EVERY_S and max(gaps) <= EVERY_S + JITTER_S + 1 and len(set(gaps)) > 1


def test_a_source_that_fails_counts_for_its_hours_then_the_schedule(fed: Fed, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    fed.feed.refresh()
    assert fed.feed.now()[:2] == (250.0, "uk") and fed.feed.now().measured
    fed.answers = NoAnswer("it answered 500")
    for hours in (1, 2, 3, 4, 5, 6):
        fed.times.s = NOON_S + hours * HOUR_S
        fed.feed.refresh()
        assert fed.feed.now().g_per_kwh == 250.0
    fed.times.s += 1
    held = fed.feed.now()
    assert held.source == "schedule (uk is too old)" and not held.measured and held.g_per_kwh == SCHEDULE[18]
    assert [r.levelname for r in caplog.records] == ["WARNING"], "said once"
    fed.answers = Curve({fed.times.s: 90.0})
    fed.times.s += EVERY_S + JITTER_S
    fed.feed.refresh()
    assert fed.feed.now()[:2] == (90.0, "uk") and caplog.records[-1].levelname == "INFO"


def test_a_provider_that_repeats_an_old_intensity_is_too_old(fed: Fed) -> None:
    fed.feed.refresh()
    fed.times.s += 6 * HOUR_S + 1
    fed.feed.refresh()
    assert fed.asked == 2 and not fed.feed.now().measured


def test_one_that_never_answered_is_said(fed: Fed) -> None:
    fed.answers = BadCurve("nothing")
    fed.feed.refresh()
    assert fed.feed.now().source == "schedule (uk has said nothing)"


def test_single_intensities_make_a_day(fed: Fed, tmp_path: Path) -> None:
    for hour in range(40):
        fed.times.s = NOON_S + hour * HOUR_S
        fed.answers = Curve({fed.times.s: 100.0 + hour})
        fed.feed.refresh()
        assert bool(fed.feed.now().day) == (hour >= 8), "the morning alone is no day"
    assert fed.feed.now().day == [100.0 + hour for hour in range(15, 40)]
    assert len(json.loads((tmp_path / "cache.json").read_text())["points"]) == 26, "what is over a day old is let go"


def test_a_restart_goes_on_with_the_cache_and_asks_nobody(fed: Fed) -> None:
    fed.feed.refresh()
    fed.times.s += 600
    again = fed.new()
    again.refresh()
    assert fed.asked == 1 and again.now().g_per_kwh == 250.0
    fed.times.s += 301
    again.refresh()
    assert fed.asked == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"source": "uk"}', "x" * 300_000, '{"source":"uk","points":[[1,"a"]],'
                                  '"daily":false,"got":1,"asked":1}'])
def test_a_cache_that_cannot_be_read_is_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "cache.json").write_text(text)
    one = Fed(tmp_path / "cache.json")
    one.feed.refresh()
    assert one.asked == 1 and one.feed.now().g_per_kwh == 250.0
    assert json.loads((tmp_path / "cache.json").read_text())["points"] == [[NOON_S, 250.0]]
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_the_cache_of_another_source_is_not_taken(fed: Fed, tmp_path: Path) -> None:
    fed.feed.refresh()
    other = Fed(tmp_path / "cache.json", "uk:13")
    other.answers = NoAnswer("away")
    other.feed.refresh()
    assert not other.feed.now().measured


def test_a_clock_that_was_set_back_does_not_stop_the_asking(fed: Fed) -> None:
    fed.answers = Curve({NOON_S - 6 * HOUR_S: 240.0, NOON_S: 250.0})
    fed.feed.refresh()
    fed.times.s -= 5 * HOUR_S
    again = fed.new()
    assert not again.now().measured, "how old it is cannot be said"
    again.refresh()
    assert fed.asked == 2
