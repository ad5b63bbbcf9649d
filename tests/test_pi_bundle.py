"""The one file for the Pi: its bytes, what is in it, and that it runs on its own."""
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import pi_bundle
from tests.bridge_rig import ROOT
from tests.publisher_rig import FOR_THE_PI, MOSQUITTO, Bridge, Broker


def oldest_python() -> str:
    """The oldest Python 3 from 3.5 on that this machine has; at least the one that runs the tests."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(5, sys.version_info.minor):
        found = [*pyenv.glob(f"3.{minor}.*/bin/python3"), shutil.which(f"python3.{minor}")]
        for python in filter(None, found):
            if subprocess.run([python, "-c", "import sqlite3"], capture_output=True, check=False).returncode == 0:
                return str(python)
    return sys.executable


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        pi_bundle.paho_sdist()
    except pi_bundle.BundleError as error:
        pytest.skip(str(error))
    return pi_bundle.build(tmp_path_factory.mktemp("bundle") / "edgecloud-pi.pyz")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Broker, Bridge]]:
    broker = Broker(tmp_path, "mosquitto" if MOSQUITTO else "embedded")
    bridge = Bridge(broker.port)
    yield broker, bridge
    bridge.close()
    broker.kill()


def test_the_same_sources_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = pi_bundle.build(tmp_path / "again.pyz")
    assert again.read_bytes() == bundle.read_bytes()
    assert bundle.read_bytes().startswith(b"#!/usr/bin/env python3\n") and os.access(bundle, os.X_OK)


def test_it_holds_exactly_what_the_publisher_needs(bundle: Path) -> None:
    names = set(zipfile.ZipFile(bundle).namelist())
    ours = {str(path.relative_to(ROOT)) for path in FOR_THE_PI}
    assert {name for name in names if not name.startswith("paho/")} == ours | {"__main__.py", "device/VERSION"}
    assert {"paho/mqtt/client.py", "paho/__init__.py", "paho/LICENSE.txt", "paho/edl-v10"} <= names
    assert not any("camera" in name or "__pycache__" in name for name in names)
    assert bundle.stat().st_size < 500_000


@pytest.mark.parametrize("python", [sys.executable, oldest_python()], ids=["this Python", "the oldest here"])
def test_it_runs_on_its_own(python: str, bundle: Path, site: tuple[Broker, Bridge], tmp_path: Path) -> None:
    """-I -S: neither this project nor any installed package can be found."""
    broker, bridge = site
    done = subprocess.run(
        [python, "-I", "-S", str(bundle), "--broker", "127.0.0.1", "--port", str(broker.port), "--device-id", "pi",
         "--rate", "50", "--seconds", "1", "--seed", "4", "--spool", str(tmp_path / "spool.db")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "published 50 readings, 50 acknowledged\n"), done.stderr
    assert bridge.seqs() == list(range(1, 51))


def test_a_function_beside_it_can_be_its_sensor(bundle: Path, site: tuple[Broker, Bridge], tmp_path: Path) -> None:
    (tmp_path / "garden.py").write_text("def read():\n    return {'sensor2': 0.25, 'humidity': 41}\n")
    done = subprocess.run(
        [sys.executable, str(bundle), "--broker", "127.0.0.1", "--port", str(site[0].port), "--sensor", "garden:read",
         "--count", "2", "--rate", "50", "--spool", "spool.db"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b'"sensor2":0.25,"humidity":41,' in site[1].raw[0]


def test_it_installs_itself_as_a_service(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(bundle), "--install-service", "--unit-dir", str(tmp_path)],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"\nExecStart={sys.executable} {bundle}\n" in (tmp_path / "edgecloud-publisher.service").read_text()


def test_it_tells_its_version(bundle: Path) -> None:
    shown = [subprocess.run([sys.executable, *how, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                            check=True).stdout for how in (["-I", "-S", str(bundle)], ["-m", "device.publisher"])]
    assert shown[0] == shown[1] and re.fullmatch(r"edgecloud publisher \d+\.\d+\.\d+\S*\n", shown[0])


def test_a_wrong_archive_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / pi_bundle.PAHO_FILE).write_bytes(b"not paho")
    assert not pi_bundle._is_paho(tmp_path / pi_bundle.PAHO_FILE)
