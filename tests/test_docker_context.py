"""The image's build context: an own reading of the .dockerignore rules, over all that must stay out."""
import os
import re
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
IGNORE = ROOT / "edge_bridge" / "Dockerfile.dockerignore"
DOCKERFILE = ROOT / "edge_bridge" / "Dockerfile"
CAMERA = ROOT / "device" / "Dockerfile"
CAMERA_IGNORE = ROOT / "device" / "Dockerfile.dockerignore"


def pattern(text: str) -> re.Pattern[str]:
    """A .dockerignore pattern as a regular expression over a path: `**` crosses levels, `*` and `?` do not."""
    parts = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", text.strip("/")):
        parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token))
    return re.compile("".join(parts) + r"(?:/.*)?\Z")


def in_context(path: str, lines: list[str]) -> bool:
    """The last matching line decides; a line that matches a directory matches what is in it."""
    kept = True
    for line in lines:
        if line.startswith("!"):
            kept = True if pattern(line[1:]).match(path) else kept
        elif pattern(line).match(path):
            kept = False
    return kept


def rules(ignore: Path = IGNORE) -> list[str]:
    return [line.strip() for line in ignore.read_text().splitlines() if line.strip() and not line.startswith("#")]


def repository_files() -> list[str]:
    skip = {".git", ".venv", ".demo", "cdk.out", "node_modules", ".ruff_cache", ".mypy_cache", ".pytest_cache"}
    found = []
    for folder, folders, names in os.walk(ROOT):  # not rglob: it would walk through what is skipped, too
        folders[:] = [name for name in folders if name not in skip]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names]
    return found


def test_the_context_is_the_contract_the_bridge_and_the_lock() -> None:
    files = {path for path in repository_files() if in_context(path, rules())}
    outside = {path for path in files if not path.startswith(("contract/", "edge_bridge/"))}
    assert outside <= {"deploy/locks/bridge.lock"}
    assert {"contract/batch.py", "edge_bridge/__main__.py", "edge_bridge/detectors/seed.py"} <= files
    assert not [path for path in files if "__pycache__" in path or PurePosixPath(path).name.startswith(".")]


def test_secrets_and_state_stay_out_wherever_they_lie() -> None:
    for path in ("certs/device.key", ".env", "edge_bridge/device.crt", "edge_bridge/device.key", "contract/ca.pem",
                 "edge_bridge/outbox.db", "edge_bridge/outbox.db-wal", "edge_bridge/.env", "contract/.DS_Store",
                 "edge_bridge/__pycache__/bridge.cpython-311.pyc", ".git/config", "lambdas/api.py",
                 "deploy/locks/dev.lock",
                 "edge_bridge/detectors/__pycache__/seed.pyc", "pyproject.toml", "requirements.txt"):
        assert not in_context(path, rules()), path


def test_the_reading_of_the_rules_is_dockers() -> None:
    lines = ["**", "!kept", "!deep/one.txt", "**/*.key", "sing?e"]
    assert in_context("kept/a/b.py", lines)
    assert in_context("deep/one.txt", lines)
    assert not in_context("deep/two.txt", lines)
    assert not in_context("kept/a/x.key", lines)
    assert not in_context("kept.py", lines)
    assert in_context("a/x.pyc", ["*.pyc"])  # `*` stays on its level
    assert not in_context("x.pyc", ["*.pyc"])


@pytest.mark.parametrize(("dockerfile", "copied", "runs"), [
    (DOCKERFILE, ["deploy/locks/bridge.lock", "contract/", "edge_bridge/"], "--health"),
    (CAMERA, ["deploy/locks/camera.lock", "contract/", "device/"], '"device.camera"')])
def test_an_image_copies_nothing_else_and_runs_unprivileged(dockerfile: Path, copied: list[str], runs: str) -> None:
    text = dockerfile.read_text()
    assert [line.split()[1] for line in text.splitlines() if line.startswith(("COPY", "ADD"))] == copied
    assert "USER edgecloud" in text and "--require-hashes" in text and runs in text
    image = re.search(r"ARG PYTHON_IMAGE=python:3\.(\d+)-slim", text)
    assert image and int(image.group(1)) >= 11


def test_the_cameras_context_is_the_contract_the_device_and_the_lock() -> None:
    files = {path for path in repository_files() if in_context(path, rules(CAMERA_IGNORE))}
    outside = {path for path in files if not path.startswith(("contract/", "device/"))}
    assert outside <= {"deploy/locks/camera.lock"}
    assert {"contract/payloads.py", "device/camera.py", "device/spool.py", "device/eyes/people.py"} <= files
    for path in ("device/camera-01.camera.db", "device/camera.db-wal", "device/eyes/yolo.onnx", "device/street.avi",
                 "device/out.jpg", "device/.env", "device/client.key", "edge_bridge/bridge.py",
                 "deploy/locks/dev.lock"):
        assert not in_context(path, rules(CAMERA_IGNORE)), path
