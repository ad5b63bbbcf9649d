"""Which sealed message goes next, and when: asked by uplink.py, published through its connection under pacing.py's
budget."""
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_bridge.connection import Connection
from edge_bridge.pacing import Budget
from edge_bridge.receipts import Receipts
from edge_bridge.shipments import ALERTS, BACKFILL, IN_FLIGHT, LIVE, SENT, Shipment, Shipments

log = logging.getLogger(__name__)

BACKFILL_SHARE = 5  # every fifth publish is backfill's when live data would take them all
TICK_S = 0.05


@dataclass(frozen=True)
class Options:
    """thing: whose topics; topics: {route: topic}; receipts: does the cloud send them, and after what time without one
    the same bytes go again."""

    thing: str
    topics: Mapping[str, str]
    receipts: bool
    receipt_timeout_s: float


class Outgoing:
    """Used by the uplink's thread alone."""

    def __init__(self, connection: Connection, shipments: Shipments, receipts: Receipts, budget: Budget,
                 options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection, self._shipments, self._receipts = connection, shipments, receipts
        self._budget, self._options, self._clock = budget, options, clock
        self._live_in_a_row = 0

    def publish_due(self) -> float:
        """Publish what may go now; returns for how many seconds there is nothing to do."""
        while not self._budget.is_full():
            wait_s = self._budget.wait_s()
            if wait_s > 0:
                return min(wait_s, TICK_S)
            shipment = self._next()
            if shipment is None:
                return TICK_S
            self._publish(shipment)
        return TICK_S

    def _next(self) -> Shipment | None:
        """Alerts first, then live; backfill gets its share even while live data would take all."""
        if self._budget.may_alert() and (alert := self._due(ALERTS)):
            return alert
        live = self._due(LIVE)
        if live is None or self._live_in_a_row >= BACKFILL_SHARE - 1:
            self._live_in_a_row = 0
            backfill = self._due(BACKFILL) if self._budget.may_backfill() else None
            return backfill or live
        self._live_in_a_row += 1
        return live

    def _due(self, lane: str) -> Shipment | None:
        """What is due, save for messages whose receipt only takes long: the cloud is still at earlier ones."""
        while (found := self._shipments.due(lane)) and found.state == SENT:
            if not self._receipts.is_coming(found.name, found.route):
                break
            found.due_s = self._clock() + self._options.receipt_timeout_s / 4
        return found

    def _publish(self, shipment: Shipment) -> None:
        sealed = self._shipments.sealed(shipment)
        if shipment.state == SENT:
            log.info("no receipt for %s %s, sent %d times; it is sent again", shipment.route, shipment.name,
                     shipment.sends)
        self._receipts.published(shipment.name, len(sealed), accepted_before=shipment.state == SENT)
        if shipment.lane == BACKFILL:
            self._budget.backfilled(len(sealed))
        self._budget.published(shipment.name, len(sealed), is_alert=shipment.lane == ALERTS)
        shipment.state, shipment.sends = IN_FLIGHT, shipment.sends + 1
        self._connection.publish(self._options.topics[shipment.route], sealed, shipment.name)
