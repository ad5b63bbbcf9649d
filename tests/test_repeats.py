"""Repeats: which message is one, for how long it is known, and what a failed commit forgets."""
from edge_bridge.repeats import NEW, POSSIBLE, REPEAT, WINDOW_S, Repeats


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
