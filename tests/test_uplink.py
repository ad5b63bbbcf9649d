"""The uplink over a loopback connection and a real outbox: what is sent, sent again, and forgotten, and when."""
import math
import sqlite3
import threading
from collections.abc import Callable

import pytest

from contract import numbers, topics
from contract.batch import ANOMALY
from edge_bridge import alarms
from edge_bridge import uplink as uplink_module
from edge_bridge.certificates import Identity
from edge_bridge.connection import ASIDE, Acked, Connected, Disconnected, Received, Send
from edge_bridge.shipments import BACKFILL, LIVE, SENT
from tests.bridge_rig import DEADLINE_S, until
from tests.outbox_rig import classified
from tests.uplink_rig import TOPICS, Line
from tests.uplink_rig import line as line


def test_nothing_is_sealed_or_sent_before_there_is_a_connection(line: Callable[..., Line]) -> None:
    one = line()
    one.commit(1, 2, 3)
    refusals = list[object]()
    one.uplink.attach(refusals.append)
    for turn in range(1, 4):  # of the uplink's thread: it answers, then looks what it may seal and send
        one.uplink.ask(Send("a", b"b", f"{ASIDE}x"))
        until(lambda turn=turn: len(refusals) == turn, "a refusal")
    assert one.connection.tokens() == [] and one.parts.rows.waiting("readings") == 3
    one.connection.connect()
    until(lambda: one.delivered() == 3, "delivery")
    assert one.connection.published[0][0] == TOPICS["readings"]
    assert one.parts.shipments.all() == []


def test_a_backlog_drains_after_a_reconnect_though_nothing_new_comes(line: Callable[..., Line]) -> None:
    one = line()
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.connection.disconnect()
    until(lambda: not one.uplink.connected, "its end")
    one.commit(1, 2)
    one.connection.connect(resumed=True)
    until(lambda: one.delivered() == 2, "the backlog")


def test_a_receipt_that_never_comes_brings_the_same_bytes_again(line: Callable[..., Line]) -> None:
    one = line(receipt=False, receipt_timeout_s=0.3)
    one.connection.connect()
    one.commit(1)
    until(lambda: len(one.connection.tokens()) >= 3, "the same batch again, and again")
    one.commit(2)
    until(lambda: len(set(one.connection.tokens())) == 2, "the next batch")
    assert all(len(payloads) == 1 for payloads in one.sent_bytes().values())
    first, second = dict.fromkeys(one.connection.tokens())
    one.connection.send_receipt(second, "not ours", first)
    until(lambda: one.delivered() == 2, "both receipts")
    assert (one.parts.counters.total("sent"), one.parts.shipments.all()) == (2, [])


def test_a_withheld_or_failing_puback_is_not_sent(line: Callable[..., Line]) -> None:
    one = line(ack=False, receipt=False)
    one.connection.connect()
    one.commit(1)
    [token] = until(one.connection.tokens, "a publish")
    one.connection.answer(token, "QUOTA_EXCEEDED")
    until(lambda: len(one.connection.tokens()) == 2, "another try")
    assert one.parts.counters.total("sent") == 0
    one.connection.answer(token)
    until(lambda: one.parts.counters.total("sent") == 1, "the PUBACK")
    [shipment] = one.parts.shipments.all()
    assert shipment.state == SENT and one.delivered() == 0


def test_what_was_in_flight_when_the_link_broke_goes_again(line: Callable[..., Line]) -> None:
    one = line(ack=False, receipt=False)
    one.connection.connect()
    one.commit(1)
    [token] = until(one.connection.tokens, "a publish")
    one.connection.disconnect()
    one.commit(2)
    one.connection.ack = one.connection.receipt = True
    one.connection.connect(resumed=True)
    until(lambda: one.delivered() == 2, "both")
    assert one.connection.tokens().count(token) == 2 and len(one.sent_bytes()[token]) == 1


def test_a_receipt_may_come_before_its_puback(line: Callable[..., Line]) -> None:
    one = line(ack=False, receipt=True)
    one.connection.connect()
    one.commit(1)
    until(lambda: one.delivered() == 1, "the receipt")
    one.connection.answer(one.connection.tokens()[0])
    one.commit(2)
    until(lambda: one.delivered() == 2, "the next")
    assert one.parts.counters.total("sent") == 2


@pytest.mark.parametrize("resumed", [True, False])
def test_only_a_lost_session_brings_unreceipted_batches_again_at_once(line: Callable[..., Line], resumed: bool) -> None:
    one = line(receipt=False)
    one.connection.connect()
    one.commit(1)
    until(lambda: one.parts.counters.total("sent") == 1, "a PUBACK without a receipt")
    one.connection.disconnect()
    one.connection.connect(resumed)
    one.commit(2)
    until(lambda: len(set(one.connection.tokens())) == 2, "the next batch")
    until(lambda: one.parts.counters.total("sent") == 2, "its PUBACK")
    first = one.connection.tokens()[0]
    assert one.connection.tokens().count(first) == (1 if resumed else 2)


