"""The outbox on a real file: numbers, one transaction per micro-batch, marks, sealing; and a model it must follow."""
import json
import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contract import alerts, batch, numbers
from contract.alerts import Classified
from edge_bridge.counters import Counters
from edge_bridge.outbox import Intake, Outbox
from edge_bridge.packer import FULL_BYTES, Packer
from edge_bridge.retention import Limits, Retention
from edge_bridge.rows import ANOMALY, UNCLASSIFIED, LiveLine, Rows
from edge_bridge.schema import SCHEMA_VERSION, Store, StoreError
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE, SENT, Shipments

MINUTE_MS = 60_000


class Parts:
    """An open outbox with all that works on it; the clock stands still until it is told."""

    def __init__(self, path: Path, scoring: bool = False, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s
        self.store = Store(str(path))
        self.counters = Counters(self.store)
        self.rows = Rows(self.store, self.counters, scoring)
        self.shipments = Shipments(self.store, self.counters, receipt_timeout_s=5.0)
        self.live = LiveLine(20.0)
        self.outbox = Outbox(self.store, self.counters, lambda: self.now_s)
        self.packer = Packer(self.rows, self.shipments, self.live, outbox_id=self.store.outbox_id, batch_age_s=10.0,
                             now_s=lambda: self.now_s)

    def commit(self, *readings: tuple[str, float], extra: str = "") -> int:
        """Commit readings of (device, sensor2)."""
        intake = Intake()
        for index, (device, value) in enumerate(readings):
            reading = {"timestamp": 1_800_000_000 + index * 791 % 1000 / 1000, "sensor2": value,
                       "sensor1": 20 + index * 37 % 100 / 100, **({"note": extra} if extra else {})}
            payload = json.dumps(reading, ensure_ascii=False)
            intake.rows["readings"].append((device, int(self.now_s * 1000), payload.encode(), None))
            intake.counts[device, "committed"] += 1
            intake.counts["", "readings_in"] += 1
        first_id = self.outbox.commit(intake)
        self.live.committed(first_id)
        return first_id

    def sealed_rows(self) -> list[tuple[str, batch.Row]]:
        """Every reading in every undelivered batch, in the order of sealing."""
        found = []
        for shipment in self.shipments.all():
            if shipment.route == "readings":
                for series in batch.read(self.shipments.sealed(shipment)).series:
                    found += [(series["device"], row) for row in batch.unpack(series)]
        return found


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


def test_the_file_is_opened_to_survive_a_power_cut(parts: Parts) -> None:
    with parts.store.write() as db:
        pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in (
            "journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync", "auto_vacuum")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1,
                       "auto_vacuum": 2}


def test_numbers_count_by_one_and_start_anew_above_the_clock(tmp_path: Path) -> None:
    path, now_s = tmp_path / "outbox.db", 1_800_000_000.0
    first = Parts(path, now_s=now_s)
    first.commit(("a", 1), ("b", 2), ("a", 3))
    first.commit(("a", 4))
    assert numbers_of(first) == {"a": [now_s * 1e6, now_s * 1e6 + 1, now_s * 1e6 + 2], "b": [now_s * 1e6]}
    first.store.close()
    second = Parts(path, now_s=now_s + 1)
    second.commit(("a", 5))
    assert numbers_of(second)["a"][-1] == (now_s + 1) * 1e6
    second.store.close()
    third = Parts(path, now_s=10.0)  # a clock at 1970 must not number backwards
    third.commit(("a", 6), ("c", 7))
    assert numbers_of(third)["a"][-1] == (now_s + 1) * 1e6 + 1
    assert numbers_of(third)["c"] == [10e6]
    third.store.close()


def numbers_of(parts: Parts) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in parts.rows.read("readings", 0, 1 << 62, 1000):
        found.setdefault(row.device, []).append(row.number)
    return found


