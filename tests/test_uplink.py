"""The uplink over a loopback connection and a real outbox: what is sent, sent again, and forgotten, and when."""
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract import numbers, topics
from edge_bridge import alarms
from edge_bridge import uplink as uplink_module
from edge_bridge.alarms import Alarms
from edge_bridge.certificates import Identity
from edge_bridge.events import Disconnected, Received
from edge_bridge.loopback import LoopbackConnection
from edge_bridge.pacing import Bucket, full_jitter_s
from edge_bridge.receipts import Receipts
from edge_bridge.rows import ANOMALY
from edge_bridge.shipments import BACKFILL, LIVE, SENT
from edge_bridge.uplink import Options, Uplink
from tests.bridge_rig import until
from tests.test_outbox import Parts, classified

TOPICS = {"readings": "$aws/rules/edgecloud_readings/T", "events": "$aws/rules/edgecloud_events/T",
          "alerts": topics.ALERTS}


class Line:
    """An outbox, an uplink and a loopback connection."""

    def __init__(self, path: Path, receipt_timeout_s: float = 60.0, receipts: bool = True, scoring: bool = False,
                 **connection: Any) -> None:
        self.parts = Parts(path, scoring, now_s=time.time())
        self.alarms, self.took, self.ahead_s = Alarms(), list[tuple[str, float]](), 0.0
        self.connection = LoopbackConnection("T", **connection)
        self.uplink = Uplink(self.connection, self.parts.shipments, self.parts.packer, self.parts.live,
                             Options("T", TOPICS, receipts, receipt_timeout_s), raise_to=self.alarms,
                             observe=lambda what, seconds: self.took.append((what, seconds)),
                             now_s=lambda: time.time() + self.ahead_s)
        self.uplink.start()

    def commit(self, *values: float) -> None:
        """Commit readings that are old enough to be sealed now."""
        self.parts.now_s = time.time() - 11
        self.parts.commit(*[("a", value) for value in values])
        self.parts.now_s = time.time()

    def sent_bytes(self) -> dict[str, set[bytes]]:
        """{token: the different bytes it was sent with}."""
        found: dict[str, set[bytes]] = {}
        for _, payload, token in list(self.connection.published):
            found.setdefault(token, set()).add(payload)
        return found

    def delivered(self) -> int:
        return self.parts.counters.total("delivered")

    def close(self) -> None:
        self.uplink.stop(0.0)
        self.parts.store.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(**options: Any) -> Line:
        lines.append(Line(tmp_path / f"{len(lines)}.db", **options))
        return lines[-1]
    yield make
    for one in lines:
        one.close()


def test_nothing_is_sealed_or_sent_before_there_is_a_connection(line: Callable[..., Line]) -> None:
    one = line()
    one.commit(1, 2, 3)
    one.uplink.wake()
    time.sleep(0.1)
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
    time.sleep(0.3)
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


def test_a_late_receipt_is_waited_for_while_those_of_earlier_messages_come() -> None:
    now_s = [0.0]
    receipts = Receipts(10.0, Alarms(), lambda what, seconds: None, lambda: now_s[0])
    for at, name in enumerate(("first", "second", "third", "fourth")):
        now_s[0] = float(at)
        receipts.published(name, 1, accepted_before=False)
    now_s[0] = 14.0
    assert not receipts.is_coming("second", "readings")  # silence
    receipts.came("first", "readings")
    assert receipts.is_coming("second", "readings") and not receipts.is_coming("second", "alerts")
    receipts.came("third", "readings")
    assert not receipts.is_coming("second", "readings") and receipts.is_coming("fourth", "readings")  # overtaken
    now_s[0] = 25.0
    assert not receipts.is_coming("fourth", "readings")  # silence again
    assert not receipts.is_coming("of an earlier process", "readings")


