"""The documents: short, their links lead somewhere, and every command that they name exists."""
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.processes import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"),
                    *(ROOT / ".github").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TARGETS = {word for line in TARGETS for word in line.split()}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    dead = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(document: Path) -> None:
    named = set(re.findall(r"(?:`|^ {4})make ([a-z][a-z0-9-]*)", document.read_text(), re.MULTILINE))
    assert named <= TARGETS


def test_every_dependency_has_its_reason() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    names = {re.split(r"[\[<>=]", line)[0] for group in ("cloud", "bridge", "dev") for line in groups[group]}
    assert not [name for name in sorted(names) if name not in reasons]


def test_one_version_number() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_help_lists_the_commands() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"make demo", "make test", "make deploy"} <= set(re.findall(r"make [a-z]+", done.stdout))