def test_row_ids_are_never_given_twice(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    first_id = parts.commit(("a", 1), ("a", 2))
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.store.close()
    again = Parts(tmp_path / "outbox.db", now_s=parts.now_s + 1)
    assert again.commit(("a", 3)) > first_id + 1
    again.store.close()


def test_a_failed_commit_leaves_nothing_and_can_be_repeated(parts: Parts) -> None:
    parts.outbox.turns.take("a", "s", 1, 1)
    intake = Intake()
    intake.rows["readings"].append(("a", 0, b"{}", None))
    intake.dead_letters.append((0, "r", "d", "o", 1, None))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        parts.outbox.commit(intake)
    assert parts.rows.read("readings", 0, 1 << 62, 10) == []
    assert parts.outbox.turns.last("a", "s") is None
    intake.dead_letters.clear()
    parts.outbox.turns.take("a", "s", 1, 1)
    parts.outbox.commit(intake)
    assert parts.outbox.turns.last("a", "s") == 1


def test_turns_repeats_and_counts_survive_a_restart(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    parts.outbox.turns.take("a", "s", 9, 9)
    assert parts.outbox.repeats["readings"].check(b"x", 1, 5, distinct=True) == "new"
    parts.commit(("a", 1))
    parts.store.close()
    again = Parts(tmp_path / "outbox.db")
    assert again.outbox.turns.last("a", "s") == 9
    assert again.outbox.repeats["readings"].check(b"x", 1, 1, distinct=True) == "repeats"
    assert again.counters.total("committed") == 1 and again.rows.waiting("readings") == 1
    again.store.close()


def test_two_bridges_cannot_share_an_outbox(parts: Parts) -> None:
    with pytest.raises(StoreError, match="another bridge uses the outbox"):
        Store(parts.store.path)


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "outbox.db")
    store = Store(path)
    with store.write() as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    store.close()
    with pytest.raises(StoreError, match="start the newer version"):
        Store(path)


def test_live_is_what_came_while_connected_and_is_young(parts: Parts) -> None:
    parts.commit(("a", 1))
    parts.live.connected(True)
    parts.commit(("a", 2), ("b", 3))
    parts.now_s += 11
    assert parts.packer.seal_rows(LIVE)
    assert [(device, int(row.values["sensor2"])) for device, row in parts.sealed_rows()] == [("a", 2), ("b", 3)]
    assert parts.packer.seal_rows(BACKFILL) and not parts.packer.seal_rows(BACKFILL)
    assert [s.lane for s in parts.shipments.all()] == [LIVE, BACKFILL]
    assert len(parts.sealed_rows()) == 3 and parts.rows.waiting("readings") == 0


def test_items_of_a_device_never_overlap_though_lanes_took_turns(parts: Parts) -> None:
    parts.commit(("a", 1))
    parts.live.connected(True)
    parts.commit(("a", 2))
    parts.now_s += 11
    assert parts.packer.seal_rows(LIVE)
    parts.live.connected(False)
    parts.commit(("a", 3))
    parts.now_s += 11
    while parts.packer.seal_rows(BACKFILL):
        pass
    values = [[int(row.values["sensor2"]) for series in batch.read(parts.shipments.sealed(shipment)).series
               for row in batch.unpack(series)] for shipment in parts.shipments.all()]
    assert values == [[2], [1], [3]], "not [1, 3] in one batch, around the 2 that went out live"


def test_a_row_that_fits_no_batch_is_dead_lettered_when_it_is_sealed(parts: Parts) -> None:
    parts.commit(("a", 1), extra="\x7f" * 30_000)  # six bytes each in JSON
    parts.commit(("a", 2))
    parts.now_s += 11
    while parts.packer.seal_rows(BACKFILL):
        pass
    assert [int(row.values["sensor2"]) for _, row in parts.sealed_rows()] == [2]
    (reason,), = parts.store.read().execute("SELECT reason FROM dead_letters").fetchall()
    assert reason == "batch too large"


def test_a_device_with_readings_and_events_fills_its_batches(parts: Parts) -> None:
    for index in range(50):
        intake = Intake()
        reading = b'{"timestamp": %d.5, "sensor2": 1}' % (1_800_000_000 + index)
        event = b'{"timestamp": 1800000000, "persons_detected": 1}'
        intake.rows["readings"].append(("a", int(parts.now_s * 1000), reading, None))
        intake.rows["events"].append(("a", int(parts.now_s * 1000), event, f'["edge-data",0,{index},1]'))
        intake.counts["", "readings_in"] += 1
        intake.counts["", "events_in"] += 1
        parts.outbox.commit(intake)
    parts.now_s += 11
    while parts.packer.seal_rows(BACKFILL):
        pass
    assert [sum(s.counts.values()) for s in parts.shipments.all()] == [50, 50]


def test_alerts_that_do_not_fit_one_message_go_in_several(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "scored.db", scoring=True)
    first = parts.commit(*[("a", 9)] * 6)
    rows = parts.rows.read("readings", 0, 1 << 62, 10)
    long = [classified(row)._replace(timestamp="1" * 30_000) for row in rows]
    parts.rows.mark(first + 5, {row.id: ANOMALY for row in rows},
                    [(row.id, "a", one) for row, one in zip(rows, long, strict=True)], {})
    assert parts.packer.seal_alerts(3)
    sealed = [s for s in parts.shipments.all() if s.route == ALERTS]
    assert sum(s.counts["a"] for s in sealed) == 6 and len(sealed) == 2
    parts.store.close()


def test_scoring_goes_on_though_the_clock_was_set_back(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "scored.db", scoring=True)
    last = parts.commit(("a", 1))
    parts.rows.mark(last, {}, [], {})
    parts.now_s += 11
    assert parts.packer.seal_rows(BACKFILL)
    parts.store.close()
    again = Parts(tmp_path / "scored.db", scoring=True, now_s=1_700_000_000.0)
    assert again.commit(("a", 2)) > last and len(again.rows.unscored(10)) == 1
    again.store.close()


def test_young_rows_wait_for_company_unless_the_clock_was_set_back(parts: Parts) -> None:
    parts.commit(("a", 1))
    assert not parts.packer.seal_rows(BACKFILL)
    parts.now_s -= 3600
    assert parts.packer.seal_rows(BACKFILL)


def test_a_backlog_goes_in_full_batches_near_the_metering_step(parts: Parts) -> None:
    for _ in range(60):
        parts.commit(*[(f"d{i % 10}", round(0.4 + i / 7919, 4)) for i in range(500)])
    while parts.packer.seal_rows(BACKFILL):
        pass
    sizes = [s.size_bytes for s in parts.shipments.all()]
    assert all(size <= FULL_BYTES for size in sizes) and FULL_BYTES % batch.METER_BYTES == 0
    assert all(size > 0.8 * FULL_BYTES for size in sizes[1:]), sizes
    parts.now_s += 11
    while parts.packer.seal_rows(BACKFILL):
        pass
    assert len(parts.sealed_rows()) == 30_000 and parts.rows.waiting("readings") == 0
    for device in ("d0", "d9"):
        order = [row.number for name, row in parts.sealed_rows() if name == device]
        assert order == sorted(order) and len(order) == 3000


def test_rows_that_hardly_pack_still_fit(parts: Parts) -> None:
    for value in range(8):
        parts.commit(("a", value), extra="\u00e9" * 15_000)  # 30 KB each, 90 KB when escaped
    parts.now_s += 11
    while parts.packer.seal_rows(BACKFILL):
        pass
    assert len(parts.sealed_rows()) == 8
    assert all(s.size_bytes <= batch.MAX_BYTES for s in parts.shipments.all())


def test_a_row_that_a_later_contract_refuses_does_not_stall_the_rest(parts: Parts) -> None:
    parts.commit(("a", 1), ("a", 2))
    with parts.store.write() as db:
        db.execute("UPDATE readings SET payload = ? WHERE id = (SELECT min(id) FROM readings)", (b'{"sensor2": 1}',))
    parts.packer.seal_rows(BACKFILL, everything=True)
    assert [int(row.values["sensor2"]) for _, row in parts.sealed_rows()] == [2]
    assert parts.store.read().execute("SELECT reason, payload FROM dead_letters").fetchall() == [
        ("missing timestamp", b'{"sensor2": 1}')]
    assert parts.counters.total("dead_lettered") == 1 and parts.rows.waiting("readings") == 0


def test_sealed_bytes_are_kept_as_they_are_until_the_receipt(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db")
    parts.commit(("a", 1))
    parts.packer.seal_rows(BACKFILL, everything=True)
    [shipment] = parts.shipments.all()
    sealed = parts.shipments.sealed(shipment)
    parts.shipments.sent([shipment])
    parts.store.close()
    again = Parts(tmp_path / "outbox.db")
    again.commit(("a", 2))
    [same] = again.shipments.all()
    assert (same.name, same.state, again.shipments.sealed(same)) == (shipment.name, SENT, sealed)
    assert [s.name for s in again.shipments.delivered([shipment.name, "unknown"])] == [shipment.name]
    assert again.shipments.delivered([shipment.name]) == [] and again.shipments.all() == []
    assert (again.counters.total("sent"), again.counters.total("delivered")) == (1, 1)
    again.store.close()


def classified(row: Any, anomaly: bool = True) -> Classified:
    return Classified(row.number, row.received_ms, 1_800_000_000, 1_800_000_000_000, "sensor2", Decimal("0.5"),
                      Decimal("0.5"), anomaly, Decimal("-0.1"))


def test_a_mark_and_its_alert_are_one_and_sealing_waits_for_them(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db", scoring=True)
    parts.commit(("a", 1), ("a", 2), ("b", 3))
    parts.now_s += 10.5
    assert not parts.packer.seal_rows(BACKFILL), "not scored yet"
    rows = parts.rows.unscored(10)
    assert parts.rows.mark(rows[1].id, {rows[1].id: ANOMALY}, [(rows[1].id, "a", classified(rows[1]))],
                           {("a", "sensor2"): "{}"}) == 1
    assert [row.id for row in parts.rows.unscored(10)] == [rows[2].id]
    assert parts.packer.seal_rows(BACKFILL), "what is scored goes"
    assert [row.mark for _, row in parts.sealed_rows()] == [None, ANOMALY]
    parts.now_s += 2.1
    assert parts.packer.seal_rows(BACKFILL), "the detector is not waited for any longer"
    assert parts.sealed_rows()[-1][1].mark == UNCLASSIFIED
    assert parts.rows.mark(rows[2].id, {rows[2].id: ANOMALY}, [(rows[2].id, "b", classified(rows[2]))], {}) == 0
    assert parts.packer.seal_alerts(20) == 1
    [alert] = [s for s in parts.shipments.all() if s.lane == ALERTS]
    assert alerts.read(parts.shipments.sealed(alert)).classified[0].number == rows[1].number
    assert (parts.counters.total("anomalies"), parts.counters.total("unclassified")) == (1, 1)
    parts.store.close()
    again = Parts(tmp_path / "outbox.db", scoring=True)
    assert again.rows.unscored(10) == [] and again.rows.detector_states() == {("a", "sensor2"): "{}"}
    again.store.close()


def test_no_mark_is_set_while_a_row_is_being_sealed(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db", scoring=True)
    parts.commit(("a", 1))
    [row] = parts.rows.unscored(10)
    assert parts.rows.claim(row.id, row.id) < row.id
    assert parts.rows.mark(row.id, {row.id: ANOMALY}, [(row.id, "a", classified(row))], {}) == 0
    parts.rows.release()
    assert parts.rows.waiting_alerts(10) == [] and parts.rows.read("readings", 0, 1 << 62, 1)[0].mark is None
    parts.store.close()


def test_many_alerts_share_a_message_per_device_with_the_newest_in_front(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "outbox.db", scoring=True)
    parts.commit(*[(f"d{i % 2}", i) for i in range(30)])
    rows = parts.rows.unscored(100)
    parts.rows.mark(rows[-1].id, {row.id: ANOMALY for row in rows},
                    [(row.id, row.device, classified(row)) for row in rows], {})
    assert parts.packer.seal_alerts(20) == 2
    opened = [alerts.read(parts.shipments.sealed(s)) for s in parts.shipments.all()]
    assert [len(alert.classified) for alert in opened] == [15, 15]
    for alert in opened:
        order = [c.number for c in alert.classified]
        assert order == sorted(order)
    head = parts.shipments.sealed(parts.shipments.all()[0])
    assert list(numbers.loads(head))[:3] == ["timestamp", "sensor2", "anomaly"]
    assert parts.rows.waiting(ALERTS) == 0
    parts.store.close()


class OutboxModel(RuleBasedStateMachine):
    """Commit, score, seal, send, receive, crash, in any order: each reading is in exactly one place."""

    @initialize()
    def open(self) -> None:
        import tempfile
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
        rows = self.parts.rows.read("readings", 0, 1 << 62, 10_000)
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
                          for row in self.parts.rows.read("readings", 0, 1 << 62, 10_000))
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
        marked = sum(1 for row in self.parts.rows.read("readings", 0, 1 << 62, 10_000) if row.mark == ANOMALY)
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
