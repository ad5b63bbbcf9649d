"""The dashboards: the files are what deploy/dashboards.py makes, every query names metrics that exist and is PromQL."""
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import dashboards
from deploy.processes import listening
from edge_bridge import metrics
from edge_bridge.health import HealthServer, Newest
from tests.bridge_rig import free_port, until
from tests.compose_model import ROOT, model
from tests.conftest import find_service
from tests.test_prometheus import known_metrics, named_metrics, promtool

GRAFANA = ROOT / "deploy" / "grafana"
NAMES = sorted(dashboards.DASHBOARDS)


def stored(name: str) -> dict[str, Any]:
    return dict(json.loads((dashboards.OUT / f"{name}.json").read_text()))


def queries(name: str) -> list[str]:
    return [target["expr"] for panel in stored(name)["panels"] for target in panel["targets"]]


def test_the_four_dashboards_are_there_and_nothing_else() -> None:
    assert NAMES == ["camera", "detector", "edge", "uplink"]
    assert {path.stem for path in dashboards.OUT.iterdir()} == set(NAMES)


def test_the_files_are_what_the_tables_make(tmp_path: Path) -> None:
    assert dashboards.main(tmp_path) == 0
    for name in NAMES:
        made, kept = (tmp_path / f"{name}.json").read_text(), (dashboards.OUT / f"{name}.json").read_text()
        assert made == kept, f"{name}.json is not of today; run: .venv/bin/python -m deploy.dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_every_query_names_metrics_that_exist(name: str) -> None:
    for query in queries(name):
        found = named_metrics(query)
        assert found, query
        assert found <= known_metrics(), (query, sorted(found - known_metrics()))


def test_labels_asked_for_are_the_metrics_own() -> None:
    labels = {metrics.PREFIX + row.name: row.label for row in metrics.TABLE}
    for name in NAMES:
        for query in queries(name):
            for by, metric in re.findall(r"by \((\w+)\) \((?:rate\()?(\w+)", query):
                if by not in ("instance", "le"):
                    assert labels[metric] == by, query
            for metric, label in re.findall(r'(\w+)\{instance=~"\$instance", (\w+)=', query):
                assert labels[metric] == label, query


def test_counters_are_rated_and_gauges_are_not() -> None:
    kinds = {metrics.PREFIX + row.name: row.kind for row in metrics.TABLE}
    for name in NAMES:
        for query in queries(name):
            for metric in re.findall(r"(?:rate|increase)\((\w+?)(?:_bucket)?\{", query):
                assert kinds[metric] in (metrics.COUNTER, metrics.HISTOGRAM), query


@pytest.mark.needs("promtool")
def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"q:{name}:{index}", "expr": query.replace("$__rate_interval", "1m")}
             for name in NAMES for index, query in enumerate(queries(name))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert (done := promtool("check", "rules", str(file))).returncode == 0, done.stdout
    file.write_text(file.read_text().replace("sum", "sum(", 1))
    assert promtool("check", "rules", str(file)).returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_a_place_of_their_own(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in stored(name)["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= dashboards.COLUMNS and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in stored(name)["panels"]}) == len(stored(name)["panels"])


def test_provisioning_names_the_data_source_and_the_folder_that_compose_mounts() -> None:
    source, = yaml.safe_load((GRAFANA / "datasources.yaml").read_text())["datasources"]
    provider, = yaml.safe_load((GRAFANA / "providers.yaml").read_text())["providers"]
    grafana = model()["services"]["grafana"]
    assert (source["type"], source["uid"]) == (dashboards.SOURCE["type"], dashboards.SOURCE["uid"])
    assert source["url"] == "$PROMETHEUS_URL" and grafana["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert "./grafana/datasources.yaml:/etc/grafana/provisioning/datasources/edgecloud.yaml:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (dashboards.OUT / Path(home).name).exists()


# --- a real Prometheus that scrapes the bridge's own metrics ---------------------------------------------------------


@pytest.fixture
def bridge_port() -> Iterator[int]:
    """The bridge's HTTP port with a status in which every metric has a value."""
    status = json.loads((ROOT / "contract" / "examples" / "status.json").read_text())
    for name in ("dropped", "alerts_dropped", "dead_lettered"):
        status[f"{name}_by_reason"] = {"age": 1, "bytes": 2}
    newest = Newest([])
    newest.put(status)
    made = metrics.Metrics(newest.status)
    made.observe("puback", 0.02)
    made.observe("receipt", 0.4)
    port = free_port()
    server = HealthServer("127.0.0.1", port, made, newest)
    server.start()
    yield port
    server.stop()


@pytest.fixture
def prometheus(bridge_port: int, tmp_path: Path) -> Iterator[str]:
    """Address of a Prometheus that has scraped it a few times."""
    port, program = free_port(), find_service("prometheus")
    assert program
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: bridge\n    static_configs:\n"
        f'      - targets: ["127.0.0.1:{bridge_port}"]\n')
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, f"--config.file={tmp_path}/prometheus.yml", "--storage.tsdb.path",
                                    str(tmp_path / "data"), f"--web.listen-address=127.0.0.1:{port}"],
                                   stdout=log, stderr=log)
    try:
        until(lambda: listening(port) or process.poll() is not None, "Prometheus to listen", 60)
        assert process.poll() is None, (tmp_path / "log").read_text()
        address = f"http://127.0.0.1:{port}"
        until(lambda: (found := ask(address, "count_over_time(up[5m])")) and float(found[0]["value"][1]) >= 3,
              "three scrapes", 60)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query now; [] while it is starting."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}",
                                    timeout=30) as answer:
            return list(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as refusal:
        assert refusal.code == 503, (query, refusal.read())
        return []


@pytest.mark.needs("prometheus")
def test_every_query_finds_something_in_a_real_prometheus(prometheus: str) -> None:
    for name in NAMES:
        for query in queries(name):
            asked = query.replace("$instance", ".+").replace("$__rate_interval", "1m")
            assert ask(prometheus, asked), f"{name}: {query} found nothing"
    assert not ask(prometheus, f"{metrics.PREFIX}no_such_metric")
