"""What the shadow sends goes through the uplink, beside the batches: inside the same limits, and never in their way."""
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from edge_bridge.connection import ASIDE, Acked, Connected, Disconnected, Event, Received, Send, Subscribe, Subscribed
from edge_bridge.pacing import PUBLISHES_PER_S, Budget
from tests.bridge_rig import until
from tests.uplink_rig import Line
from tests.uplink_rig import line as line

TOPIC = "$aws/things/T/shadow/name/bridge/update"


def attached(one: Line) -> list[Event]:
    """What the uplink passes on, as it comes."""
    passed: list[Event] = []
    one.uplink.attach(passed.append)
    return passed


def test_what_is_not_about_batches_is_passed_on(line: Callable[..., Line]) -> None:
    one = line()
    passed = attached(one)
    one.uplink.ask(Subscribe((TOPIC,)))
    one.uplink.ask(Send(TOPIC, b"1", ASIDE + "1"))
    until(lambda: len(passed) == 2, "both refused, there is no connection")
    assert passed == [Subscribed("not connected", (TOPIC,)), Acked(ASIDE + "1", "not connected")]
    one.connection.connect(resumed=True)
    until(lambda: passed[2:] == [Connected(True)], "the news, after the receipts are subscribed")
    one.uplink.ask(Subscribe((TOPIC, "b")))
    one.uplink.ask(Send(TOPIC, b"2", ASIDE + "2"))
    until(lambda: passed[3:] == [Subscribed("", (TOPIC, "b")), Acked(ASIDE + "2", "")], "their answers")
    assert one.connection.published == [(TOPIC, b"2", ASIDE + "2")]
    one.connection._post(Received(TOPIC + "/delta", b"{}"))
    one.connection.disconnect()
    until(lambda: passed[5:] == [Received(TOPIC + "/delta", b"{}"), Disconnected("the link is cut")], "the rest")


def test_a_shadow_that_is_refused_delays_no_batch(line: Callable[..., Line]) -> None:
    one = line()
    passed = attached(one)
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.connection.subscription_fault = "NOT_AUTHORIZED"
    one.uplink.ask(Subscribe((TOPIC,)))
    until(lambda: Subscribed("NOT_AUTHORIZED", (TOPIC,)) in passed, "the refusal")
    one.commit(1, 2)
    until(lambda: one.delivered() == 2, "delivery")
    assert one.uplink.connected


def test_what_goes_beside_the_batches_counts_under_the_limits() -> None:
    clock = SimpleNamespace(now_s=0.0)
    budget: Any = Budget(lambda: clock.now_s)
    for _ in range(3):
        budget.take(4)
    assert budget.wait_s() > 0, "twelve of a burst of ten"
    clock.now_s += 3 / PUBLISHES_PER_S
    assert budget.wait_s() == 0.0
    budget.published("a", 100, is_alert=True)
    assert budget.alerts() == 19 and not budget.is_full()
    for n in range(63):
        budget.published(str(n), 100, is_alert=False)
    assert budget.is_full()
    budget.answered("a")
    assert not budget.is_full()
