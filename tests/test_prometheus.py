"""deploy/prometheus: promtool takes the configurations and proves the alerts; every metric named is the bridge's."""
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_bridge import metrics
from tests.compose_model import ROOT, model
from tests.conftest import find_service

HERE = ROOT / "deploy" / "prometheus"
HISTOGRAM_TAILS = ("_bucket", "_sum", "_count")


def promtool(*arguments: str, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    program = find_service("promtool")
    assert program, "promtool is not installed; apt-get install prometheus, or brew install prometheus"
    return subprocess.run([program, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120)


def known_metrics() -> set[str]:
    """Every series name that the bridge exposes."""
    names = set()
    for row in metrics.TABLE:
        name = metrics.PREFIX + row.name
        names |= {name + tail for tail in HISTOGRAM_TAILS} if row.kind == metrics.HISTOGRAM else {name}
    return names


def named_metrics(text: str) -> set[str]:
    """Every metric of the bridge that a text names."""
    return set(re.findall(rf"{metrics.PREFIX}\w+", text))


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((HERE / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_metric_exists() -> None:
    for name in ("rules.yml", "rules_test.yml"):
        found = named_metrics((HERE / name).read_text())
        assert found and found <= known_metrics(), sorted(found - known_metrics())


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["summary"] and rule["annotations"]["action"], name


def test_every_alert_is_seen_to_rise_in_a_test() -> None:
    cases = yaml.safe_load((HERE / "rules_test.yml").read_text())["tests"]
    risen = {case["alertname"] for test in cases for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    risen |= {name for test in cases for case in test.get("promql_expr_test", []) for sample in case["exp_samples"]
              for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert risen == set(rules())


@pytest.mark.needs("promtool")
def test_the_alerts_do_what_their_tests_say() -> None:
    assert (done := promtool("check", "rules", "rules.yml")).returncode == 0, done.stdout
    assert (done := promtool("test", "rules", "rules_test.yml")).returncode == 0, done.stdout


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(("right", "wrong"), [
    ("increase(edgecloud_bridge_lost_total[10m]) > 0", "increase(edgecloud_bridge_lost_total[10m]) > 100"),
    ("and on (instance) edgecloud_bridge_connected{link=\"cloud\"} == 1", ""),
    ("unless edgecloud_bridge_dropped_total offset 10m", "")])
def test_an_alert_that_rises_never_or_too_often_is_noticed(right: str, wrong: str, tmp_path: Path) -> None:
    text = (HERE / "rules.yml").read_text()
    assert right in text
    (tmp_path / "rules.yml").write_text(text.replace(right, wrong))
    shutil.copy(HERE / "rules_test.yml", tmp_path)
    assert promtool("check", "rules", "rules.yml", cwd=tmp_path).returncode == 0
    assert promtool("test", "rules", "rules_test.yml", cwd=tmp_path).returncode == 1


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_the_configurations_are_valid(name: str, tmp_path: Path) -> None:
    shutil.copy(HERE / "rules.yml", tmp_path)
    (tmp_path / name).write_text((HERE / name).read_text().replace("/etc/prometheus/", f"{tmp_path}/"))
    assert (done := promtool("check", "config", name, cwd=tmp_path)).returncode == 0, done.stdout
    assert f"{len(rules())} rules found" in done.stdout


def test_compose_scrapes_the_bridge_where_it_answers_and_mounts_what_is_configured() -> None:
    configuration = yaml.safe_load((HERE / "prometheus.yml").read_text())
    job = next(one for one in configuration["scrape_configs"] if one["job_name"] == "bridge")
    assert job["static_configs"][0]["targets"] == ["bridge:9464"]
    volumes = model()["services"]["prometheus"]["volumes"]
    assert configuration["rule_files"] == ["/etc/prometheus/rules.yml"]
    assert "./prometheus/rules.yml:/etc/prometheus/rules.yml:ro" in volumes
