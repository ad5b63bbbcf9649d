"""The packer on a real outbox: which rows are sealed when, in which lane, how full; marks and alerts."""
from pathlib import Path

from contract import alerts, batch, numbers
from contract.batch import ANOMALY, UNCLASSIFIED
from edge_bridge.outbox import Intake
from edge_bridge.packer import FULL_BYTES
from edge_bridge.rows import EVERY_ID
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE
from tests.outbox_rig import Parts, classified
from tests.outbox_rig import parts as parts


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
    rows = parts.rows.read("readings", 0, EVERY_ID, 10)
    long = [classified(row)._replace(timestamp="1" * 30_000) for row in rows]
    parts.rows.mark(first + 5, {row.id: ANOMALY for row in rows},
                    [(row.id, "a", one) for row, one in zip(rows, long, strict=True)], {})
    assert parts.packer.seal_alerts(3)
    sealed = [s for s in parts.shipments.all() if s.route == ALERTS]
    assert sum(s.counts["a"] for s in sealed) == 6 and len(sealed) == 2
    parts.store.close()


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
    assert parts.rows.waiting_alerts(10) == [] and parts.rows.read("readings", 0, EVERY_ID, 1)[0].mark is None
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
