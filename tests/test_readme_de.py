"""README.de.md is README.md in German: the same sections, commands, links and blocks, in the same order."""
import re

import pytest

from deploy.processes import ROOT

ENGLISH, GERMAN = (ROOT / name for name in ("README.md", "README.de.md"))
SHARED = {
    "commands": r"^    (\S[^#\n]*?)\s*(?:#.*)?$",
    "blocks": r"^```\n(.*?)^```",
    "links": r"\]\(([^)\s]+)\)",
    "code": r"`([^`\n]+)`",
}


def found(path, pattern: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return sorted(set(re.findall(pattern, text, re.MULTILINE | re.DOTALL)) - {"README.md", "README.de.md"})


@pytest.mark.parametrize("what", SHARED)
def test_both_have_the_same(what: str) -> None:
    assert found(GERMAN, SHARED[what]) == found(ENGLISH, SHARED[what])


def test_both_have_as_many_sections() -> None:
    headings = [re.findall(r"^## ", path.read_text(), re.MULTILINE) for path in (ENGLISH, GERMAN)]
    assert len(headings[0]) == len(headings[1]) > 5
