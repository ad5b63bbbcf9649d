"""docs/settings.md and docs/contract.md are what the tables and golden examples say today."""
from pathlib import Path

import pytest

from deploy import reference
from edge_bridge import settings


@pytest.mark.parametrize("path", reference.DOCUMENTS, ids=lambda path: path.name)
def test_a_reference_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference.DOCUMENTS[path](), (
        "write it anew: python -m deploy.reference --write")


def test_every_golden_message_has_a_sentence() -> None:
    examples = {path.stem for path in reference.EXAMPLES.glob("*.json")}
    assert set(reference.MESSAGES) == {name for name in examples if not name.startswith("api_")}


def test_every_setting_is_in_its_table() -> None:
    text = reference.settings()
    assert not [row.name for row in settings.TABLE if f"| `{row.name}` |" not in text]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert list(reference._table(["a"], [["x|y"]]))[2] == "| x\\|y |"


def test_what_is_written_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    reference.write({tmp_path / "one.md": "text\n"})
    assert (tmp_path / "one.md").read_text() == "text\n" and capsys.readouterr().out == "wrote one.md\n"
