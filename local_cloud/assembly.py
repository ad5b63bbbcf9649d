"""A CDK cloud assembly from disk (manifest.json, templates, assets) to stacks in the order in which to deploy them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_cloud.errors import DeployError

Template = dict[str, Any]
GLOBAL_TYPES = {"AWS::Budgets::Budget"}


@dataclass(frozen=True)
class Stack:
    """One CloudFormation stack; `assets` maps an S3 object key (`<hash>.zip`) to its file or directory on disk."""

    name: str
    template: Template
    assets: dict[str, Path]
    region: str | None = None
    dependencies: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, Any]:
        """The template's resources by logical id."""
        found: dict[str, Any] = self.template.get("Resources", {})
        return found

    def where(self, logical_id: str) -> str:
        """A resource, as errors name it."""
        return f"stack {self.name}, resource {logical_id} ({self.resources[logical_id].get('Type')})"

    @property
    def belongs_to_no_region(self) -> bool:
        """Whether all it has is the same in every region, though CloudFormation makes it in some only."""
        return {resource["Type"] for resource in self.resources.values()} <= GLOBAL_TYPES


@dataclass(frozen=True)
class Assembly:
    """The stacks of one directory, each after those that it depends on."""

    directory: Path
    stacks: tuple[Stack, ...]

    def region(self, asked: str | None, default: str) -> str:
        """The one region to run in; DeployError when stacks, or a stack and the option, name different ones."""
        named = {stack.region for stack in self.stacks if stack.region and not stack.belongs_to_no_region}
        if asked:
            named.add(asked)
        if len(named) > 1:
            raise DeployError(
                f"regions {', '.join(sorted(named))}: the local cloud runs one region; synthesize for one"
            )
        return named.pop() if named else default


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeployError(
            f"{path} is missing; expected a CDK cloud assembly (run `python app.py` or `cdk synth`)"
        ) from None
    except (ValueError, OSError) as fault:
        raise DeployError(f"{path} cannot be read as JSON: {fault}") from None
    if not isinstance(value, dict):
        raise DeployError(f"{path} holds {type(value).__name__}, expected a JSON object")
    return value


def _region_of(environment: str) -> str | None:
    region = environment.removeprefix("aws://").partition("/")[2]
    return None if region in ("", "unknown-region") else region


def _assets_of(directory: Path, artifacts: dict[str, Any], depends: list[str]) -> dict[str, Path]:
    assets: dict[str, Path] = {}
    for name in depends:
        artifact = artifacts.get(name, {})
        if artifact.get("type") != "cdk:asset-manifest":
            continue
        manifest = _read_json(directory / artifact["properties"]["file"])
        for digest, entry in manifest.get("files", {}).items():
            path = directory / entry["source"]["path"]
            keys = [target["objectKey"] for target in entry.get("destinations", {}).values()]
            assets.update(dict.fromkeys(keys or [f"{digest}.zip"], path))
    return assets


def _load_stack(directory: Path, artifact_id: str, artifacts: dict[str, Any]) -> Stack:
    artifact = artifacts[artifact_id]
    properties = artifact["properties"]
    depends = artifact.get("dependencies", [])
    return Stack(
        name=properties.get("stackName", artifact_id),
        template=_read_json(directory / properties["templateFile"]),
        assets=_assets_of(directory, artifacts, depends),
        region=_region_of(artifact.get("environment", "")),
        dependencies=tuple(
            artifacts[one].get("properties", {}).get("stackName", one)
            for one in depends
            if artifacts.get(one, {}).get("type") == "aws:cloudformation:stack"
        ),
        parameters={name: str(value) for name, value in properties.get("parameters", {}).items()},
    )


def _stacks_in(directory: Path) -> Iterator[Stack]:
    artifacts = _read_json(directory / "manifest.json").get("artifacts", {})
    for artifact_id, artifact in artifacts.items():
        if artifact.get("type") == "aws:cloudformation:stack":
            yield _load_stack(directory, artifact_id, artifacts)
        elif artifact.get("type") == "cdk:cloud-assembly":
            yield from _stacks_in(directory / artifact["properties"]["directoryName"])


def in_order(stacks: list[Stack]) -> tuple[Stack, ...]:
    """Stacks after their dependencies, otherwise as listed; DeployError for a cycle."""
    waiting = {stack.name: stack for stack in stacks}
    ordered: list[Stack] = []
    while waiting:
        ready = [stack for stack in waiting.values() if not any(name in waiting for name in stack.dependencies)]
        if not ready:
            raise DeployError(f"stacks {', '.join(waiting)} depend on each other in a circle")
        ordered.append(ready[0])
        del waiting[ready[0].name]
    return tuple(ordered)


def load(directory: Path) -> Assembly:
    """Read an assembly, nested stages included; DeployError says what is missing."""
    stacks = list(_stacks_in(directory))
    if not stacks:
        raise DeployError(f"{directory / 'manifest.json'} lists no stack")
    names = [stack.name for stack in stacks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeployError(f"stack names {', '.join(twice)} occur twice in {directory}")
    return Assembly(directory, in_order(stacks))
