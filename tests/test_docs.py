"""The documents: short, their links lead somewhere, and every command that they name exists."""
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from deploy.processes import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"),
                    *(ROOT / ".github").rglob("*.md")])
MADE_BY_COMMANDS = {"certs", "dist"}
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    """A path as `infra/hours.py`, or a module as `hours.py`; not what a block of the document writes itself."""
    text = document.read_text()
    parts = {path.name for path in ROOT.iterdir() if path.is_dir()}
    written = {Path(name).name for name in re.findall(r"^```\w+ file=(\S+)", text, re.MULTILINE)}
    paths = [name for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|js|json|md|ya?ml|conf|c|template\.md))`", text)
             if name.partition("/")[0] in parts - MADE_BY_COMMANDS]
    modules = {path.name for part in ("contract", "device", "edge_bridge", "infra", "lambdas", "local_cloud", "deploy")
               for path in (ROOT / part).rglob("*.py")}
    absent = [name for name in paths if not (ROOT / name).exists()]
    absent += [name for name in re.findall(r"`([a-z_]+\.py)`", text) if name not in modules | written]
    assert not absent


def test_every_page_is_on_the_map() -> None:
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text())
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} == set(linked)


def test_decisions_are_numbered_without_gaps_and_dated() -> None:
    for number, path in enumerate(sorted((ROOT / "docs" / "decisions").glob("*.md")), start=1):
        title, _, status = path.read_text().splitlines()[:3]
        assert path.name.startswith(f"{number:04d}-") and title.startswith(f"# {number}. ")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d, (accepted|superseded by \d+)\.", status), path.name


def test_every_pinned_package_is_looked_after() -> None:
    """Dependabot knows each folder that pins something."""
    known = re.findall(r"directory: (\S+)|directories: \[(.*)\]", (ROOT / ".github" / "dependabot.yml").read_text())
    folders = {folder.strip().strip("/") for one in known for folder in "".join(one).split(",")}
    pinned = {str(path.parent.relative_to(ROOT)) for pattern in ("*/package-lock.json", "*/cli/package-lock.json",
                                                                 "*/Dockerfile") for path in ROOT.glob(pattern)}
    assert {"web", "deploy/cli", "device"} <= pinned <= folders


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
