"""The systemd unit that --install-service writes: files, modes and quoting; nothing is started."""
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from device import service, settings

ROOT = Path(__file__).resolve().parent.parent


def install(unit_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "device.publisher", "--install-service", "--unit-dir", str(unit_dir),
                           *arguments], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=30, check=False)


def test_it_writes_unit_and_settings_and_names_the_next_two_commands(tmp_path: Path) -> None:
    done = install(tmp_path, "--broker", "192.168.1.7", "--rate", "10", "--count", "5", "--spool", "s p.db",
                   MQTT_USERNAME="u", MQTT_PASSWORD='p"$`\\w')
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  (sudo .*)$", done.stdout, re.MULTILINE) == [
        "sudo systemctl daemon-reload", "sudo systemctl enable --now edgecloud-publisher"]
    environment = tmp_path / "edgecloud-publisher.env"
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    lines = dict(line.split("=", 1) for line in environment.read_text().splitlines())
    assert lines["BROKER"] == '"192.168.1.7"' and lines["RATE"] == '"10"'
    assert lines["MQTT_PASSWORD"] == '"p\\"\\$\\`\\\\w"'
    assert lines["SPOOL"] == f'"{ROOT}/s p.db"' and "DEVICE_ID" in lines and "COUNT" not in lines
    unit = (tmp_path / "edgecloud-publisher.service").read_text()
    assert f"EnvironmentFile={environment}\n" in unit and "\nRestart=always\n" in unit
    assert f"\nExecStart={sys.executable} -m device.publisher\nRestart" in unit and "p\\" not in unit
    assert f"\nWorkingDirectory={ROOT}\n" in unit and "\nSuccessExitStatus=3\n" in unit


def test_other_settings_keep_the_former_file_beside(tmp_path: Path) -> None:
    for broker in ("one", "two", "two"):
        assert install(tmp_path, "--broker", broker).returncode == 0
    assert 'BROKER="two"' in (tmp_path / "edgecloud-publisher.env").read_text()
    assert 'BROKER="one"' in (tmp_path / "edgecloud-publisher.env.old").read_text()


def test_without_systemd_it_says_so(tmp_path: Path) -> None:
    done = install(tmp_path / "none")
    assert done.returncode == 1 and "give --unit-dir" in done.stderr and len(done.stderr.splitlines()) == 1


def test_faulty_settings_are_not_installed(tmp_path: Path) -> None:
    assert install(tmp_path, "--rate", "fast").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_line_break_in_a_setting_is_refused(tmp_path: Path) -> None:
    config = settings.read(["--unit-dir", str(tmp_path)], {"MQTT_PASSWORD": "a\nROOT=1"})
    with pytest.raises(service.ServiceError, match="MQTT_PASSWORD has a line break"):
        service.install(config)
