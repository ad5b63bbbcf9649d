"""The ledger, its file, and the health that a container reads from it."""
import json
import time
from pathlib import Path
from typing import Any

import pytest

from edge_bridge import status
from edge_bridge.alarms import Alarms
from edge_bridge.forecast import RATE_WINDOW_S, ROW_EXTRA_BYTES, Capacity, Rate, drain_eta_s
from edge_bridge.receipts import Figures
from edge_bridge.rows import EVERY_ID
from edge_bridge.shipments import BACKFILL, LIVE
from edge_bridge.status import STALE_S, STALLED_S, Ledger
from tests.bridge_rig import ROOT
from tests.outbox_rig import Parts


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    opened = Parts(tmp_path / "outbox.db")
    yield opened
    opened.store.close()


def ledger(parts: Parts, clock: Clock | None = None, **changes: Any) -> Ledger:
    capacity = changes.pop("capacity", None) or Capacity(parts.store, lambda: 0, 10 ** 9, 10 ** 9)
    return Ledger(parts.counters, parts.rows, parts.shipments, parts.live, thing="T", version="1",
                  now_s=lambda: parts.now_s, connected=lambda: {"cloud": True}, clock=clock or Clock(),
                  figures=Figures(), raised=Alarms(), capacity=capacity, **changes)


def test_what_waits_is_told_per_lane_and_adds_up(parts: Parts) -> None:
    one = ledger(parts)
    assert sum(one.status()["waiting"].values()) == 0 and one.status()["oldest_unsent_s"] == 0.0
    parts.commit(("a", 1), ("b", 2))
    parts.live.connected(True)
    parts.commit(("a", 3))
    parts.now_s += 3
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 2, "unreceipted": 0}
    assert one.status()["oldest_unsent_s"] == 3.0
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.packer.seal_rows(LIVE, everything=True)
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 2, "unreceipted": 0}
    parts.shipments.sent(parts.shipments.all()[:1])
    parts.shipments.all()[0].state = "sent"
    assert one.status()["waiting"] == {"alerts": 0, "live": 1, "backfill": 0, "unreceipted": 2}
    parts.shipments.delivered([s.name for s in parts.shipments.all()])
    done = one.status()
    assert (done["committed"], done["sent"], done["delivered"], sum(done["waiting"].values())) == (3, 3, 3, 0)
    assert done["devices"]["a"] == {"committed": 2, "sent": 2, "delivered": 2}


def test_health_is_that_the_oldest_unsent_gets_younger(parts: Parts, tmp_path: Path) -> None:
    clock, path = Clock(), str(tmp_path / "status.json")
    one = ledger(parts, clock)
    parts.commit(("a", 1))
    one.status()
    clock.now_s += STALLED_S + 1
    status.write_file(path, one.status())
    healthy, line = status.health(path, parts.now_s)
    assert not healthy and "nothing went out for 61 s" in line
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.shipments.delivered([s.name for s in parts.shipments.all()])
    parts.commit(("a", 2))
    clock.now_s += 3600  # the newer one waits since now, whatever went before
    status.write_file(path, one.status())
    assert status.health(path, parts.now_s)[0]


def test_health_of_a_bridge_that_hangs_or_never_ran(parts: Parts, tmp_path: Path) -> None:
    path = str(tmp_path / "status.json")
    assert "no status in" in status.health(path)[1] and "STATUS_FILE is not set" in status.health("")[1]
    status.write_file(path, ledger(parts).status())
    healthy, line = status.health(path, parts.now_s + STALE_S + 1)
    assert not healthy and "hangs or has ended" in line
    Path(path).write_text("{")
    assert not status.health(path, time.time())[0]


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for n in range(3):
        status.write_file(str(path), {"at": n})
    assert json.loads(path.read_text()) == {"at": 2} and list(tmp_path.iterdir()) == [path]


def test_the_golden_status_has_the_fields_that_a_bridge_tells(parts: Parts) -> None:
    golden = json.loads((ROOT / "contract" / "examples" / "status.json").read_text())
    scoring = {"scored": 0, "retrains": 0, "detector_s": 0.0}
    told = ledger(parts, scoring=lambda: scoring, certificate_left_s=lambda: 86400.0).status()
    assert set(told) == set(golden) and told["certificate_days"] == 1.0
    assert set(told["waiting"]) == set(golden["waiting"])
    parts.commit(("a", 1))
    assert set(ledger(parts).status()["devices"]["a"]) <= {*golden["devices"]["pi-1"], *golden["devices"]["pi-2"]}


def test_the_ledger_of_a_device_adds_up(parts: Parts) -> None:
    parts.commit(("a", 1), ("a", 2), ("b", 3))
    parts.counters.add({("a", "dropped.age"): 1, ("a", "skipped"): 4, ("", "dead_lettered"): 2,
                        ("", "dead_lettered.broken JSON"): 2})
    told = ledger(parts).status()
    assert told["devices"] == {"a": {"committed": 2, "dropped": 1, "skipped": 4, "waiting": 1},
                               "b": {"committed": 1, "waiting": 1}}
    assert (told["dropped"], told["dropped_by_reason"]) == (1, {"age": 1})
    assert (told["dead_lettered"], told["dead_lettered_by_reason"]) == (2, {"broken JSON": 2})


