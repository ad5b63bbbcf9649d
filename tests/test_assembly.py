"""Reading cloud assemblies: order of stacks, assets, nested stages, regions, and what is wrong with a broken one."""
import json
from pathlib import Path
from typing import Any

import pytest

from local_cloud import assembly
from local_cloud.errors import DeployError

FOREIGN = Path(__file__).parent / "data" / "foreign_cdk_out"


def write(directory: Path, artifacts: dict[str, Any], **files: Any) -> Path:
    """An assembly of the given artifacts; `files` are JSON files by name without the suffix."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "manifest.json").write_text(json.dumps({"version": "55.0.0", "artifacts": artifacts}))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def stack(template: str, *dependencies: str, environment: str = "aws://unknown-account/unknown-region",
          **properties: Any) -> dict[str, Any]:
    return {"type": "aws:cloudformation:stack", "environment": environment, "dependencies": list(dependencies),
            "properties": {"templateFile": f"{template}.json", **properties}}


def test_stacks_come_after_what_they_depend_on() -> None:
    loaded = assembly.load(FOREIGN)
    assert [one.name for one in loaded.stacks] == ["GreenhouseBeds", "GreenhouseDoor"]
    assert loaded.stacks[1].dependencies == ("GreenhouseBeds",)


def test_an_asset_is_found_by_its_object_key() -> None:
    beds = assembly.load(FOREIGN).stacks[0]
    assert beds.assets == {"50114d1e.zip": FOREIGN / "asset.50114d1e"}
    assert (beds.assets["50114d1e.zip"] / "garden" / "soil.py").exists()


def test_names_parameters_and_regions_come_from_the_manifest(tmp_path: Path) -> None:
    directory = write(tmp_path, {
        "A": stack("t", stackName="alpha", parameters={"Size": 3}, environment="aws://123456789012/eu-west-1"),
        "B": stack("t", "A")}, t={"Resources": {}})
    first, second = assembly.load(directory).stacks
    assert (first.name, first.parameters, first.region) == ("alpha", {"Size": "3"}, "eu-west-1")
    assert (second.dependencies, second.region) == (("alpha",), None)


def test_one_region_runs_and_a_second_is_refused(tmp_path: Path) -> None:
    one = assembly.load(write(tmp_path / "one", {"A": stack("t")}, t={}))
    assert one.region(None, "eu-north-1") == "eu-north-1"
    assert one.region("us-east-1", "eu-north-1") == "us-east-1"
    placed = assembly.load(FOREIGN)
    assert placed.region(None, "eu-north-1") == "eu-west-1"
    with pytest.raises(DeployError, match="eu-west-1, us-east-1"):
        placed.region("us-east-1", "eu-north-1")


def test_stages_are_read_from_their_own_directories(tmp_path: Path) -> None:
    directory = write(tmp_path, {
        "Stage": {"type": "cdk:cloud-assembly", "properties": {"directoryName": "assembly-Stage"}}, "Top": stack("t")},
        t={})
    write(tmp_path / "assembly-Stage", {"Inner": stack("t")}, t={"Description": "inner"})
    assert {one.name: one.template for one in assembly.load(directory).stacks} == {
        "Inner": {"Description": "inner"}, "Top": {}}


def test_a_circle_of_stacks_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, {"A": stack("t", "B"), "B": stack("t", "A")}, t={})
    with pytest.raises(DeployError, match="A, B depend on each other"):
        assembly.load(directory)


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"manifest\.json is missing; expected a CDK cloud assembly"):
        assembly.load(tmp_path / "nowhere")
    with pytest.raises(DeployError, match="lists no stack"):
        assembly.load(write(tmp_path / "empty", {}))
    with pytest.raises(DeployError, match=r"t\.json is missing"):
        assembly.load(write(tmp_path / "torn", {"A": stack("t")}))
    with pytest.raises(DeployError, match=r"t\.json holds list"):
        assembly.load(write(tmp_path / "list", {"A": stack("t")}, t=[]))
    broken = write(tmp_path / "broken", {"A": stack("t")})
    (broken / "t.json").write_text("{")
    with pytest.raises(DeployError, match=r"t\.json cannot be read as JSON"):
        assembly.load(broken)


def test_two_stacks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="twin occur twice"):
        assembly.load(write(tmp_path, {"A": stack("t", stackName="twin"), "B": stack("t", stackName="twin")}, t={}))
