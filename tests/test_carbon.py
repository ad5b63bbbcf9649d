"""Adapting to the carbon intensity: a simulated day with the real policy and pacing, and a running bridge whose
provider is a real server."""
import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contract import shadow, topics
from contract.carbon import HIGH, NORMAL
from edge_bridge import carbon_curve, carbon_estimate
from edge_bridge.carbon import Around, Carbon, Reach
from edge_bridge.carbon_curve import SCHEDULE, Curve
from edge_bridge.carbon_estimate import TABLE, Meter, joules
from edge_bridge.carbon_feed import Feed
from edge_bridge.carbon_policy import USUAL
from edge_bridge.carbon_sources import Source, chosen
from edge_bridge.health import Newest, for_cameras
from edge_bridge.inbox import Inbox
from edge_bridge.pacing import Budget
from edge_bridge.retention import Limits, Retention
from edge_bridge.shipments import ALERTS, BACKFILL, LIVE
from edge_bridge.upkeep import SLACK_PAGES, Upkeep
from local_cloud.gateway.shadows import Asked
from tests.bridge_rig import THING, BridgeProcess, Cloud, Mosquitto, Pi, until
from tests.carbon_rig import HOUR_S, Server
from tests.outbox_rig import Parts
from tests.uplink_rig import Line

MIDNIGHT_S = 1_795_305_600.0  # 2026-11-22


class Site:
    """A Carbon under a clock that is set; the file's curve is the schedule's, but measured."""

    def __init__(self, directory: Path, policy: str = "", curve: Curve | None = None, usual_s: float = 10.0) -> None:
        self.now_s, self.cpu_s = MIDNIGHT_S, 0.0
        self.traffic = (0, 0)
        self.watched = self.crowded = False
        self.ages_s: tuple[float, float] = (0, 0)
        self.budget: Any = Budget(self.clock)
        self.curve: Any = curve or carbon_curve.built_in()
        cloud = chosen("fixed:40") or pytest.fail()
        feeds = {place: Feed(source, self.ask, ("schedule", carbon_curve.built_in()), directory / place, 6 * HOUR_S,
                             self.clock, self.clock)
                 for place, source in (("site", Source("file:x", path="x")), ("cloud", cloud))}
        self.feeds = feeds
        self.carbon = Carbon(feeds, policy, usual_s, Meter(lambda: self.traffic, 4.0, lambda: self.cpu_s, self.clock,
                                                           self.clock),
                             Reach(self.batch_age, self.slow), Around(lambda: self.watched, lambda: self.crowded),
                             self.clock)

    def clock(self) -> float:
        return self.now_s

    def ask(self, source: Source) -> Curve:
        if isinstance(self.curve, Exception):
            raise self.curve
        curve: Curve = self.curve
        return curve

    def batch_age(self, now_s: float, longest_s: float) -> None:
        self.ages_s = (now_s, longest_s)

    def slow(self, share: float) -> None:
        self.budget.backfill_share = share

    def go(self, seconds: float, step_s: float = 60.0) -> "Site":
        for _ in range(int(seconds / step_s)):
            self.now_s += step_s
            for feed in self.feeds.values():
                feed.refresh()
            self.carbon.look()
        return self

    def told(self) -> dict[str, Any]:
        return self.carbon.status() or {}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_day(site: Site) -> None:
    by_minute = []
    for _ in range(24 * 60):
        site.go(60)
        told = site.told()
        by_minute.append((told["state"], told["intensity_g_per_kwh"], site.ages_s, site.budget.backfill_share))
        assert site.budget.may_alert() and site.budget.wait_s() == 0, "alerts and live data wait for nothing"
    states = [state for state, *_ in by_minute]
    assert set(states) == {"low", "normal", "high"}
    assert sum(a != b for a, b in pairwise(states)) <= 8, "a day has two peaks"
    for state, g, ages_s, share in by_minute:
        assert (ages_s, share) == (((30.0, 30.0), 0.25) if state == HIGH else ((10.0, 10.0), 1.0))
        assert g in [float(one) for one in SCHEDULE]
    mean = {state: sum(g for s, g, *_ in by_minute if s == state) / states.count(state) for state in set(states)}
    assert mean["low"] < mean["normal"] < mean["high"]
    assert 3 <= states.count(HIGH) / 60 <= 9


def test_who_watches_comes_before_the_carbon(site: Site) -> None:
    site.go(20 * HOUR_S)
    assert site.told()["state"] == HIGH and site.ages_s == (30, 30)
    site.watched = True
    site.carbon.set_batch_age(1, 10)
    assert site.ages_s == (1, 10) and site.budget.backfill_share == 1, "at once, not at the next look"
    site.go(60)
    assert site.ages_s == (1, 10) and site.carbon.terms == USUAL
    site.watched = False
    site.carbon.set_batch_age(10, 10)
    assert site.ages_s == (30, 30)


