"""The uplink: sealed messages go out in lanes under IoT Core's limits, PUBACKs and receipts come back; between the
outbox (shipments.py, packer.py) and the connection (iot_connection.py).

One thread does all of it; the connection's callbacks only put events into its queue.
"""
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable

from contract import topics
from edge_bridge import alarms
from edge_bridge.alarms import Alarms
from edge_bridge.answers import Answers
from edge_bridge.certificates import Identity
from edge_bridge.connection import (
    ASIDE,
    Acked,
    Anew,
    Connected,
    Connection,
    Disconnected,
    Event,
    Received,
    Send,
    Subscribe,
    Subscribed,
)
from edge_bridge.live_line import LiveLine
from edge_bridge.outgoing import TICK_S, Options, Outgoing
from edge_bridge.pacing import Budget
from edge_bridge.packer import Packer
from edge_bridge.receipts import Receipts
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, Shipments

log = logging.getLogger(__name__)

SEALED_AHEAD = {LIVE: 2, BACKFILL: 4}  # in flight included; the rest stays rows, so that a backlog makes full batches
SLEPT_S = 15.0  # the wall clock went on by so much between two looks: the machine slept, or its clock was put right
FAREWELL_S = 1.0
_STATUS, _FAREWELL = "status", "farewell"  # tokens of what is no batch and is not asked for from aside