def test_without_receipts_a_puback_is_delivery(line: Callable[..., Line]) -> None:
    one = line(receipts=False, receipt=False)
    one.connection.subscription_fault = "must not be asked for"
    one.connection.connect()
    one.commit(1)
    until(lambda: one.delivered() == 1, "delivery")


def test_a_refused_subscription_sends_nothing_and_is_asked_again(line: Callable[..., Line],
                                                                 caplog: pytest.LogCaptureFixture) -> None:
    one = line()
    one.connection.subscription_fault = "NOT_AUTHORIZED"
    one.connection.connect()
    one.commit(1)
    until(lambda: "iot:Subscribe" in caplog.text, "a line that says what to do")
    assert one.connection.tokens() == []


def test_a_message_that_is_no_receipt_is_named_and_passed_over(line: Callable[..., Line],
                                                               caplog: pytest.LogCaptureFixture) -> None:
    one = line(receipt=False)
    one.connection.connect()
    one.commit(1)
    until(one.connection.tokens, "a publish")
    for payload in (b"\xff", b"[]", b'{"ids": 7}', b'{"v": 1, "ids": [7, {}]}'):
        one.connection._post(Received("edgecloud/receipts/T", payload))
    one.connection.send_receipt(*one.connection.tokens())
    until(lambda: one.delivered() == 1, "delivery all the same")
    assert caplog.text.count("is no receipt") == 3


def test_latencies_are_those_of_the_last_publish_and_of_the_first(line: Callable[..., Line]) -> None:
    one = line(ack=False, receipt=False)
    one.connection.connect()
    one.commit(1)
    [token] = until(one.connection.tokens, "a publish")
    one.passed_s += 0.3
    one.connection.answer(token, "QUOTA_EXCEEDED")
    until(lambda: len(one.connection.tokens()) == 2, "another try")
    one.connection.answer(token)
    until(lambda: one.took, "the PUBACK")
    one.connection.send_receipt(token)
    until(lambda: one.delivered() == 1, "delivery")
    (puback, puback_s), (receipt, receipt_s) = one.took
    assert (puback, receipt) == ("puback", "receipt") and receipt_s >= 0.3 and receipt_s - puback_s >= 0.29
    figures = one.uplink.figures
    assert (figures.publishes, figures.not_accepted, figures.resends, figures.connects) == (2, 1, 0, 1)
    assert figures.published_bytes == 2 * len(one.connection.published[0][1])


def test_missing_receipts_raise_an_alarm_until_they_come(line: Callable[..., Line],
                                                        caplog: pytest.LogCaptureFixture) -> None:
    one = line(receipt=False, receipt_timeout_s=0.3)
    one.connection.connect()
    one.commit(1)
    until(lambda: alarms.NO_RECEIPT in one.alarms.up(), "the alarm")
    until(lambda: one.uplink.figures.resends >= 2, "it to be sent again")
    assert one.uplink.figures.receipts_overdue == 1 and caplog.text.count("alarm no_receipt") == 1
    one.connection.send_receipt(*one.connection.tokens())
    until(lambda: not one.alarms.up() and one.uplink.figures.receipts_overdue == 0, "the alarm to be over")


def test_a_slow_cloud_is_not_sent_everything_twice(line: Callable[..., Line]) -> None:
    one = line(receipt=False, receipt_timeout_s=15)
    one.connection.connect()
    names: list[str] = []
    for n in range(1, 13):  # a receipt every 3 s, the last after 36 s
        one.commit(n)
        until(lambda n=n: len(set(one.connection.tokens())) == n, "a publish")
    names = list(dict.fromkeys(one.connection.tokens()))
    for n, name in enumerate(names, 1):
        one.passed_s += 3
        one.connection.send_receipt(name)
        until(lambda n=n: one.delivered() == n, "delivery")
    assert len(one.connection.tokens()) == len(names) == 12 and one.uplink.figures.resends == 0


def test_a_lost_session_is_no_missing_receipt(line: Callable[..., Line]) -> None:
    one = line(receipt=False)
    one.connection.connect()
    one.commit(1)
    until(lambda: one.parts.counters.total("sent") == 1, "a PUBACK without a receipt")
    one.connection.disconnect()
    one.connection.connect(resumed=False)
    until(lambda: one.uplink.figures.resends == 1, "it to be sent again")
    assert one.alarms.up() == {} and one.uplink.figures.receipts_overdue == 0


def test_another_identity_is_taken_over_with_what_is_in_flight(line: Callable[..., Line]) -> None:
    one = line(ack=False, receipt=False)
    one.connection.connect()
    one.commit(1)
    [token] = until(one.connection.tokens, "a publish")
    identity = Identity(b"c", b"k", b"r", 0.0)
    one.uplink.connect_anew(identity)
    until(lambda: one.connection.identities == [identity], "the change")
    until(lambda: not one.uplink.connected, "the end of the connection")
    one.connection.ack = one.connection.receipt = True
    one.connection.connect(resumed=True)
    until(lambda: one.delivered() == 1, "delivery")
    assert one.connection.tokens() == [token, token] and len(one.sent_bytes()[token]) == 1


