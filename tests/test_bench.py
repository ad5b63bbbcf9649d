"""The bench's own parts: the load is what it says, the sink notices what it should, the report tells the truth."""
import json
import time
from pathlib import Path

import pytest

from contract import batch, numbers, payloads
from edge_bridge.counters import Counters
from edge_bridge.live_line import LiveLine
from edge_bridge.packer import Packer
from edge_bridge.rows import Rows
from edge_bridge.shipments import BACKFILL, Shipments
from edge_bridge.store import Store
from tests.bench import bare, delivery, load, report, soak
from tests.bench.__main__ import main, measures
from tests.bench.bridge_child import usage
from tests.bench.bridge_run import used_between
from tests.bench.cloud import Figures, Sink
from tests.bench.report import Row


def batches(tmp_path: Path, count: int) -> list[bytes]:
    """What the bridge seals of an outbox that the bench filled."""
    load.fill_outbox(tmp_path / "outbox.db", count)
    store = Store(str(tmp_path / "outbox.db"))
    try:
        counters = Counters(store)
        shipments = Shipments(store, counters, 600)
        packer = Packer(Rows(store, counters, scoring=True), shipments, LiveLine(20), outbox_id=store.outbox_id,
                        batch_age_s=10)
        while packer.seal_rows(BACKFILL, everything=True):
            pass
        return [shipments.sealed(shipment) for shipment in shipments.all()]
    finally:
        store.close()


def test_a_reading_of_the_load_says_which_it_is() -> None:
    for device in (0, 9):
        for index in (0, 1, 4098, 4099, 123_456):
            reading = payloads.read(load.payload(device, index))
            assert load.index_of(reading.at_ms) == index
            assert load.expected(device, index) == (reading.at_ms, reading.values)


def test_the_load_takes_the_devices_in_turn() -> None:
    assert [device for device, _ in load.messages(12)] == [*load.DEVICES, *load.DEVICES[:2]]


def test_a_reading_with_its_turn_is_the_same_reading() -> None:
    reading = payloads.read(load._with_turn(load.payload(2, 7), 7))
    assert (reading.spool, reading.seq, reading.first, reading.extra) == ("bench", 7, 0, {})
    assert load.expected(2, 7) == (reading.at_ms, reading.values)


def test_a_filled_outbox_is_sealed_and_every_value_found_again(tmp_path: Path) -> None:
    sealed = batches(tmp_path, 25_000)
    sink = Sink()
    answers = [sink.take(one, 0.0) for one in sealed]
    assert sum(answer["new"] for answer in answers) == 25_000
    assert not any(answer["doubled"] or answer["wrong"] or answer["other"] for answer in answers)
    assert sum(map(len, sealed)) / 25_000 < 20, "bytes a reading"
    assert sink.take(sealed[0], 0.0)["doubled"] == answers[0]["new"]


def test_the_sink_notices_a_wrong_value(tmp_path: Path) -> None:
    opened = numbers.loads(batches(tmp_path, 1000)[0])
    opened["series"][3]["values"]["sensor2"][1] += 1
    found = Sink().take(numbers.dumps(opened).encode(), 0.0)
    assert (found["new"], found["wrong"]) == (999, 1)


def test_the_sink_sets_foreign_readings_apart_and_tells_the_age_of_alerts() -> None:
    row = batch.Row(1, 1, 1, 1000, None, None, {"sensor2": 1}, {}, None, None)
    _, sealed = batch.seal_series("readings", "x", [batch.pack("live", [row])])
    assert Sink().take(sealed, 0.0)["other"] == 1
    alert = b'{"timestamp":100,"sensor2":9.5,"anomaly":true,"v":1,"id":"a","also":[{"timestamp":99.5}]}'
    assert Sink().take(alert, 101.0)["ages_s"] == [1.0, 1.5]
    assert Sink().take(b'{"v":1,"thing":"x"}', 0.0)["id"] is None, "a status message has no receipt"


def test_the_busiest_second_slides() -> None:
    figures = Figures()
    figures.publishes = [(0.0, 1), (0.5, 2), (1.2, 4), (1.4, 8), (3.0, 16)]
    assert figures.busiest_second() == (3, 16)


def test_a_span_begins_after_the_first_tenth() -> None:
    assert delivery.span([(1.0, 5), (2.0, 10), (3.0, 80), (4.0, 5), (5.0, 0)], 100) == (2.0, 4.0, 85)
    with pytest.raises(RuntimeError, match="1 of 100"):
        delivery.span([(1.0, 1)], 100)


def test_the_pace_starts_after_the_first_tenth() -> None:
    pace = bare.Pace(20)
    for n in range(20):
        assert not pace.done.is_set(), n
        pace.one()
    assert pace.done.is_set() and pace.per_s > 0


def test_a_process_tells_what_it_uses() -> None:
    first = usage()
    deadline_s = time.monotonic() + 10
    while (last := usage())["cpu_s"] - first["cpu_s"] < 0.05:
        assert time.monotonic() < deadline_s
    used = used_between([first, last], first["at_s"], last["at_s"])
    assert used["cpu_s"] >= 0.05 and used["seconds"] > 0
    assert last["rss_mb"] > 5 and last["threads"] >= 1 and last["files"] >= 3


def test_a_slope_is_per_minute_and_leaves_the_start_out() -> None:
    notes = [{"at_s": float(n), "rss_mb": 100.0 if n < 4 else 10 + n / 60} for n in range(10)]
    assert soak.slope_per_min(notes, "rss_mb") == pytest.approx(1.0)


def test_targets_are_held_against_the_median() -> None:
    assert Row("a", "x", [1, 9, 10], at_least=8).passed
    assert Row("a", "x", [1, 2, 10], at_least=8).passed is False
    assert Row("a", "x", [0, 1], at_most=0).passed is False
    assert Row("a", "x", [], at_most=2).passed is False, "what was not measured is not met"
    assert Row("a", "x", [1]).passed is None


def test_the_report_is_a_table_and_a_file(tmp_path: Path) -> None:
    rows = [Row("speed", "readings/s", [20_500.4, 19_000, 21_000], at_least=20_000), Row("lost", "", [2], at_most=0)]
    table = report.table(rows)
    assert "20,500" in table and "≥ 20,000 met" in table and "≤ 0 MISSED" in table
    report.write(tmp_path / "bench.json", rows, {"quick": True})
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [row["pass"] for row in written["rows"]] == [True, False]
    assert written["rows"][0]["min"] == 19_000 and written["asked"] == {"quick": True}


def test_one_part_can_be_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(measures(1)) == ["ingest", "delivery", "backlog", "store", "dashboard", "queries",
                                 "detector", "camera", "soak"]
    asked = ["--only", "detector", "--quick", "--out", str(tmp_path / "b.json")]
    assert main(asked) in (0, 1), "1 when this machine is too slow or too busy for a target"
    assert "detector `seed`" in capsys.readouterr().out
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert any("/ scikit-learn" in row["name"] for row in rows)
    assert [row for row in rows if not row["median"] > 0] == []
    [device] = {row["median"] for row in rows if row["name"].endswith("memory per device")}
    assert 1_600 < device < 2_500, "two windows of 100 values as doubles, and what holds them"