def test_the_outage_budget_is_what_is_left_at_the_present_rate(parts: Parts) -> None:
    clock, used_bytes = Clock(), [0]
    one = ledger(parts, clock, capacity=Capacity(parts.store, lambda: used_bytes[0], 10_000_000, 10 ** 9))
    assert one.status()["outage_budget_h"] is None, "nothing comes in"
    for _ in range(10):
        parts.commit(("a", 1))
        clock.now_s += 1
        told = one.status()
    [row] = parts.rows.read("readings", 0, EVERY_ID, 1)
    per_row = len(row.payload) + 1 + ROW_EXTRA_BYTES
    assert told["outage_budget_h"] == pytest.approx(10_000_000 / per_row / 3600, rel=0.01)
    used_bytes[0] = 9_999_999
    assert one.status()["outage_budget_h"] == 0.0
    short = ledger(parts, clock, capacity=Capacity(parts.store, lambda: 0, 10_000_000, most_age_s=3600.0))
    short.status()
    parts.commit(("a", 2))
    clock.now_s, parts.now_s = clock.now_s + 2, parts.now_s + 1800
    assert short.status()["outage_budget_h"] == 0.5, "the age limit comes first"


def test_the_drain_is_forecast_from_the_net_rate(parts: Parts) -> None:
    clock = Clock()
    one = ledger(parts, clock)
    assert one.status()["drain_eta_s"] == 0.0
    for _ in range(30):
        parts.commit(("a", 1))
    clock.now_s += 2
    assert one.status()["drain_eta_s"] is None, "it grows"
    later = ledger(parts, clock)
    later.status()
    parts.packer.seal_rows(BACKFILL, everything=True)
    parts.shipments.delivered([s.name for s in parts.shipments.all()])
    for _ in range(10):
        parts.commit(("a", 1))
    clock.now_s += 10
    assert later.status()["drain_eta_s"] == 5.0  # 20 fewer in 10 s, 10 are left


def test_a_rate_forgets_and_says_nothing_too_soon() -> None:
    clock = Clock()
    rate = Rate(clock)
    assert rate.per_s() is None
    for now_s, value in ((0.0, 0.0), (0.5, 100.0)):
        clock.now_s = now_s
        rate.add(value)
    assert rate.per_s() is None
    for _ in range(200):
        clock.now_s += 1
        rate.add(100 + 2 * clock.now_s)
    assert rate.per_s() == pytest.approx(2.0) and len(rate._samples) <= RATE_WINDOW_S + 2
    assert (drain_eta_s(7, None), drain_eta_s(7, 0.0), drain_eta_s(7, -2.0)) == (None, None, 3.5)


def test_the_message_stays_below_128_kib_and_says_how_many_devices_it_leaves_out(parts: Parts) -> None:
    told = ledger(parts).status()
    small = {**told, "devices": {"pi-1": {"committed": 1}}}
    assert json.loads(status.message(small)) == small
    name = "\u20ac" * 40
    large = {**told, "devices": {f"{name}{n:04d}": dict.fromkeys(status.COUNTERS, 10 ** 12) for n in range(2000)}}
    message = status.message(large)
    sent = json.loads(message)
    assert status.MOST_MESSAGE_BYTES * 0.9 < len(message) <= status.MOST_MESSAGE_BYTES
    assert len(sent["devices"]) + sent["devices_left_out"] == 2000 and sent["devices_left_out"] > 0


@pytest.mark.parametrize("count", [1500, 2500, 10_000])
def test_no_device_is_left_out_for_the_sake_of_anothers_band(parts: Parts, count: int) -> None:
    counts = {"committed": 123_456, "delivered": 123_456}
    bare = {f"pi-{n:05d}": counts for n in range(count)}
    banded = {device: {**counts, "normal": {"sensor2": (0.312345, 0.687654)}} for device in bare}
    told = ledger(parts).status()
    without, message = (status.message({**told, "devices": devices}) for devices in (bare, banded))
    sent = json.loads(message)
    assert len(message) <= status.MOST_MESSAGE_BYTES
    assert (list(sent["devices"]), sent["devices_left_out"]) == (
        list(json.loads(without)["devices"]), json.loads(without)["devices_left_out"])
    shown = [device for device, figures in sent["devices"].items() if "normal" in figures]
    if not sent["devices_left_out"]:  # what is left of the room is used
        assert 0 < len(shown) < count and len(message) > status.MOST_MESSAGE_BYTES * 0.95
    assert shown == list(sent["devices"])[:len(shown)]


def test_what_is_normal_is_told_of_the_devices_that_have_a_band(parts: Parts) -> None:
    parts.commit(("a", 1), ("b", 2))
    told = ledger(parts, normal=lambda: {"a": {"sensor2": (0.3, 0.7)}, "b": {}, "gone": {"sensor2": (1.0, 2.0)}})
    devices = told.status()["devices"]
    assert devices["a"]["normal"] == {"sensor2": (0.3, 0.7)} and "normal" not in devices["b"]
    assert set(devices) == {"a", "b"}


def test_an_alarm_is_logged_once_per_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    raised = Alarms()
    raised.cleared("no_receipt")
    for text in ("one", "two"):
        raised.raised("no_receipt", text)
    assert raised.up() == {"no_receipt": "two"}
    raised.cleared("no_receipt")
    assert raised.up() == {} and [r.message for r in caplog.records] == ["alarm no_receipt: one",
                                                                         "alarm no_receipt is over"]
