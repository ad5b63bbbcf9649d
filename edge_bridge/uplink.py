"""The uplink: sealed messages go out in lanes under IoT Core's limits, PUBACKs and receipts come back; between the
outbox (shipments.py, packer.py) and the connection (iot_connection.py).

One thread does all of it; the connection's callbacks only put events into its queue.
"""
import logging
import math
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable

from contract import numbers, topics
from contract.errors import BadPayload
from edge_bridge import alarms
from edge_bridge.alarms import Alarms
from edge_bridge.certificates import Identity
from edge_bridge.events import (
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
from edge_bridge.outgoing import TICK_S, Options, Outgoing
from edge_bridge.pacing import Budget, full_jitter_s
from edge_bridge.packer import Packer
from edge_bridge.receipts import Receipts
from edge_bridge.rows import LiveLine
from edge_bridge.shipments import ALERTS, BACKFILL, IN_FLIGHT, LIVE, SENT, WAITING, Shipment, Shipments

log = logging.getLogger(__name__)

SEALED_AHEAD = {LIVE: 2, BACKFILL: 4}  # in flight included; the rest stays rows, so that a backlog makes full batches
RETRY_MOST_S = 60.0
RESEND_MOST_S = 3600.0
SLEPT_S = 15.0  # the wall clock went on by so much between two looks: the machine slept, or its clock was put right
FAREWELL_S = 1.0
_STATUS = "status"


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
        self._receipts = Receipts(options.receipt_timeout_s, self._alarms, observe, clock)
        self.figures = self._receipts.figures
        self._looked_s = now_s()
        self._farewell: Callable[[], bytes] | None = None
        self._status_acked = False
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._budget = Budget(clock)
        self._outgoing = Outgoing(connection, shipments, self._receipts, self._budget, options, clock)
        self._aside: Callable[[Event], None] = lambda event: None
        self._accepted: dict[str, Shipment] = {}  # PUBACK 0, not yet noted on disk
        self._receipted: set[str] = set()  # receipt, not yet noted on disk
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
        if self.connected:
            self._budget.take()
            self._connection.publish(topics.status(self._options.thing), payload, _STATUS, retain=True)

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
        while not (self._stopping.is_set() and (self._clock() >= self._deadline_s or self._is_done())):
            self._take_events(wait_s)
            try:
                self._note()
                sealed = self._seal()
                self._disk_failing = False
                wait_s = self._outgoing.publish_due() if self.connected else TICK_S
                if sealed:
                    wait_s = 0.0  # there may be more to seal
            except sqlite3.Error as error:
                if not self._disk_failing:
                    log.error("outbox: the uplink cannot use it (%s) and tries again; free space, or check the volume",
                              error)
                self._disk_failing = True
                wait_s = 1.0
            self._notice_sleep()
        try:
            self._note()
        except sqlite3.Error as error:
            log.error("outbox: what was receipted last could not be noted (%s); it goes again after the start", error)
        self._say_farewell()

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
        self._status_acked = False
        self.publish_status(self._farewell())
        until_s = self._clock() + FAREWELL_S
        while not self._status_acked and (left_s := until_s - self._clock()) > 0:
            self._take_events(left_s)

    def _is_done(self) -> bool:
        """Nothing more to wait for: all is delivered, or there is no way to deliver."""
        return not self.connected or not (self._shipments.all() or self._packer.anything_waits())

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
                self._take_receipt(event)
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
            self._connection.publish(request.topic, request.payload, request.token)
        else:
            self._aside(Acked(request.token, "not connected"))

    def _take_ack(self, event: Acked) -> None:
        if event.token == _STATUS:
            self._status_acked = True
            return
        if event.token.startswith(ASIDE):
            self._aside(event)
            return
        self._budget.answered(event.token)
        shipment = self._shipments.get(event.token)
        if shipment is None or shipment.state != IN_FLIGHT:
            return
        if event.fault:
            shipment.state = WAITING
            self.figures.not_accepted += 1
            if self.connected:
                shipment.failures += 1
                shipment.due_s = self._clock() + full_jitter_s(shipment.failures, base_s=0.5, most_s=RETRY_MOST_S)
                log.warning("%s %s was not accepted (%s); it is sent again", shipment.route, shipment.name, event.fault)
            return
        shipment.state, shipment.failures = SENT, 0
        self._receipts.accepted(event.token)
        shipment.due_s = self._clock() + min(
            max(RESEND_MOST_S, self._options.receipt_timeout_s),
            self._options.receipt_timeout_s * 2 ** min(shipment.sends - 1, 20)) * random.uniform(1.0, 1.25)
        if self._options.receipts:
            self._accepted[shipment.name] = shipment
        else:
            self._receipted.add(shipment.name)

    def _take_receipt(self, event: Received) -> None:
        try:
            receipt = numbers.loads(event.payload)
            ids = [name for name in receipt["ids"] if isinstance(name, str)]
        except (BadPayload, KeyError, TypeError) as error:
            log.warning("a message on %s is no receipt (%s): %.100r", event.topic, error, event.payload)
            return
        for name in ids:
            shipment = self._shipments.get(name)
            if shipment is not None:
                self._receipts.came(name, shipment.route)
                shipment.due_s = math.inf
                self._receipted.add(name)

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
        waiting = self._shipments.all()
        log.info("cloud: connected, %s session, %d sealed messages wait", "resumed" if self._resumed else "new",
                 len(waiting))
        if not self._resumed:
            for shipment in waiting:
                if shipment.state == SENT and shipment.name not in self._receipted:
                    shipment.due_s = self._clock()  # its receipt may have been lost with the session
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

    def _note(self) -> None:
        """Write down what was accepted and receipted since the last time, in at most two transactions."""
        if self._receipted:
            self._shipments.delivered(self._receipted)
            self._receipts.forget(self._receipted)
            self._receipted.clear()
        if self._accepted:
            accepted = [s for name, s in self._accepted.items() if self._shipments.get(name) is s]
            self._shipments.sent(accepted)
            self._accepted.clear()

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
