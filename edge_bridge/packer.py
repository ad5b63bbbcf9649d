"""The packer: rows and alerts that are due are sealed into messages of the right size; asked by uplink.py."""
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from contract import alerts, batch, numbers, payloads
from contract.batch import UNCLASSIFIED
from contract.errors import BadPayload
from edge_bridge.live_line import LiveLine
from edge_bridge.rows import EVERY_ID, Rows, StoredRow
from edge_bridge.schema import REQUIRED, ROUTES
from edge_bridge.shipments import ALERTS, LIVE, Shipments

log = logging.getLogger(__name__)

FULL_BYTES = batch.MAX_BYTES // batch.METER_BYTES * batch.METER_BYTES
MARK_WAIT_S = 2.0  # a slow detector may hold a reading back this much longer, then it goes unclassified
MOST_ROWS = 10_000
MOST_ALERTS = 400  # readings in one alert message: well under 128 KiB
_HEAD_BYTES = 120  # what stands before and after the series in a batch
_DECODED_AT_ONCE = 1000  # decoding lets no other thread run


class Packer:
    """Seals what is due. outbox_id goes into every message; batch_age_s: how long a live row waits at most, may be
    changed while it runs."""

    def __init__(self, rows: Rows, shipments: Shipments, live: LiveLine, *, outbox_id: str, batch_age_s: float,
                 now_s: Callable[[], float] = time.time) -> None:
        self._rows, self._shipments, self._live = rows, shipments, live
        self._outbox_id, self.batch_age_s, self._now_s = outbox_id, batch_age_s, now_s
        self._bytes_per_row = {"readings": 16.0, "events": 32.0}  # then as the last batch had it

    def seal_rows(self, lane: str, everything: bool = False) -> bool:
        """Seal one batch of each route that is due in this lane; everything: age does not matter. True if any was."""
        first_live_id = self._live.first_live_id()
        if lane == LIVE:
            if first_live_id is None:
                return False
            span = first_live_id, EVERY_ID
        else:
            span = 0, EVERY_ID if first_live_id is None else first_live_id
        sealed = [self._seal_route(route, lane, span, everything) for route in ROUTES]
        return any(sealed)

    def anything_waits(self) -> bool:
        """Is there any row or alert that is not sealed?"""
        return any(self._rows.oldest(route, 0, EVERY_ID) for route in ROUTES) or bool(self._rows.waiting_alerts(1))

    def _seal_route(self, route: str, lane: str, span: tuple[int, int], everything: bool) -> bool:
        oldest = self._rows.oldest(route, *span)
        if oldest is None:
            return False
        most = min(MOST_ROWS, max(1, int(FULL_BYTES / self._bytes_per_row[route])))
        by_age = everything or self._old_enough(oldest[1], self.batch_age_s)
        if not by_age and self._rows.waiting(route) < most:
            return False
        settled_to = self._rows.settled_to()  # asked before the rows are read: these marks are in them
        rows = self._rows.read(route, oldest[0], span[1], most)
        if not by_age and len(rows) < most:
            return False
        rows = _unbroken(rows)
        if route == "events":
            self._seal_batch(route, lane, rows, full=len(rows) >= most, scored_to=EVERY_ID)
            return True
        rows = self._not_awaited(rows)
        if not rows:
            return False
        scored_to = self._rows.claim(rows[0].id, rows[-1].id)
        try:
            if rows[-1].id > settled_to:
                rows = self._rows.read(route, rows[0].id, rows[-1].id + 1, len(rows))
            self._seal_batch(route, lane, rows, full=len(rows) >= most, scored_to=scored_to)
        finally:
            self._rows.release()
        return True

    def _old_enough(self, received_ms: int, age_s: float) -> bool:
        """Waited long enough; also when the clock was set back behind its receipt."""
        waited_s = self._now_s() - received_ms / 1000
        return waited_s >= age_s or waited_s < -1

    def _not_awaited(self, rows: list[StoredRow]) -> list[StoredRow]:
        """Up to the first row that the detector should still be waited for."""
        if not rows or self._rows.is_scored(rows[-1].id):
            return rows
        for index, row in enumerate(rows):
            if not self._rows.is_scored(row.id) and not self._old_enough(
                    row.received_ms, self.batch_age_s + MARK_WAIT_S):
                return rows[:index]
        return rows

    def _seal_batch(self, route: str, lane: str, rows: list[StoredRow], full: bool, scored_to: int) -> None:
        """Seal as many of these rows, from the oldest on, as fit. Readings above scored_to go unclassified."""
        rows, unpacked = self._unpack(route, rows, scored_to)
        if not rows:
            return
        limit = FULL_BYTES if full else batch.MAX_BYTES
        taken = len(rows)
        while True:
            series = _series(rows[:taken], unpacked[:taken])
            size_bytes = _HEAD_BYTES + sum(len(text) + 1 for text in series)
            self._bytes_per_row[route] = max(1.0, size_bytes / taken)
            if size_bytes <= limit or taken == 1:
                break
            taken = max(1, min(taken - 1, int(taken * limit / size_bytes * 0.99)))
        try:
            name, sealed = batch.seal_series(route, self._outbox_id, series)
        except BadPayload as error:  # one row alone does not fit: intake tries that out, but must not be relied on
            self._rows.dead_letter(route, rows[0], error.reason, error.detail)
            return
        rows, unpacked = rows[:taken], unpacked[:taken]
        unclassified = Counter(row.device for row, u in zip(rows, unpacked, strict=True) if u.mark == UNCLASSIFIED)
        self._shipments.seal(
            name, sealed, route=route, lane=lane, counts=Counter(row.device for row in rows),
            oldest_ms=rows[0].received_ms, row_ids=[row.id for row in rows], unclassified=unclassified)

    def _unpack(self, route: str, rows: list[StoredRow], scored_to: int) -> tuple[list[StoredRow], list[batch.Row]]:
        """The committed bytes, read again. They passed this check when they came; should a later version of the
        contract refuse one, it is dead-lettered and the rest goes on."""
        again: list[batch.Row] = []
        try:
            for start in range(0, len(rows), _DECODED_AT_ONCE):
                some = rows[start:start + _DECODED_AT_ONCE]
                readings = payloads.read_again([row.payload for row in some], REQUIRED[route])
                again += map(partial(_row, scored_to), some, readings)
        except BadPayload as error:
            log.debug("one of %d %s is refused (%s); each is read by itself", len(rows), route, error)
            return self._unpack_each(route, rows, scored_to)
        return rows, again

    def _unpack_each(self, route: str, rows: list[StoredRow], scored_to: int,
                     ) -> tuple[list[StoredRow], list[batch.Row]]:
        kept, unpacked = [], []
        for row in rows:
            try:
                unpacked.append(_row(scored_to, row, payloads.read(row.payload, REQUIRED[route])))
            except BadPayload as error:
                self._rows.dead_letter(route, row, error.reason, error.detail)
            else:
                kept.append(row)
        return kept, unpacked

    def seal_alerts(self, most_messages: int) -> int:
        """Seal waiting alerts: one message each while they are few, else one per device with the newest in front."""
        waiting = self._rows.waiting_alerts(MOST_ALERTS)
        if not waiting or most_messages < 1:
            return 0
        groups: list[list[tuple[int, str, alerts.Classified]]] = [[alert] for alert in waiting]
        if len(groups) > most_messages:
            by_device: dict[str, list[tuple[int, str, alerts.Classified]]] = {}
            for alert in waiting:
                by_device.setdefault(alert[1], []).append(alert)
            groups = list(by_device.values())[:most_messages]
        for group in groups:
            self._seal_alert(group)
        return len(groups)

    def _seal_alert(self, group: list[tuple[int, str, alerts.Classified]]) -> None:
        device, classified = group[0][1], [c for _, _, c in group]
        try:
            name, sealed = alerts.seal(self._outbox_id, device, classified)
        except BadPayload:
            if len(group) == 1:
                raise
            half = len(group) // 2
            self._seal_alert(group[:half])
            self._seal_alert(group[half:])
            return
        self._shipments.seal(name, sealed, route=ALERTS, lane=ALERTS, counts={device: len(group)},
                             oldest_ms=classified[0].received_ms, row_ids=[row_id for row_id, _, _ in group])