class Uplink:
    """The uplink thread. Nothing that it holds in memory is needed after a crash.

    observe: called with "puback" or "receipt" and the seconds that it took; now_s: the wall clock.
    """

    def __init__(self, connection: Connection, shipments: Shipments, packer: Packer, live: LiveLine, options: Options,
                 clock: Callable[[], float] = time.monotonic, *, raise_to: Alarms | None = None,
                 observe: Callable[[str, float], None] = lambda what, seconds: None,
                 now_s: Callable[[], float] = time.time) -> None:
        self._connection, self._shipments, self._packer, self._live = connection, shipments, packer, live
        self._options, self._clock = options, clock
        self._alarms, self._now_s = raise_to or Alarms(), now_s
        receipts = Receipts(options.receipt_timeout_s, self._alarms, observe, clock)
        self.figures = receipts.figures
        self._looked_s = now_s()
        self._farewell: Callable[[], bytes] | None = None
        self._farewell_acked = False
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._budget = Budget(clock)
        self._outgoing = Outgoing(connection, shipments, receipts, self._budget, options, clock)
        self._answers = Answers(shipments, receipts, options, clock)
        self._aside: Callable[[Event], None] = lambda event: None
        self._resumed = False
        self._subscribe_due_s: float | None = None
        self._said_down = ""
        self._disk_failing = False
        self._stopping = threading.Event()
        self._deadline_s = 0.0
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self.connected = False

    def start(self) -> None:
        """Connect, and send whatever waits as long as there is a connection."""
        self._connection.start(self._events.put)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to send (an alert): look now."""
        self._events.put(None)

    def attach(self, aside: Callable[[Event], None]) -> None:
        """Pass on what is not about batches: when the connection is there and gone, what comes on other topics than
        the receipts', and the answers to what `ask` was given. Called in the uplink's thread: it only takes note."""
        self._aside = aside

    def ask(self, request: Send | Subscribe) -> None:
        """Have this published or subscribed beside the batches, at once, or refused while there is no connection."""
        self._events.put(request)

    def publish_status(self, payload: bytes) -> None:
        """Send the status message if there is a connection; when it gets lost the next one replaces it."""
        self.ask(Send(topics.status(self._options.thing), payload, _STATUS, retain=True))

    def slow_backlog(self, share: float) -> None:
        """From now on the backlog goes at this share of its pace; live data and alerts go as ever."""
        self._budget.backfill_share = share

    def connect_anew(self, identity: Identity | None = None) -> None:
        """Give up the connection and make another one, with this identity if given; what is in flight goes again."""
        self._events.put(Anew(identity))

    def stop(self, timeout_s: float, farewell: Callable[[], bytes] | None = None) -> None:
        """Seal and send all there is, wait for receipts, at most timeout_s; what is left stays in the outbox.
        farewell: makes the last status message."""
        self._deadline_s, self._farewell = self._clock() + timeout_s, farewell
        self._stopping.set()
        self.wake()
        self._thread.join(timeout_s + 1)
        self._connection.stop()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._is_over():
            self._take_events(wait_s)
            wait_s = self._work()
            self._notice_sleep()
        try:
            self._answers.note()
        except sqlite3.Error as error:
            log.error("outbox: what was receipted last could not be noted (%s); it goes again after the start", error)
        self._say_farewell()

    def _work(self) -> float:
        """Note what came back, seal and publish what may go; returns for how many seconds there is nothing to do."""
        try:
            self._answers.note()
            sealed = self._seal()
            self._disk_failing = False
            wait_s = self._outgoing.publish_due() if self.connected else TICK_S
        except sqlite3.Error as error:
            if not self._disk_failing:
                log.error("outbox: the uplink cannot use it (%s) and tries again; free space, or check the volume",
                          error)
            self._disk_failing = True
            return 1.0
        return 0.0 if sealed else wait_s  # there may be more to seal

    def _is_over(self) -> bool:
        """Told to stop, and nothing more to wait for: all is delivered, or there is no way to deliver, or no time."""
        if not self._stopping.is_set():
            return False
        if not self.connected or self._clock() >= self._deadline_s:
            return True
        try:
            return not (self._shipments.all() or self._packer.anything_waits())
        except sqlite3.Error as error:
            log.debug("outbox: it cannot be told whether anything waits (%s)", error)
            return False

    def _notice_sleep(self) -> None:
        """After a sleep the connection may be dead without a word; what is not alive is not worth a time-out."""
        now_s, before_s = self._now_s(), self._looked_s
        self._looked_s = now_s
        if now_s - before_s >= SLEPT_S:
            log.warning("this machine slept for %.0f s, or its clock was put forward; connecting anew",
                        now_s - before_s)
            self._connection.anew(None)

    def _say_farewell(self) -> None:
        if self._farewell is None or not self.connected:
            return
        try:
            words = self._farewell()
        except sqlite3.Error as error:
            log.error("outbox: the last status cannot be made (%s)", error)
            return
        self.ask(Send(topics.status(self._options.thing), words, _FAREWELL, retain=True))
        until_s = self._clock() + FAREWELL_S
        while not self._farewell_acked and (left_s := until_s - self._clock()) > 0:
            self._take_events(left_s)

    # What came back

    def _take_events(self, timeout_s: float) -> None:
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get(block=False)
            while True:
                self._take_event(event)
                event = self._events.get(block=False)
        except queue.Empty:
            pass  # all taken
        if self._subscribe_due_s is not None and self._clock() >= self._subscribe_due_s:
            self._subscribe_due_s = None
            self._connection.subscribe(topics.receipts(self._options.thing))

    def _take_event(self, event: Event | None) -> None:
        if isinstance(event, Acked):
            self._take_ack(event)
        elif isinstance(event, Received):
            if event.topic == topics.receipts(self._options.thing):
                self._answers.take_receipt(event)
            else:
                self._aside(event)
        elif isinstance(event, Connected):
            self._resumed = event.resumed
            if self._options.receipts:
                self._subscribe_due_s = self._clock()
            else:
                self._ready()
        elif isinstance(event, Subscribed):
            self._take_subscription(event)
        elif isinstance(event, Disconnected):
            self._down(event)
        elif isinstance(event, Anew):
            self._connection.anew(event.identity)
        elif isinstance(event, Send | Subscribe):
            self._do_aside(event)

    def _do_aside(self, request: Send | Subscribe) -> None:
        if isinstance(request, Subscribe):
            if self.connected:
                self._connection.subscribe(*request.topics)
            else:
                self._aside(Subscribed("not connected", request.topics))
        elif self.connected:
            self._budget.take(request.publishes)
            self._connection.publish(request.topic, request.payload, request.token, request.retain)
        elif request.token.startswith(ASIDE):
            self._aside(Acked(request.token, "not connected"))

    def _take_ack(self, event: Acked) -> None:
        if event.token in (_STATUS, _FAREWELL):
            self._farewell_acked = event.token == _FAREWELL
        elif event.token.startswith(ASIDE):
            self._aside(event)
        else:
            self._budget.answered(event.token)
            self._answers.take_ack(event, self.connected)

    def _take_subscription(self, event: Subscribed) -> None:
        if topics.receipts(self._options.thing) not in event.topics:
            self._aside(event)
            return
        if not event.fault:
            self._ready()
            return
        self._subscribe_due_s = self._clock() + 5.0
        self._say_down(f"no subscription to {topics.receipts(self._options.thing)} ({event.fault}); the policy must "
                       "allow iot:Subscribe and iot:Receive there, or set RECEIPTS=off if the cloud sends none")

    def _ready(self) -> None:
        if self.connected:
            return
        self.connected, self._said_down = True, ""
        self.figures.connects += 1
        self._alarms.cleared(alarms.REFUSED)
        self._live.connected(True)
        log.info("cloud: connected, %s session, %d sealed messages wait", "resumed" if self._resumed else "new",
                 len(self._shipments.all()))
        if not self._resumed:
            self._answers.session_lost()
        self._aside(Connected(self._resumed))

    def _down(self, event: Disconnected) -> None:
        self.connected, self._subscribe_due_s = False, None
        self._live.connected(False)
        self.figures.takeovers += event.taken_over
        if event.refused:
            self._alarms.raised(alarms.REFUSED, (
                f"{event.reason}; readings are kept on disk; is the certificate active, and attached to its policy and "
                "to the thing? A new one on disk is taken up by itself"))
        self._say_down(f"{event.reason}; readings are kept in the outbox and sent when it is back")
        self._aside(event)

    def _say_down(self, text: str) -> None:
        """Once per state, not once per attempt."""
        level = logging.DEBUG if self._said_down else logging.WARNING
        self._said_down = text
        log.log(level, "cloud: not connected: %s", text)

    # What goes out

    def _seal(self) -> bool:
        """Seal only what can soon be sent: while the link is down rows gather, and go in full batches afterwards.

        A full batch takes a tenth of a second: one a turn, so that alerts need not wait for several. True: one was.
        """
        if not self.connected:
            return False
        self._packer.seal_alerts(int(self._budget.alerts()) - self._shipments.unsent(ALERTS))
        everything = self._stopping.is_set()
        return any(self._shipments.unsent(lane) < SEALED_AHEAD[lane] and self._packer.seal_rows(lane, everything)
                   for lane in (LIVE, BACKFILL))