def test_a_machine_that_slept_connects_anew_at_once(line: Callable[..., Line],
                                                    caplog: pytest.LogCaptureFixture) -> None:
    one = line()
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.ahead_s = uplink_module.SLEPT_S + 1
    until(lambda: one.connection.identities == [None], "a new connection")
    one.ahead_s = -3600.0  # a clock that is set back is no sleep
    one.connection.connect(resumed=True)
    one.commit(1)
    until(lambda: one.delivered() == 1, "delivery")
    assert one.connection.identities == [None] and "slept for 16 s" in caplog.text


def test_a_cloud_that_refuses_raises_an_alarm_until_it_accepts(line: Callable[..., Line]) -> None:
    one = line()
    one.connection._post(Disconnected("the link is down"))
    one.connection._post(Disconnected("refused: NOT_AUTHORIZED", refused=True))
    until(lambda: alarms.REFUSED in one.alarms.up(), "the alarm")
    one.connection.connect()
    until(lambda: not one.alarms.up(), "the alarm to be over")


def test_the_last_words_go_out_after_everything_else(line: Callable[..., Line]) -> None:
    one = line()
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.parts.commit(("a", 1))
    one.uplink.stop(5.0, lambda: b"%d delivered" % one.delivered())
    assert one.connection.published[-1][:2] == ("edgecloud/status/T", b"1 delivered")


def test_stop_seals_and_delivers_what_is_there_whatever_its_age(line: Callable[..., Line]) -> None:
    one = line()
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.parts.commit(("a", 1), ("b", 2))
    one.uplink.stop(5.0)
    assert one.delivered() == 2 and one.connection.stopped


def test_stop_does_not_wait_where_there_is_no_connection(line: Callable[..., Line]) -> None:
    one = line()
    one.parts.commit(("a", 1))
    stopping = threading.Thread(target=one.uplink.stop, args=(10 * DEADLINE_S,), daemon=True)
    stopping.start()
    stopping.join(DEADLINE_S)
    assert not stopping.is_alive() and one.parts.rows.waiting("readings") == 1


def test_alerts_go_first_and_in_their_own_message(line: Callable[..., Line]) -> None:
    one = line(scoring=True)
    one.parts.commit(("a", 1), ("b", 2))
    rows = one.parts.rows.unscored(10)
    one.parts.rows.mark(rows[-1].id, {rows[0].id: ANOMALY}, [(rows[0].id, "a", classified(rows[0]))], {})
    one.connection.connect()
    until(lambda: one.parts.counters.total("alerts_delivered") == 1, "the alert")
    topic, payload, _ = one.connection.published[0]
    assert topic == topics.ALERTS and list(numbers.loads(payload))[:3] == ["timestamp", "sensor2", "anomaly"]


def test_what_the_retention_limit_drops_is_no_missing_receipt_any_more(line: Callable[..., Line]) -> None:
    one = line(receipt=False, receipt_timeout_s=0.3)
    one.connection.connect()
    one.commit(1)
    until(lambda: alarms.NO_RECEIPT in one.alarms.up(), "the alarm")

    def drop() -> int:
        for shipment in one.parts.shipments.all():
            shipment.offered_s = -math.inf  # long ago
        return sum(one.parts.shipments.drop(lane, None, 9, "size") for lane in (LIVE, BACKFILL))

    until(drop, "the message to be dropped")
    until(lambda: not one.alarms.up() and one.uplink.figures.receipts_overdue == 0, "the alarm to be over")


def test_a_status_goes_out_retained_while_there_is_a_connection_and_is_not_kept(line: Callable[..., Line]) -> None:
    one, asides = line(), list[object]()
    one.uplink.attach(asides.append)
    one.uplink.publish_status(b"before")
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")
    one.uplink.publish_status(b"after")
    one.uplink.ask(Send("a", b"b", f"{ASIDE}x"))
    until(lambda: Acked(f"{ASIDE}x", "") in asides, "what was asked for later")
    assert one.connection.published == [("edgecloud/status/T", b"after", "status"), ("a", b"b", f"{ASIDE}x")]
    assert one.connection.retained == ["edgecloud/status/T"]
    assert [type(event) for event in asides] == [Connected, Acked], "the status's answer is nobody else's affair"


def test_a_disk_that_cannot_be_read_does_not_keep_the_last_words_back(line: Callable[..., Line],
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    one = line()
    one.connection.connect()
    until(lambda: one.uplink.connected, "the connection")

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(one.parts.rows, "oldest", broken)
    one.uplink.stop(0.5, lambda: b"not all is delivered")
    assert one.connection.published[-1][1] == b"not all is delivered"
