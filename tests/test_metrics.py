"""The HTTP port of a real bridge: metrics as Prometheus reads them, health, readiness, and a port that is taken."""
import json
import math
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract import topics
from edge_bridge import alarms, metrics
from edge_bridge.health import HealthServer, Newest
from edge_bridge.metrics import COUNTER, GAUGE, HISTOGRAM, PREFIX, TABLE, Metrics
from edge_bridge.settings import SettingsError
from edge_bridge.status import STALE_S, STALLED_S
from tests.bridge_rig import ROOT, THING, BridgeProcess, Cloud, Mosquitto, Pi, free_port, until

GOLDEN = ROOT / "contract" / "examples" / "status.json"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def scraped(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """{(sample name, labels): value} of one scrape."""
    status, text = get(port, "/metrics")
    assert status == 200
    return {(sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


@pytest.fixture
def served() -> Iterator[tuple[int, Newest, Metrics, list[float]]]:
    """A server without a bridge; the clock is the test's."""
    now_s = [0.0]
    newest = Newest({"MainThread"}, lambda: now_s[0])
    made = Metrics(newest.status)
    server = HealthServer("127.0.0.1", 0, made, newest)
    server.start()
    yield server.server_address[1], newest, made, now_s
    server.stop()


def golden(**fields: Any) -> dict[str, Any]:
    return {**json.loads(GOLDEN.read_text()), **fields}


@pytest.mark.needs("mosquitto")
def test_a_scrape_of_a_running_bridge_agrees_with_what_it_did(tmp_path: Path) -> None:
    cloud, broker, port = Cloud(tmp_path), Mosquitto(tmp_path / "broker"), free_port()
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(broker.port), RECEIPT_TIMEOUT="0.5",
                           METRICS_PORT=str(port), METRICS_HOST="127.0.0.1", SCORED_FIELDS="sensor2").start()
    pi = Pi(broker.port)
    try:
        until(lambda: bridge.status().get("connected") == {"cloud": True, "mqtt": True}, "both connections")
        cloud.receipts = False
        for _ in range(50):
            pi.make()
        pi.send(b"{")
        until(lambda: scraped(port)["alarm", (("alarm", alarms.NO_RECEIPT),)] == 1, "the alarm for missing receipts")
        assert scraped(port)["receipts_overdue", ()] >= 1 and scraped(port)["resends_total", ()] >= 1
        assert "alarm no_receipt" in bridge.log()
        cloud.receipts = True
        until(lambda: bridge.status()["delivered"] == 50, "delivery")
        until(lambda: scraped(port)["delivered_total", ()] == 50, "the next status")
        found = scraped(port)
        assert (found["received_total", ()], found["committed_total", ()], found["sent_total", ()]) == (51, 50, 50)
        assert found["dead_lettered_total", (("reason", "broken JSON"),)] == 1
        assert {found["waiting_readings", (("lane", lane),)]
                for lane in ("alerts", "live", "backfill", "unreceipted")} == {0}
        assert found["puback_seconds_count", ()] >= 1 <= found["receipt_seconds_count", ()]
        assert 0 < found["puback_seconds_sum", ()] < 20 and found["receipt_seconds_sum", ()] > 0.5
        assert found["publishes_total", ()] >= 2 and found["published_bytes_total", ()] > 500
        found = scraped(port)
        assert found["scored_total", ()] + found["unclassified_total", ()] >= 50
        assert found["drain_eta_seconds", ()] == 0 and found["outage_budget_seconds", ()] > 3600
        assert found["certificate_left_seconds", ()] > 20 * 365 * 86400
        assert found["alarm", (("alarm", alarms.NO_RECEIPT),)] == 0 and found["connects_total", ()] == 1
        assert get(port, "/healthz")[0] == get(port, "/readyz")[0] == 200
        cloud.call(cloud.faults().cut)
        until(lambda: get(port, "/readyz")[0] == 503, "not ready without the cloud")
        assert "no connection: cloud" in get(port, "/readyz")[1] and get(port, "/healthz")[0] == 200
        assert all(message.retain for message in cloud.rig.received if message.topic == topics.status(THING))
        assert cloud.status[-1]["connected"]["mqtt"] and bridge.stop() == 0
    finally:
        pi.close()
        bridge.close()
        broker.close()
        cloud.close()


def test_a_second_client_with_the_bridges_id_is_counted_and_outlived(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    bridge = BridgeProcess(tmp_path, cloud, MQTT_BROKER="127.0.0.1", MQTT_PORT=str(free_port())).start()
    other = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=THING, protocol=mqtt.MQTTv311)
    other.tls_set_context(cloud.device.context())
    other.on_connect = lambda client, _, flags, reason, more: None if reason.is_failure else client.disconnect()
    try:
        until(lambda: bridge.status().get("connected", {}).get("cloud"), "the connection")
        other.connect_async("localhost", cloud.port)
        other.loop_start()
        until(lambda: bridge.status().get("takeovers") == 1, "the takeover to be counted")
        until(lambda: bridge.status()["connected"]["cloud"] and bridge.status()["connects"] == 2, "the bridge back")
    finally:
        other.loop_stop()
        bridge.close()
        cloud.close()


def test_a_taken_port_ends_the_start_with_the_next_step(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            environment = {**BridgeProcess(tmp_path, cloud).environment, "MQTT_BROKER": "127.0.0.1",
                           "METRICS_PORT": str(port), "METRICS_HOST": "127.0.0.1"}
            done = subprocess.run([sys.executable, "-m", "edge_bridge"], cwd=ROOT, env=environment, timeout=30,
                                  capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("edge_bridge:")]
        assert len(lines) == 1 and f"METRICS_PORT: {port}" in lines[0] and f"METRICS_PORT={port + 1}" in lines[0]
        assert not (tmp_path / "outbox.db").exists()
    finally:
        cloud.close()


def test_every_name_keeps_prometheus_conventions_and_is_documented() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    for row in TABLE:
        assert row.kind in (COUNTER, GAUGE, HISTOGRAM) and row.sentence.endswith(".")
        assert row.name.endswith("_total") == (row.kind == COUNTER), row.name
        assert not any(row.name.endswith(unit) for unit in ("_ms", "_s", "_days", "_h", "_mb")), "base units only"
        assert bool(row.buckets) == (row.kind == HISTOGRAM)
    assert metrics.table() == (ROOT / "docs" / "metrics.md").read_text(), (
        "write it anew: python -m edge_bridge.metrics > docs/metrics.md")


def test_the_table_is_exactly_what_a_scrape_gives(served: Any) -> None:
    port, newest, _, _ = served
    newest.put(golden())
    _, text = get(port, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) - {f"{PREFIX}puback_seconds_created", f"{PREFIX}receipt_seconds_created"} == {
        PREFIX + row.name.removesuffix("_total") for row in TABLE}
    for row in TABLE:
        assert families[PREFIX + row.name.removesuffix("_total")].type == row.kind


def test_figures_and_labels_come_from_the_status(served: Any) -> None:
    port, newest, made, _ = served
    newest.put(golden(drain_eta_s=None, outage_budget_h=2, alarms={alarms.REFUSED: "why"}))
    made.observe("puback", 0.03)
    found = scraped(port)
    assert found["drain_eta_seconds", ()] == math.inf and found["outage_budget_seconds", ()] == 7200
    assert found["dropped_total", (("reason", "age"),)] == 2
    assert found["waiting_readings", (("lane", "unreceipted"),)] == 10
    assert {alarm: found["alarm", (("alarm", alarm),)] for alarm in alarms.ALL} == {
        alarm: int(alarm == alarms.REFUSED) for alarm in alarms.ALL}
    assert found["connected", (("link", "kafka"),)] == 0 and found["info", (("version", "0.1.0"),)] == 1
    assert found["puback_seconds_bucket", (("le", "0.05"),)] == 1 > found["puback_seconds_bucket", (("le", "0.025"),)]


def test_before_the_first_status_there_is_nothing_to_scrape_and_nothing_is_ready(served: Any) -> None:
    port, _, _, now_s = served
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/readyz") == (503, '{"ok": false, "reasons": ["starting"], "alarms": {}}')
    assert ("received_total", ()) not in scraped(port)
    now_s[0] = STALE_S + 1
    assert get(port, "/healthz")[0] == 503
    assert get(port, "/nothing")[0] == 404


def test_ready_means_the_oldest_unsent_gets_younger(served: Any) -> None:
    port, newest, _, now_s = served
    up = {"cloud": True, "mqtt": True}
    newest.put(golden(connected=up))
    assert get(port, "/readyz")[0] == 200
    newest.put(golden(connected=up, stalled_s=STALLED_S + 1))
    assert "has been the same for 61 s" in get(port, "/readyz")[1]
    newest.put(golden(connected={**up, "mqtt": False}))
    assert "no connection: mqtt" in get(port, "/readyz")[1]
    newest.put(golden(connected=up))
    now_s[0] = STALE_S + 1
    assert get(port, "/readyz")[0] == get(port, "/healthz")[0] == 503 and "old; expected" in get(port, "/healthz")[1]


def test_a_dead_thread_is_not_healthy() -> None:
    newest = Newest({"MainThread", "uplink"})
    assert newest.not_healthy() == ["the thread uplink has ended"]


def test_the_server_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="METRICS_PORT"):
        HealthServer("127.0.0.1", taken.getsockname()[1], Metrics(dict), Newest(()))