def test_the_backlog_and_heavy_work_wait_so_long_and_no_longer(tmp_path: Path) -> None:
    always_high = Curve({0.0: 500.0}, daily=True)
    site = Site(tmp_path, "high=400,low=100,postpone_h=2", always_high).go(2 * HOUR_S)
    assert site.budget.backfill_share == 0.25 and site.carbon.heavy_work_waits()
    site.go(300)
    assert site.budget.backfill_share == 1 and not site.carbon.heavy_work_waits() and site.ages_s == (30, 30)


def test_an_outbox_that_fills_up_is_not_slowed_down(site: Site) -> None:
    site.go(20 * HOUR_S)
    site.crowded = True
    site.go(60)
    assert site.budget.backfill_share == 1 and site.told()["state"] == HIGH


def test_an_assumption_is_shown_and_delays_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.curve = OSError("away")
    site.go(20 * HOUR_S)
    told = site.told()
    assert told["state"] == HIGH and not told["measured"] and told["source"].startswith("schedule (file:x")
    assert site.ages_s == (10, 10) and site.carbon.terms == USUAL
    site.carbon.set_policy("adapt=always")
    assert site.ages_s == (30, 30)


def test_the_policy_can_be_changed_while_it_runs(site: Site) -> None:
    site.go(20 * HOUR_S)
    site.carbon.set_policy("batch=2,backfill=0.5")
    assert site.ages_s == (20, 20) and site.budget.backfill_share == 0.5
    site.carbon.set_policy("adapt=off")
    assert site.ages_s == (10, 10) and site.carbon.terms == USUAL
    site.carbon.set_policy("high=1000,low=1")
    site.go(HOUR_S)
    assert site.told()["state"] == NORMAL


def test_a_stop_ends_every_delay(site: Site) -> None:
    site.go(20 * HOUR_S)
    assert site.budget.backfill_share == 0.25
    site.carbon.stop(1)
    assert site.budget.backfill_share == 1 and site.ages_s == (10, 10)


def test_a_fault_of_ours_ends_every_delay_and_no_thread(tmp_path: Path) -> None:
    site = Site(tmp_path, "high=400,low=100", Curve({0.0: 500.0}, daily=True)).go(60)
    assert site.ages_s == (30, 30)
    site.curve = RuntimeError("a fault of ours")
    site.now_s += 3600
    site.carbon.start()
    until(lambda: site.ages_s == (10, 10) and site.budget.backfill_share == 1, "the usual pace")
    site.curve = Curve({0.0: 500.0}, daily=True)
    site.now_s += 3600
    until(lambda: site.ages_s == (30, 30), "the thread to go on")
    site.carbon.stop(5)


def test_a_provider_that_hangs_holds_up_nothing(tmp_path: Path) -> None:
    site, asked, go_on = Site(tmp_path), threading.Event(), threading.Event()

    def hang(source: Source) -> Curve:
        asked.set()
        go_on.wait(60)
        return carbon_curve.built_in()

    site.feeds["site"]._ask = hang
    site.carbon.start()
    assert asked.wait(30)
    site.carbon.set_batch_age(2, 2)
    assert site.ages_s == (2, 2) and site.carbon.status() is None
    site.carbon.stop(0.1)
    go_on.set()


def test_a_camera_is_told_its_share_while_the_status_is_fresh() -> None:
    clock = [0.0]
    newest = Newest([], lambda: clock[0])
    assert for_cameras(newest) == {"state": None, "frames": 1.0}
    newest.put({"carbon": {"state": HIGH, "terms": {"frames": 0.5}}})
    assert for_cameras(newest) == {"state": HIGH, "frames": 0.5}
    clock[0] = 31
    assert for_cameras(newest)["frames"] == 1.0
    newest.put({"carbon": None})
    assert for_cameras(newest) == {"state": None, "frames": 1.0}


def test_a_slow_backlog_holds_up_neither_alerts_nor_live_data_and_is_sent(tmp_path: Path) -> None:
    one = Line(tmp_path / "outbox.db")
    one.uplink.slow_backlog(0.05)
    sealed = [(BACKFILL, b"x" * 100_000)] * 20 + [(LIVE, b"x")] * 20 + [(ALERTS, b"x")] * 5
    for index, (lane, payload) in enumerate(sealed):
        one.parts.shipments.seal(f"{index:024d}", payload, route="alerts" if lane == ALERTS else "readings", lane=lane,
                                 counts={"a": 1}, oldest_ms=0, row_ids=[])
    try:
        one.connection.connect()
        until(lambda: {f"{index:024d}" for index in range(20, 45)} <= set(one.connection.tokens()), "live and alerts")
        assert len(set(one.connection.tokens())) < 45, "the backlog takes over a minute at this pace"
        one.uplink.slow_backlog(1.0)
        until(lambda: len(set(one.connection.tokens())) == 45, "all of the backlog")
    finally:
        one.close()