def _unbroken(rows: list[StoredRow]) -> list[StoredRow]:
    """Up to the first row before which one of its device's is missing: sealed in another lane already.

    In the cloud an item stands at its first receive number, so the items of a device must not overlap.
    """
    last: dict[str, int] = {}
    for index, row in enumerate(rows):
        if last.get(row.device, row.number - 1) != row.number - 1:
            return rows[:index]
        last[row.device] = row.number
    return rows


def _series(rows: list[StoredRow], unpacked: list[batch.Row]) -> list[str]:
    """The packed rows, one JSON text per device."""
    series: dict[str, list[batch.Row]] = {}
    for row, content in zip(rows, unpacked, strict=True):
        series.setdefault(row.device, []).append(content)
    return [batch.pack(device, contents) for device, contents in series.items()]


def _row(scored_to: int, stored: StoredRow, reading: payloads.Reading) -> batch.Row:
    """One stored row as the contract packs it. Raises BadPayload."""
    mark = stored.mark if stored.mark or stored.id <= scored_to else UNCLASSIFIED
    kafka = tuple(numbers.loads(stored.kafka)) if stored.kafka else None
    return batch.Row(stored.number, stored.received_ms, reading.timestamp, reading.at_ms, reading.seq, reading.spool,
                     reading.values, reading.extra, mark, kafka)
