"""What goes to the Pi is Python 3.5: its grammar and its standard library; and nothing that it imports stays behind."""
import ast
import subprocess
import sys
from pathlib import Path

import parso
import pytest

from tests.bridge_rig import ROOT
from tests.publisher_rig import FOR_THE_PI


def imported(begin: Path) -> set[Path]:
    """The modules of device/ that a module there imports, itself included."""
    found, waiting = set(), [begin]
    while waiting:
        path = waiting.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "device":
                named = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
                paths = [ROOT / "device" / f"{name}.py" for name in named]
                waiting += [path for path in paths if path.exists() and path not in found]
    return found


def faults_in_35(text: str) -> list[str]:
    """What the grammar of Python 3.5 has against a module."""
    grammar = parso.load_grammar(version="3.5")
    return [f"line {issue.start_pos[0]}: {issue.message}" for issue in grammar.iter_errors(grammar.parse(text))]


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", "import sys; from vermin import main; sys.exit(main())", "--no-tips",
                           "-t=3.5-", "-vvv", *map(str, paths)],
                          capture_output=True, text=True, timeout=120, check=False)


def test_everything_that_the_publisher_imports_goes_with_it() -> None:
    found = imported(ROOT / "device" / "publisher.py")
    assert len(found) > 9 and found <= set(FOR_THE_PI)


def test_what_goes_to_the_pi_is_python_35() -> None:
    faults = [f"{path.relative_to(ROOT)} {fault}" for path in FOR_THE_PI
              for fault in faults_in_35(path.read_text("utf-8"))]
    assert not faults, "\n".join(faults)
    done = vermin(*FOR_THE_PI)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", ("x = f'{1}'\n", "x: int = 1\n", "def f(**kw,):\n    pass\n", "x = 1_000\n"))
def test_newer_syntax_is_seen(text: str) -> None:
    assert faults_in_35(text)


def test_newer_modules_are_seen(tmp_path: Path) -> None:
    module = tmp_path / "newer.py"
    module.write_text("import secrets\n")
    done = vermin(module)
    assert done.returncode == 1 and "secrets" in done.stdout
