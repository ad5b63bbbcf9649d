"""Who may import whom: the architecture, kept as a test."""
import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"contract", "device", "edge_bridge", "infra", "lambdas", "local_cloud", "deploy", "web", "tests"}
STDLIB = set(sys.stdlib_module_names)

# part: (which of ours, which third-party packages)
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "contract": (set(), set()),
    "device": ({"contract"}, {"paho", "confluent_kafka"}),
    "device/eyes": ({"contract", "device"}, {"confluent_kafka", "cv2", "numpy", "onnxruntime"}),
    "edge_bridge": ({"contract"}, {"paho", "confluent_kafka", "awsiot", "awscrt", "numpy", "numba", "sklearn",
                                   "matplotlib", "prometheus_client"}),
    "lambdas": ({"contract", "lambdas.table"}, {"boto3", "botocore"}),
    "infra": ({"contract"}, {"aws_cdk", "constructs"}),
    "local_cloud": (set(), {"moto", "boto3", "botocore", "cryptography", "starlette", "uvicorn", "lark", "joserfc",
                            "werkzeug", "runtime_client"}),
    "app.py": ({"infra"}, {"aws_cdk"}),
    "deploy/rebuild_tables.py": ({"contract", "deploy.rebuild_compare", "lambdas"}, {"botocore"}),
    "deploy/demo.py": ({"contract", "deploy"}, {"boto3", "botocore", "cryptography", "confluent_kafka"}),
}

# A function and those whose further files are packed with it (infra.functions.function, also=...).
SHARED = {"watch": ("alert",)}


def imports_of(path: Path) -> set[str]:
    """Dotted names that a module imports, at its top or anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the house writes full names"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def breaches(part: str, name: str, ours: set[str], third_party: set[str], module: str = "") -> bool:
    """True when `part` may not import `name`; module: the stem of the file that does."""
    top = name.split(".")[0]
    if top in STDLIB or top == part:
        # A function has its own file, further ones that begin with its name and "_", and what all share.
        function = module.partition("_")[0]
        own = [f"lambdas.{one}_" for one in (function, *SHARED.get(function, ()))]
        return part == "lambdas" and top == "lambdas" and not name.startswith(("lambdas.table", *own))
    if top in OURS:
        return not any(name == allowed or name.startswith(allowed + ".") for allowed in ours)
    return top not in third_party


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported; what is for the type checker alone does not."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _at_import(statement.body)


def needed(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of ours that this one needs before it can be imported."""
    found: set[str] = set()
    for node in _at_import(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in names}
    return found & modules.keys()


def test_no_module_needs_itself_in_a_circle() -> None:
    """A circle stands until somebody imports its modules in another order."""
    paths = [path for part in sorted(OURS) for path in sorted((ROOT / part).rglob("*.py"))
             if "node_modules" not in path.parts]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {name: needed(path, modules) for name, path in modules.items()}
    assert sum(map(len, graph.values())) > len(graph), "these are not all imports there are"
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("part", sorted(TABLE))
def test_imports_only_what_the_table_allows(part: str) -> None:
    ours, third_party = TABLE[part]
    start = ROOT / part
    files = [start] if start.is_file() else [
        path for path in sorted(start.rglob("*.py")) if not any(
            path.is_relative_to(ROOT / other) for other in TABLE if other.startswith(part + "/"))]
    assert files, f"{part} has no Python file: the table is out of date"
    wrong = [f"{path.relative_to(ROOT)} must not import {name}" for path in files for name in sorted(imports_of(path))
             if breaches(part, name, ours, third_party, path.stem)]
    assert not wrong, "\n".join(wrong)


def test_the_table_sees_a_breach(tmp_path: Path) -> None:
    module = tmp_path / "x.py"
    module.write_text("import infra\nfrom lambdas import persist\nimport numpy\n")
    ours, third_party = TABLE["device"]
    assert [n for n in sorted(imports_of(module)) if breaches("device", n, ours, third_party)] == [
        "infra", "lambdas.persist", "numpy"]
    ours, third_party = TABLE["lambdas"]
    for module, name, breach in (("api", "lambdas.api_data.get_data", False), ("api_x", "lambdas.api_data.y", False),
                                 ("alert", "lambdas.api_data.y", True), ("api_x", "lambdas.alert_text", True),
                                 ("persist", "lambdas.table", False), ("api_x", "lambdas.api.handler", True),
                                 ("watch_x", "lambdas.alert_x", False), ("watch", "lambdas.alert.x", True)):
        assert breaches("lambdas", name, ours, third_party, module) is breach, (module, name)


def test_the_two_dependency_lists_agree() -> None:
    import tomllib

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(groups["cloud"] + groups["bridge"])
