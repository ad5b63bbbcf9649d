"""The inbox between threads: order, company that is waited for once, room, and its end."""
import threading
from typing import Any

from contract.payloads import MAX_MESSAGE_BYTES
from edge_bridge.inbox import Inbox, Message
from tests.bridge_rig import until

FOREVER_S = 60.0
SOURCE: Any = object()


def put(inbox: Inbox, *numbers: int) -> None:
    for number in numbers:
        inbox.put(SOURCE, ("topic",), b"%d" % number, 1, number)


def ids(messages: list[Message]) -> list[int]:
    return [message.packet_id for message in messages]


def test_what_waits_is_taken_in_order_and_no_more_than_asked_for() -> None:
    inbox = Inbox()
    put(inbox, *range(10))
    assert ids(inbox.take(4, 0, 0)) == [0, 1, 2, 3] and ids(inbox.take(100, 0, 0)) == [4, 5, 6, 7, 8, 9]
    assert inbox.take(4, 0, 0) == []


def test_a_message_waits_for_company_until_there_is_enough() -> None:
    inbox, taken = Inbox(), []
    taker = threading.Thread(target=lambda: taken.extend(inbox.take(3, FOREVER_S, FOREVER_S)), daemon=True)
    taker.start()
    put(inbox, 0)
    until(lambda: inbox._wanted, "the taker to wait for company")
    put(inbox, 1)
    assert taker.is_alive() and not taken
    put(inbox, 2, 3)
    taker.join(FOREVER_S)
    assert ids(taken) == [0, 1, 2] and ids(inbox.take(3, 0, 0)) == [3]


def test_it_waits_for_company_no_longer_than_it_should() -> None:
    inbox = Inbox()
    put(inbox, 0)
    assert ids(inbox.take(3, 0.001, FOREVER_S)) == [0]


def test_closing_ends_every_wait() -> None:
    for first in ((), (7,)):
        inbox, taken = Inbox(), [[Message(SOURCE, (), b"", 0)]]
        put(inbox, *first)
        taker = threading.Thread(target=lambda i=inbox, t=taken: t.append(i.take(3, FOREVER_S, FOREVER_S)),  # type: ignore[misc]
                                 daemon=True)
        taker.start()
        inbox.close()
        taker.join(FOREVER_S)
        assert ids(taken[-1]) == list(first)


def test_a_full_inbox_lets_its_source_wait_until_there_is_room() -> None:
    inbox = Inbox(max_waiting=2)
    source = threading.Thread(target=put, args=(inbox, 0, 1, 2), daemon=True)
    source.start()
    until(inbox.full, "the inbox to fill")
    taken: list[int] = []
    until(lambda: taken.extend(ids(inbox.take(2, 0, 0.01))) or len(taken) == 3, "the third, put when there was room")
    source.join(FOREVER_S)
    assert taken == [0, 1, 2]


def test_what_is_too_large_to_be_read_is_cut_but_its_size_is_kept() -> None:
    inbox = Inbox()
    inbox.put(SOURCE, ("topic",), b"x" * 10_000_000, 1, 1)
    [message] = inbox.take(1, 0, 0)
    assert (len(message.payload), message.size_bytes) == (MAX_MESSAGE_BYTES + 1, 10_000_000)