def test_the_file_keeps_its_size_while_that_may_wait(tmp_path: Path) -> None:
    parts, waits, asked = Parts(tmp_path / "outbox.db"), [True], [0]

    def may_wait() -> bool:
        asked[0] += 1
        return waits[0]

    with parts.store.write() as db:
        db.execute("CREATE TABLE ballast (x)")
        db.executemany("INSERT INTO ballast VALUES (zeroblob(4000))", [()] * (SLACK_PAGES + 20))
    with parts.store.write() as db:
        db.execute("DROP TABLE ballast")
    upkeep = Upkeep(parts.store, parts.rows, Retention(parts.store, parts.rows, parts.shipments, parts.live,
                                                       Limits(10 ** 9, 10 ** 9, False)), Inbox(), "t", may_wait)

    def free() -> int:
        return int(parts.store.read().execute("PRAGMA freelist_count").fetchone()[0])

    before = free()
    assert before > SLACK_PAGES
    upkeep.start()
    until(lambda: asked[0] >= 3, "some rounds")
    assert free() == before
    waits[0] = False
    until(lambda: free() < before, "the pages to be given back")
    upkeep.stop(10)
    parts.store.close()


# --- the estimate

def test_energy_is_what_was_used_times_the_table() -> None:
    used = joules(cpu_s=100, up_s=1000, sent_bytes=1e9, batches=10)
    assert used.bridge == 100 * 4 + 1000 * 0.5 and used.network == pytest.approx(0.01 * 3.6e6)
    assert used.cloud == pytest.approx(10 * 1.15 * (0.015 * 1.6 + 5))
    assert used.low < used.bridge + used.network + used.cloud < used.high
    assert joules(100, 0, 0, 0, core_w=9).bridge == 900
    assert joules(100, 0, 0, 0, core_w=9).low == joules(100, 0, 0, 0, core_w=9).high == 900, "what was set is certain"


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_coefficient_has_its_range_and_its_source(name: str) -> None:
    row = TABLE[name]
    assert row.lowest <= row.value <= row.highest and len(row.source) > 20


def test_grams_are_added_up_at_the_intensity_of_their_time_and_place(site: Site) -> None:
    site.go(60)
    site.cpu_s += 3600
    site.traffic = (10 ** 9, 100)
    site.go(60)
    told, g = site.told(), SCHEDULE[0]
    bridge_j = 3600 * 4 + 120 * 0.5
    assert told["bridge_g"] == pytest.approx(bridge_j / 3.6e6 * g, abs=2e-4)
    assert told["network_g"] == pytest.approx(0.01 * g, abs=2e-4)
    assert told["cloud_g"] == pytest.approx(joules(0, 0, 0, 100).cloud / 3.6e6 * 40, abs=2e-4)
    assert told["estimated_g"] == pytest.approx(told["bridge_g"] + told["network_g"] + told["cloud_g"], abs=2e-4)
    assert told["estimated_low_g"] < told["estimated_g"] < told["estimated_high_g"]
    site.go(24 * HOUR_S, 600)
    assert site.told()["estimated_wh"] < 1, "each day begins at 0: of that work nothing is left"


def test_the_table_is_dated() -> None:
    assert time.strptime(carbon_estimate.DATED, "%Y-%m-%d")


# --- a running bridge

@pytest.fixture
def provider() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.mark.needs("mosquitto")
def test_a_running_bridge_adapts_and_tells(tmp_path: Path, provider: Server) -> None:
    now_s = time.time()
    times = [now_s - hour * HOUR_S for hour in range(23, -1, -1)]
    provider.answer = provider.json({"unix_seconds": times, "co2eq": [100.0 + 10 * n for n in range(23)] + [480.0]})
    cloud, broker = Cloud(tmp_path), Mosquitto(tmp_path / "mosquitto")
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port), BATCH_AGE="2",
                           CARBON="energy-charts:de", CARBON_URL=provider.url, CARBON_POLICY="batch=2").start()
    pi = Pi(broker.port)
    try:
        until(lambda: (bridge.status().get("carbon") or {}).get("state") == HIGH, "the state high")
        told = bridge.status()["carbon"]
        assert told["intensity_g_per_kwh"] == 480 and told["measured"] and told["source"] == "energy-charts:de"
        assert told["terms"] == {"batch": 2, "backfill": 0.25, "frames": 0.5, "postpone": True}
        for _ in range(20):
            pi.reading()
        until(lambda: bridge.status().get("delivered") == 20, "delivery goes on")
        until(lambda: bridge.status()["carbon"]["estimated_g"] > 0, "an estimate")
        assert provider.asked[0][0] == "/co2eq?country=de" and len(provider.asked) == 1
        assert json.loads((tmp_path / "outbox.db.carbon-site.json").read_text())["source"] == "energy-charts:de"
        request = json.dumps(shadow.update("desired", {"carbon_policy": "adapt=off"})).encode()
        cloud.call(lambda: cloud.rig.gateway.shadows.do(Asked(THING, topics.SHADOW, "update"), request))
        until(lambda: bridge.status()["carbon"]["terms"]["batch"] == 1, "the policy from the shadow")
        assert bridge.stop() == 0
    finally:
        pi.close()
        bridge.close()
        broker.close()
        cloud.close()
