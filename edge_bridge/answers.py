"""What comes back for sealed messages: PUBACKs and receipts from uplink.py, noted on disk by shipments.py."""
import logging
import math
import random
import time
from collections.abc import Callable

from contract import numbers
from contract.errors import BadPayload
from edge_bridge.connection import Acked, Received
from edge_bridge.outgoing import Options
from edge_bridge.pacing import full_jitter_s
from edge_bridge.receipts import Receipts
from edge_bridge.shipments import IN_FLIGHT, SENT, WAITING, Shipment, Shipments

log = logging.getLogger(__name__)

RETRY_BASE_S, RETRY_MOST_S = 0.5, 60.0  # after a PUBACK that said no
RESEND_MOST_S = 3600.0  # after a PUBACK, as long as no receipt comes


class Answers:
    """Used by the uplink's thread alone. Nothing is on disk before `note`; a crash costs a repeat, and nothing else."""

    def __init__(self, shipments: Shipments, receipts: Receipts, options: Options,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._shipments, self._receipts, self._options, self._clock = shipments, receipts, options, clock
        self._accepted: dict[str, Shipment] = {}  # PUBACK 0, not yet noted on disk
        self._receipted: set[str] = set()  # receipt, not yet noted on disk

    def take_ack(self, ack: Acked, connected: bool) -> None:
        """A PUBACK, or that none will come; connected: is there still a connection to send it again on soon?"""
        shipment = self._shipments.get(ack.token)
        if shipment is None or shipment.state != IN_FLIGHT:
            return
        if ack.fault:
            self._not_accepted(shipment, ack.fault, connected)
            return
        shipment.state, shipment.failures = SENT, 0
        self._receipts.accepted(ack.token)
        shipment.due_s = self._clock() + self._resend_after_s(shipment.sends)
        if self._options.receipts:
            self._accepted[shipment.name] = shipment
        else:
            self._receipted.add(shipment.name)

    def _not_accepted(self, shipment: Shipment, fault: str, connected: bool) -> None:
        shipment.state = WAITING
        self._receipts.figures.not_accepted += 1
        if connected:
            shipment.failures += 1
            shipment.due_s = self._clock() + full_jitter_s(shipment.failures, base_s=RETRY_BASE_S, most_s=RETRY_MOST_S)
            log.warning("%s %s was not accepted (%s); it is sent again", shipment.route, shipment.name, fault)

    def _resend_after_s(self, sends: int) -> float:
        """Twice as long each time, up to an hour or the time-out, whichever is longer; and jittered."""
        timeout_s = self._options.receipt_timeout_s
        return min(max(RESEND_MOST_S, timeout_s), timeout_s * 2 ** min(sends - 1, 20)) * random.uniform(1.0, 1.25)

    def take_receipt(self, message: Received) -> None:
        """The cloud names what it has stored."""
        try:
            receipt = numbers.loads(message.payload)
            ids = [name for name in receipt["ids"] if isinstance(name, str)]
        except (BadPayload, KeyError, TypeError) as error:
            log.warning("a message on %s is no receipt (%s): %.100r", message.topic, error, message.payload)
            return
        for name in ids:
            shipment = self._shipments.get(name)
            if shipment is not None:
                self._receipts.came(name, shipment.route)
                shipment.due_s = math.inf
                self._receipted.add(name)

    def session_lost(self) -> None:
        """The connection resumed no session: receipts may have been lost with the last one, so all goes again."""
        for shipment in self._shipments.all():
            if shipment.state == SENT and shipment.name not in self._receipted:
                shipment.due_s = self._clock()

    def note(self) -> None:
        """Write down what was accepted and receipted since the last time, in at most two transactions."""
        if self._receipted:
            self._shipments.delivered(self._receipted)
            self._receipts.forget(self._receipted)
            self._receipted.clear()
        if dropped := self._shipments.dropped():
            self._receipts.forget(dropped)
        if self._accepted:
            accepted = [s for name, s in self._accepted.items() if self._shipments.get(name) is s]
            self._shipments.sent(accepted)
            self._accepted.clear()
