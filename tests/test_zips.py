"""Lambda packages: each holds exactly its files, whatever else lies about, and imports without any other."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract import routes
from infra.nodejs import use_nodejs
from tests.synthesized import ROOT, assembly, resources, template
from tests.test_architecture import SHARED

use_nodejs()

import aws_cdk as cdk  # noqa: E402
from aws_cdk import aws_lambda as lambda_  # noqa: E402

from infra.functions import package  # noqa: E402

NAMES = ("aggregate", "alert", "api", "hours", "persist", "status", "watch")
TABLES = sorted(f"lambdas/{path.name}" for path in (ROOT / "lambdas").glob("table*.py"))
CONTRACT = sorted(f"contract/{path.name}" for path in (ROOT / "contract").glob("*.py"))


def expected(name: str) -> list[str]:
    further = [path.relative_to(ROOT).as_posix() for one in (name, *SHARED.get(name, ()))
               for path in (ROOT / "lambdas").glob(f"{one}_*.py")]
    return sorted([*CONTRACT, "lambdas/__init__.py", f"lambdas/{name}.py", *further, *TABLES])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def packaged() -> dict[str, Path]:
    """{function file: its staged package} of the whole deployment."""
    functions = [one["Properties"] for part in ("Ingest", "Api")
                 for one in resources(template(part), "AWS::Lambda::Function").values()]
    return {one["Handler"].split(".")[1]: assembly() / f"asset.{one['Code']['S3Key'].removesuffix('.zip')}"
            for one in functions}


def test_every_file_of_lambdas_is_a_function_and_the_other_way_round() -> None:
    there = {path.stem.partition("_")[0] for path in (ROOT / "lambdas").glob("[!_]*.py")} - {"table"}
    assert there == set(packaged()) == set(NAMES)
    assert {route.handler for route in routes.ROUTES} < there


@pytest.mark.parametrize("name", NAMES)
def test_a_package_holds_exactly_its_files(name: str) -> None:
    assert files(packaged()[name]) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_imports_by_itself(name: str, tmp_path: Path) -> None:
    folder = packaged()[name]
    program = (f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(folder)!r}); "
               f"import lambdas.{name} as it, contract; assert callable(it.handler); "
               "print(it.__file__); print(contract.__file__)")
    done = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / "lambdas" / f"{name}.py"), str(folder / "contract" / "__init__.py")]


def staged(root: Path, out: Path) -> Path:
    """The package of persist, made from a project in `root`."""
    app = cdk.App(outdir=str(out))
    lambda_.Function(cdk.Stack(app, "Try"), "F", code=package("persist", root), handler="lambdas.persist.handler",
                     runtime=lambda_.Runtime.PYTHON_3_13)
    app.synth()
    (folder,) = out.glob("asset.*")
    return folder


def test_nothing_that_lies_about_gets_in(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for part in ("contract", "lambdas"):
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    clean = staged(project, tmp_path / "clean")
    assert files(clean) == expected("persist")
    for junk in (".env", ".DS_Store", "contract/.DS_Store", "contract/x.pyc",
                 "contract/__pycache__/topics.cpython-311.pyc", "lambdas/__pycache__/table.cpython-311.pyc",
                 "lambdas/.DS_Store", ".git/config", "certs/bridge.key",
                 "contract/examples/__pycache__/y.pyc", "contract/examples/new.json", ".venv/lib/contract/topics.py"):
        (project / junk).parent.mkdir(parents=True, exist_ok=True)
        (project / junk).write_text("junk")
    again = staged(project, tmp_path / "again")
    assert files(again) == expected("persist")
    assert again.name == clean.name, "the hash must not change with what is not in the package"
