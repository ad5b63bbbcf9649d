"""What the bridge reports in its shadow, and how often: the patch that is sent, and when it is due."""
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contract import numbers
from edge_bridge.shadow_report import AGAIN_S, LEAST_S, LEDGER_EVERY_S, Report, merged, patch, plain, summary
from tests.shadow_rig import INTERVAL_S, STATUS

VALUES = st.recursive(st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
                      lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1), max_leaves=5)
SECTION = st.dictionaries(st.sampled_from("abcd"), VALUES)


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


@given(SECTION, SECTION)
def test_a_patch_makes_the_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merged(before, patch(before, after)) == after
    assert (patch(before, after) == {}) == (before == after)
