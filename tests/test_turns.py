"""Turn-taking and repeats: what is taken, what is a repeat, and what a failed commit forgets."""
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_bridge.repeats import NEW, POSSIBLE, REPEAT, WINDOW_S, Repeats
from edge_bridge.turns import Turn, Turns

TAKEN, REPEATED, OUT_OF_TURN = Turn(True, False, 0), Turn(False, True, 0), Turn(False, False, 0)


def test_only_the_next_in_turn_is_taken() -> None:
    turns = Turns([])
    assert turns.take("pi", "s", 5, 5) == TAKEN
    assert turns.take("pi", "s", 7, 5) == OUT_OF_TURN
    assert turns.take("pi", "s", 6, 5) == TAKEN
    assert turns.take("pi", "s", 6, 5) == REPEATED
    assert turns.take("pi", "s", 5, 5) == REPEATED
    assert turns.last("pi", "s") == 6


def test_an_unknown_spool_begins_at_its_first() -> None:
    turns = Turns([("pi", "old", 100)])
    assert turns.take("pi", "new", 8, 7) == OUT_OF_TURN
    assert turns.last("pi", "new") is None
    assert turns.take("pi", "new", 7, 7) == TAKEN
    assert turns.take("other", "old", 1, 1) == TAKEN


def test_what_the_publisher_dropped_is_counted_and_passed_over() -> None:
    turns = Turns([("pi", "s", 10)])
    assert turns.take("pi", "s", 16, 15) == OUT_OF_TURN
    assert turns.take("pi", "s", 15, 15) == Turn(True, False, 4)
    assert turns.take("pi", "s", 16, 15) == TAKEN


def test_a_failed_commit_forgets_the_turns() -> None:
    turns = Turns([("pi", "s", 1)])
    assert turns.take("pi", "s", 2, 1) == TAKEN
    assert turns.staged() == [("pi", "s", 2)]
    turns.forget()
    assert turns.take("pi", "s", 2, 1) == TAKEN
    turns.keep()
    assert turns.staged() == [] and turns.take("pi", "s", 2, 1) == REPEATED


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_the_link_does_go_back_n_takes_each_once_and_in_order(data: st.DataObject) -> None:
    """A publisher that goes on from its last answer, over a link that loses, doubles and commits that fail."""
    turns, taken, acked, total = Turns([]), [], 0, 12
    for _ in range(30):
        window = range(acked + 1, min(total, acked + 5) + 1)
        arriving = [seq for seq in window for _ in range(data.draw(st.integers(0, 2)))]
        staged = [seq for seq in arriving if turns.take("pi", "s", seq, acked + 1).taken]
        if data.draw(st.booleans()):
            turns.keep()
            taken += staged
            acked = data.draw(st.sampled_from([acked, turns.last("pi", "s") or 0]))
        else:
            turns.forget()
    assert taken == list(range(1, len(taken) + 1))


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_distinct_messages_are_told_by_their_bytes() -> None:
    repeats = Repeats([])
    assert repeats.check(b"a", 1, 1, distinct=True) == NEW
    assert repeats.check(b"a", 1, 2, distinct=True) == REPEAT
    repeats.keep(1)
    assert repeats.check(b"a", 1, 3, distinct=True) == REPEAT
    assert repeats.check(b"b", 1, 4, distinct=True) == NEW


def test_a_flat_sensor_with_whole_seconds_is_not_a_repeat() -> None:
    repeats = Repeats([])
    assert repeats.check(b"flat", 1, 1, distinct=False) == NEW
    repeats.keep(1)
    assert repeats.check(b"flat", 1, 2, distinct=False) == POSSIBLE
    repeats.keep(2)
    # Another connection, but another packet id: it is another reading.
    assert repeats.check(b"flat", 2, 3, distinct=False) == POSSIBLE


def test_what_the_broker_redelivers_after_a_reconnect_is_a_repeat_once() -> None:
    repeats = Repeats([])
    repeats.check(b"flat", 1, 7, distinct=False)
    repeats.keep(1)
    assert repeats.check(b"flat", 2, 7, distinct=False) == REPEAT
    repeats.keep(0)
    assert repeats.check(b"flat", 2, 7, distinct=False) == POSSIBLE  # the packet id is in use anew
    repeats.keep(2)
    assert repeats.check(b"flat", 3, 7, distinct=False) == REPEAT  # and may be redelivered, once more


def test_a_redelivery_is_known_after_a_restart_too() -> None:
    before = Repeats([])
    before.check(b"flat", 1, 7, distinct=False)
    before.check(b"sharp", 1, 8, distinct=True)
    stored = before.staged()
    after = Repeats([(1, stored)])
    assert after.check(b"flat", 1, 7, distinct=False) == REPEAT
    assert after.check(b"sharp", 1, 1, distinct=True) == REPEAT


def test_the_window_ends_after_ten_minutes_but_an_outage_does_not_use_it_up() -> None:
    clock = Clock()
    repeats = Repeats([], clock)
    repeats.check(b"a", 1, 1, distinct=True)
    repeats.keep(1)
    clock.now_s += 3 * WINDOW_S
    assert repeats.check(b"a", 2, 1, distinct=True) == REPEAT, "the broker was away for half an hour"
    assert repeats.outlived() == 0
    clock.now_s += WINDOW_S + 1
    assert repeats.outlived() == 1
    assert repeats.check(b"a", 2, 1, distinct=True) == NEW


def test_a_failed_commit_forgets_what_it_saw() -> None:
    repeats = Repeats([])
    repeats.check(b"a", 1, 1, distinct=True)
    repeats.keep(1)
    assert repeats.check(b"flat", 1, 2, distinct=False) == NEW
    repeats.forget()
    assert repeats.check(b"flat", 1, 2, distinct=False) == NEW
    assert repeats.check(b"a", 2, 1, distinct=False) == REPEAT
    repeats.forget()
    assert repeats.check(b"a", 2, 1, distinct=False) == REPEAT, "its redelivery was not committed, so it comes again"
