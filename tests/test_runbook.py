"""The runbook and its neighbours: every alarm has its entry, and what they name (commands, settings, checks) exists."""
import ast
import json
import re
from pathlib import Path

import pytest

from deploy.processes import ROOT
from device import settings as device_settings
from edge_bridge import __main__ as bridge
from edge_bridge import alarms, doctor, metrics, settings

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PI = (ROOT / "docs" / "pi.md").read_text()
PAGES = [ROOT / "docs" / name for name in ("runbook.md", "pi.md", "deployment.md")]
OUTPUT = re.search(r"```\n(EdgeCloud doctor .*?)\n```", RUNBOOK, re.DOTALL)


def section(title: str) -> str:
    """What stands below a heading of the second level."""
    return RUNBOOK.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_alarm_of_the_bridge_has_an_entry() -> None:
    entered = re.findall(r"^### `(\w+)`$", section("Alarms of the bridge"), re.MULTILINE)
    assert sorted(entered) == sorted(alarms.ALL)
    for entry in section("Alarms of the bridge").split("\n### ")[1:]:
        assert "**Do:**" in entry


def test_every_cloudwatch_alarm_has_an_entry() -> None:
    made = {name[:-8] if re.search(r"[0-9A-F]{8}$", name) else name
            for path in (ROOT / "tests" / "snapshots").glob("*.json")
            for name, resource in json.loads(path.read_text())["Resources"].items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"}
    assert made and set(re.findall(r"^\| `(\w+Alarm)`", section("CloudWatch alarms"), re.MULTILINE)) == made


def test_every_alert_of_prometheus_has_an_entry() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    alerts = set(re.findall(r"^\s*- alert: (\w+)", rules, re.MULTILINE))
    assert alerts and set(re.findall(r"^\| `(\w+)`", section("Alerts of Prometheus"), re.MULTILINE)) == alerts


def known(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    """Does `python -m edge_bridge` know what to do with these arguments? An unknown one is refused by name."""
    try:
        bridge.main(arguments, {})
    except SystemExit:
        return True  # argparse printed a sub-command's help
    return "unknown argument" not in capsys.readouterr().err


def test_every_sub_command_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    named = {word for page in PAGES for word in re.findall(r"python -m edge_bridge ([a-z-]+)", page.read_text())}
    assert named >= {"doctor", "deadletters", "--health", "--help"}
    assert not known(["nonsense"], capsys)
    assert [word for word in sorted(named)
            if not known([word, "--help"] if word == "doctor" else [word], capsys)] == []


def test_every_setting_and_variable_that_is_named_exists() -> None:
    there = {setting.name for setting in settings.TABLE} | {setting.env for setting in device_settings.SETTINGS}
    there |= set(re.findall(r"\$\((?:or \$\()?(?:if )?([A-Z]+_?[A-Z]*)", (ROOT / "Makefile").read_text()))
    named = {name for page in PAGES
             for name in re.findall(r"(?:`|make \w+ )([A-Z][A-Z_]{3,})(?==|`)", page.read_text())}
    assert {"OUTBOX", "RETENTION_BYTES", "ENV_FILE", "ROTATE"} <= named and named <= there, named - there


def test_every_metric_that_is_named_exists() -> None:
    there = {metrics.PREFIX + row.name for row in metrics.TABLE}
    assert set(re.findall(rf"{metrics.PREFIX}\w+", RUNBOOK)) <= there


def test_every_check_that_is_named_exists() -> None:
    named = {check.strip() for found in re.findall(r"`make doctor`:? \(?([\w ,]+)", RUNBOOK)
             for check in found.split(",")} - {"in another"}
    assert "duplicate client id" in named
    assert {check for check in named if check not in doctor.CHECKS} <= {"there", "alarms"}


def test_the_output_shown_is_that_of_this_doctor() -> None:
    assert OUTPUT
    shown = re.findall(r"^([\u2713\u2717\u2013]) (.{20})\s", OUTPUT[1], re.MULTILINE)
    assert [check.strip() for _, check in shown] == list(doctor.CHECKS) and {mark for mark, _ in shown} == {"\u2713"}


# --- the Pi's page

def test_the_publisher_has_every_flag_that_is_named() -> None:
    flags = {"--" + setting.flag for setting in device_settings.SETTINGS} | {"--install-service", "--help"}
    lines = [line for line in PI.splitlines() if "edgecloud-pi.pyz" in line or "`--" in line]
    assert set(re.findall(r"(--[a-z][a-z-]+)", "\n".join(lines))) <= flags


@pytest.mark.parametrize(("quoted", "file"), [
    ("is the broker running, and on this port?", "link.py"), ("readings wait in", "publisher.py"),
    ("not authorized: set MQTT_USERNAME and MQTT_PASSWORD", "link.py"),
    ("settings; readable by root only", "service.py"), ("sudo systemctl enable --now", "service.py")])
def test_what_the_publisher_says_is_quoted_as_it_says_it(quoted: str, file: str) -> None:
    assert quoted in PI and quoted in (ROOT / "device" / file).read_text()


def test_the_sensor_shown_works_on_the_pis_python(tmp_path: Path) -> None:
    source = PI.split("```python\n")[1].split("```")[0]
    ast.parse(source, feature_version=(3, 5))
    (tmp_path / "28-1").mkdir()
    file = tmp_path / "28-1" / "w1_slave"
    module: dict[str, object] = {}
    exec(source.replace("/sys/bus/w1/devices", str(tmp_path)), module)
    read = module["read"]
    assert callable(read)
    file.write_text("4b 46 7f ff 0c 10 1c : crc=1c YES\n4b 46 7f ff 0c 10 1c t=20250\n")
    assert read() == {"sensor1": 20.25, "sensor2": 0.5062}
    file.write_text("4b 46 : crc=1c NO\n4b t=20250\n")
    with pytest.raises(ValueError, match="checksum"):
        read()
