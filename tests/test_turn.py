"""Whose turn it is: the go-back-N bookkeeping of the publisher, without broker or clock."""
import random

from device.turn import Turn


def send(turn: Turn, first: int, last: int, now: float, mid: int = 0) -> list[int]:
    """Send what may be sent; mids are seq + `mid`."""
    room = turn.room(first, last)
    sent = list(range(turn.next, turn.next + room))
    for seq in sent:
        turn.sent(seq, seq + mid, first, now)
    return sent


def test_nothing_goes_before_the_connection_is_up() -> None:
    turn = Turn()
    assert turn.room(1, 50) == 0
    turn.connected(1, 0.0)
    assert turn.room(1, 50) == 50
    turn.disconnected()
    assert turn.room(1, 50) == 0


def test_the_library_never_holds_more_than_the_messages_in_flight() -> None:
    turn = Turn(window=1000, in_flight=100)
    turn.connected(1, 0.0)
    assert send(turn, 1, 5000, 0.0) == list(range(1, 101))
    assert send(turn, 1, 5000, 0.0) == []
    for mid in (1, 2, 3):
        turn.puback(mid, 1, 0.1)
    assert send(turn, 1, 5000, 0.1) == [101, 102, 103]


def test_the_window_bounds_what_is_not_acknowledged() -> None:
    turn = Turn(window=10, in_flight=100)
    turn.connected(1, 0.0)
    assert send(turn, 1, 5000, 0.0) == list(range(1, 11))
    turn.acknowledged(1.0)
    assert send(turn, 5, 5000, 1.0) == [11, 12, 13, 14]


def test_after_a_connect_it_goes_on_from_the_last_ack() -> None:
    turn = Turn()
    turn.connected(1, 0.0)
    send(turn, 1, 30, 0.0)
    turn.disconnected()
    turn.connected(11, 9.0)
    assert send(turn, 11, 30, 9.0) == list(range(11, 31))


def test_a_standing_ack_sends_back_and_probes_one_message_at_a_time() -> None:
    turn = Turn(window=1000, stall_s=5.0)
    turn.connected(1, 0.0)
    send(turn, 1, 500, 0.0)
    for mid in range(1, 501):
        turn.puback(mid, 1, 0.1)
    assert not turn.stalled(1, 4.9)
    assert turn.stalled(1, 5.0)
    assert send(turn, 1, 500, 5.0) == [1]
    assert not turn.stalled(1, 9.9)
    assert turn.stalled(1, 10.0)
    assert send(turn, 1, 500, 10.0, mid=1000) == [1]
    turn.acknowledged(10.1)  # and the whole window is open again
    assert send(turn, 2, 500, 10.1)[:3] == [2, 3, 4]


def test_nothing_outstanding_is_no_stall() -> None:
    turn = Turn(stall_s=5.0)
    turn.connected(1, 0.0)
    assert not turn.stalled(1, 100.0)
    send(turn, 1, 1, 100.0)
    assert not turn.stalled(1, 104.9), "the time starts with the first unacknowledged message"


def test_missing_pubacks_condemn_the_connection() -> None:
    turn = Turn(stuck_s=30.0)
    turn.connected(1, 0.0)
    assert not turn.stuck(1000.0)
    send(turn, 1, 2, 1000.0)
    assert not turn.stuck(1029.0)
    turn.puback(1, 1, 1029.0)
    assert not turn.stuck(1030.0)
    assert turn.stuck(1059.0)


def test_the_brokers_word_counts_in_turn_only() -> None:
    turn = Turn(by_broker=True)
    turn.connected(1, 0.0)
    send(turn, 1, 4, 0.0)
    assert turn.puback(2, 1, 0.0) is None
    assert turn.puback(99, 1, 0.0) is None, "no message of ours"
    assert turn.puback(1, 1, 0.0) == 2
    assert turn.puback(3, 3, 0.0) == 3


def test_dropped_readings_are_not_waited_for() -> None:
    turn = Turn()
    turn.connected(1, 0.0)
    send(turn, 1, 3, 0.0)
    assert send(turn, 50, 52, 0.0) == [50, 51, 52]


def test_whatever_is_lost_on_the_way_all_arrive_in_turn() -> None:
    """Messages, PUBACKs and acks get lost, connections end: 300 runs, a receiver that takes only the next in turn."""
    for seed in range(300):
        rng = random.Random(seed)
        turn, first, last, expected, now = Turn(window=8, in_flight=3, stall_s=5.0, stuck_s=30.0), 1, 0, 1, 0.0
        turn.connected(first, now)
        for step in range(2000):
            now += 0.5
            if last < 40 and rng.random() < 0.5:
                last += 1
            for seq in send(turn, first, last, now, mid=1000 * step):
                if rng.random() < 0.8 and seq == expected:
                    expected += 1
                if rng.random() < 0.9:
                    turn.puback(seq + 1000 * step, first, now)
            if rng.random() < 0.3 and expected > first:
                first = expected
                turn.acknowledged(now)
            turn.stalled(first, now)
            if turn.stuck(now) or rng.random() < 0.01:
                turn.disconnected()
                turn.connected(first, now)
            if first > last == 40:
                break
        assert (first, expected) == (41, 41), f"seed {seed}"