def test_a_slow_cloud_is_not_sent_everything_twice(line: Callable[..., Line]) -> None:
    one = line(receipt=False, receipt_timeout_s=1.5)
    one.connection.connect()
    names: list[str] = []
    for n in range(1, 13):  # a receipt every 0.3 s, the last after 3.6 s
        one.commit(n)
        until(lambda n=n: len(set(one.connection.tokens())) == n, "a publish")
    names = list(dict.fromkeys(one.connection.tokens()))
    for n, name in enumerate(names, 1):
        time.sleep(0.3)
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
    began_s = time.monotonic()
    one.uplink.stop(8.0)
    assert time.monotonic() - began_s < 2 and one.parts.rows.waiting("readings") == 1


def test_alerts_go_first_and_in_their_own_message(line: Callable[..., Line]) -> None:
    one = line(scoring=True)
    one.parts.commit(("a", 1), ("b", 2))
    rows = one.parts.rows.unscored(10)
    one.parts.rows.mark(rows[-1].id, {rows[0].id: ANOMALY}, [(rows[0].id, "a", classified(rows[0]))], {})
    one.connection.connect()
    until(lambda: one.parts.counters.total("alerts_delivered") == 1, "the alert")
    topic, payload, _ = one.connection.published[0]
    assert topic == topics.ALERTS and list(numbers.loads(payload))[:3] == ["timestamp", "sensor2", "anomaly"]


def test_live_data_leaves_backfill_its_share(tmp_path: Path) -> None:
    one = Line(tmp_path / "outbox.db")
    try:
        lanes = []
        for index in range(40):
            lane = "live" if index < 30 else "backfill"
            one.parts.shipments.seal(f"{index:024d}", b"x", route="readings", lane=lane, counts={"a": 1}, oldest_ms=0,
                                     row_ids=[])
        for _ in range(20):
            shipment = one.uplink._outgoing._next()
            assert shipment
            lanes.append(shipment.lane)
            shipment.due_s = float("inf")
        assert lanes.count("backfill") == 4 and lanes[4] == "backfill"
    finally:
        one.close()


def test_the_budget_is_kept(line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "SEALED_AHEAD", {LIVE: 1000, BACKFILL: 1000})
    one = line()
    for index in range(150):
        one.parts.shipments.seal(f"{index:024d}", b"x" * 100, route="readings", lane="backfill", counts={"a": 1},
                                 oldest_ms=0, row_ids=[])
    began_s = time.monotonic()
    one.connection.connect()
    until(lambda: len(one.connection.tokens()) == 150, "all")
    assert time.monotonic() - began_s > (150 - 10) / 100, "more than 100 publishes a second"


def test_big_messages_are_held_to_the_byte_rate(line: Callable[..., Line]) -> None:
    one = line()
    for index in range(12):
        one.parts.shipments.seal(f"{index:024d}", b"x" * 120_000, route="readings", lane="backfill", counts={"a": 1},
                                 oldest_ms=0, row_ids=[])
    began_s = time.monotonic()
    one.connection.connect()
    until(lambda: len(one.connection.tokens()) == 12, "all")
    assert time.monotonic() - began_s > (12 * 120_000 - 2 * 131_072) / (512 * 1024)


def test_a_bucket_lends_once_and_waits_for_it_to_be_paid_back() -> None:
    now_s = [0.0]
    bucket = Bucket(10, 5, lambda: now_s[0])
    assert bucket.ready_in_s() == 0.0
    bucket.take(25)
    assert bucket.ready_in_s() == pytest.approx(2.1)
    now_s[0] = 100.0
    assert bucket.tokens() == 5


def test_back_off_grows_to_its_end_and_is_jittered() -> None:
    waits = [full_jitter_s(attempt, 0.5, 60.0) for attempt in (1, 3, 50) for _ in range(200)]
    assert max(waits[:200]) <= 1.0 and max(waits[200:400]) <= 4.0 and 30.0 < max(waits) <= 60.0
    assert min(waits[400:]) < 20.0
