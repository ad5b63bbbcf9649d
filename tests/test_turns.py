"""Turn-taking: which reading of a spool is taken, and what a failed commit forgets."""
from hypothesis import given, settings
from hypothesis import strategies as st

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
