"""A model that the outbox must follow: commits, scores, seals, receipts, drops and crashes in any order."""
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contract import batch, numbers
from contract.batch import ANOMALY
from edge_bridge.retention import Limits, Retention
from edge_bridge.rows import EVERY_ID
from edge_bridge.shipments import BACKFILL, LIVE
from tests.outbox_rig import Parts, classified


class OutboxModel(RuleBasedStateMachine):
    """Commit, score, seal, send, receive, crash, in any order: each reading is in exactly one place."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "outbox.db"
        self.parts = Parts(self.path, scoring=True)
        self.committed: Counter[int] = Counter()
        self.delivered: Counter[int] = Counter()
        self.bytes_of: dict[str, bytes] = {}
        self.dropped: Counter[int] = Counter()
        self.marks_dropped = 0
        self.next_value = 0

    @rule(n=st.integers(1, 5), device=st.sampled_from(["a", "b"]))
    def commit(self, n: int, device: str) -> None:
        values = range(self.next_value, self.next_value + n)
        self.next_value += n
        self.parts.commit(*[(device, value) for value in values])
        self.committed.update(values)

    @rule(most=st.integers(1, 4), anomalous=st.booleans())
    def score(self, most: int, anomalous: bool) -> None:
        rows = self.parts.rows.unscored(most)
        if rows:
            found = rows if anomalous else []
            self.parts.rows.mark(rows[-1].id, {row.id: ANOMALY for row in found},
                                 [(row.id, row.device, classified(row)) for row in found], {})

    @rule(lane=st.sampled_from([LIVE, BACKFILL]), everything=st.booleans())
    def seal(self, lane: str, everything: bool) -> None:
        self.parts.packer.seal_rows(lane, everything)
        self.parts.packer.seal_alerts(3)
        for shipment in self.parts.shipments.all():
            sealed = self.parts.shipments.sealed(shipment)
            assert self.bytes_of.setdefault(shipment.name, sealed) == sealed, "never re-packed"
            if shipment.route == "readings":
                for series in batch.read(sealed).series:
                    numbers_ = [row.number for row in batch.unpack(series)]
                    assert numbers_ == list(range(numbers_[0], numbers_[0] + len(numbers_))), "items must not overlap"

    @rule(connected=st.booleans(), seconds=st.sampled_from([0, 1, 11, 13]))
    def time_passes(self, connected: bool, seconds: int) -> None:
        self.parts.live.connected(connected)
        self.parts.now_s += seconds

    @precondition(lambda self: self.parts.shipments.all())
    @rule(data=st.data())
    def receipt(self, data: st.DataObject) -> None:
        shipment = data.draw(st.sampled_from(self.parts.shipments.all()))
        if data.draw(st.booleans()):
            self.parts.shipments.sent([shipment])
            return
        if shipment.route == "readings":
            for series in batch.read(self.bytes_of[shipment.name]).series:
                self.delivered.update(int(row.values["sensor2"]) for row in batch.unpack(series))
        self.parts.shipments.delivered([shipment.name])

    def held(self) -> tuple[Counter[int], int]:
        """What this outbox holds: the readings, and how many unsealed ones are marked."""
        rows = self.parts.rows.read("readings", 0, EVERY_ID, 10_000)
        held = Counter(int(numbers.loads(row.payload)["sensor2"]) for row in rows)
        held.update(int(row.values["sensor2"]) for _, row in self.parts.sealed_rows())
        return held, sum(row.mark == ANOMALY for row in rows)

    @rule(times=st.integers(1, 3), by_age=st.booleans())
    def drop(self, times: int, by_age: bool) -> None:
        retention = Retention(self.parts.store, self.parts.rows, self.parts.shipments, self.parts.live,
                              Limits(1, 12.0, True), now_s=lambda: self.parts.now_s)
        before, marked_before = self.held()
        for _ in range(times):
            retention._drop_some(int((self.parts.now_s - 12) * 1000) if by_age else None, "age" if by_age else "size")
        after, marked_after = self.held()
        self.dropped += before - after
        self.marks_dropped += marked_before - marked_after
        assert not after - before

    @rule()
    def crash(self) -> None:
        now_s = self.parts.now_s + 1
        self.parts.store.close()
        self.parts = Parts(self.path, scoring=True, now_s=now_s)

    @invariant()
    def each_reading_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "parts"):
            return
        waiting = Counter(int(numbers.loads(row.payload)["sensor2"])
                          for row in self.parts.rows.read("readings", 0, EVERY_ID, 10_000))
        sealed = Counter(int(row.values["sensor2"]) for _, row in self.parts.sealed_rows())
        assert waiting + sealed + self.delivered + self.dropped == self.committed
        counted = sum(self.parts.counters.total(f"dropped.{reason}") for reason in ("size", "age"))
        assert counted == sum(self.dropped.values())
        now = self.parts.store.witness.now
        assert now.rows - now.gone == sum(waiting.values()) + sum(sealed.values())
        assert self.parts.rows.waiting("readings") == sum(waiting.values())

    @invariant()
    def every_marked_reading_has_its_alert(self) -> None:
        if not hasattr(self, "parts"):
            return
        marked = sum(1 for row in self.parts.rows.read("readings", 0, EVERY_ID, 10_000) if row.mark == ANOMALY)
        marked += sum(1 for sealed in self.bytes_of.values() if b'"kind":"readings"' in sealed
                      for series in batch.read(sealed).series
                      for row in batch.unpack(series) if row.mark == ANOMALY)
        assert marked + self.marks_dropped == self.parts.counters.total("anomalies")

    def teardown(self) -> None:
        if hasattr(self, "parts"):
            self.parts.store.close()
            self.directory.cleanup()


OutboxModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None,
                                         suppress_health_check=list(HealthCheck))
TestOutboxModel = OutboxModel.TestCase
