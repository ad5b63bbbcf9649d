"""Every diagram of the documents renders, in a real browser; and what they name is there."""
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error

from deploy.processes import ROOT
from tests import mermaid_rig
from tests.mermaid_rig import Renderer, diagrams

DOCUMENTS = [path for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]) if diagrams(path)]
needs_a_browser = pytest.mark.skipif(mermaid_rig.missing() is not None, reason=str(mermaid_rig.missing()))


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with mermaid_rig.renderer() as one:
        yield one


@needs_a_browser
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_diagrams_render(renderer: Renderer, document: Path) -> None:
    for text in diagrams(document):
        svg = renderer.svg(text)
        assert svg.startswith("<svg") and "Syntax error" not in svg, text


@needs_a_browser
def test_a_diagram_that_does_not_render_is_seen(renderer: Renderer) -> None:
    with pytest.raises(Error, match="Parse error"):
        renderer.svg("sequenceDiagram\n  A->>B\n    nonsense ((")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_that_diagrams_name_exist(document: Path) -> None:
    named = {name for text in diagrams(document) for name in re.findall(r"\b[\w/]+\.(?:py|html|js)\b", text)}
    parts = ("device", "edge_bridge", "lambdas", "infra", "deploy", "web", "local_cloud")
    known = ["/" + path.relative_to(ROOT).as_posix() for part in parts for path in (ROOT / part).rglob("*.*")]
    assert not [name for name in sorted(named) if not any(path.endswith("/" + name) for path in known)]


def test_every_use_case_has_its_sequence() -> None:
    text = (ROOT / "docs" / "use-cases.md").read_text()
    assert len(re.findall(r"^## \d\. ", text, re.MULTILINE)) == 5
    assert sum(one.startswith("sequenceDiagram") for one in diagrams(ROOT / "docs" / "use-cases.md")) == 5
