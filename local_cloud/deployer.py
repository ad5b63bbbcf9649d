"""Deploys an assembly strictly: stacks in, resources at the local services out; destroys it again in reverse.

Everything is checked before anything is created (template_check.py). A fault while creating rolls the stack back, as
CloudFormation does, and carries the stack and the logical id.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_cloud import parameters, template_check
from local_cloud.assembly import Assembly, Stack
from local_cloud.errors import DeployError, Unsupported
from local_cloud.intrinsics import Resolver, references
from local_cloud.resources import REGISTRY, Applied, Context, Services

log = logging.getLogger(__name__)

REFUSALS = (DeployError, Unsupported, BotoCoreError, ClientError)  # of our services, and of the AWS API behind us


@dataclass
class Resource:
    """One resource that is deployed; `where` names it in errors."""

    where: str
    logical_id: str
    kind: str
    applied: Applied
    deletion_policy: str
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        return self.applied.ref

    @property
    def attributes(self) -> Mapping[str, Any]:
        return self.applied.attributes


@dataclass
class DeployedStack:
    """One stack that is deployed, since created_at_s (epoch): its resources in the order of creation, its outputs."""

    name: str
    created_at_s: float = field(default_factory=time.time)
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


def creation_order(stack: Stack, wanted: list[str]) -> list[str]:
    """Logical ids after everything that they refer to or depend on; DeployError for a cycle."""
    entries = stack.resources
    needs = {logical_id: set(_needs(entries[logical_id])) & set(wanted) - {logical_id} for logical_id in wanted}
    ordered: list[str] = []
    done: set[str] = set()
    while len(ordered) < len(wanted):
        ready = [logical_id for logical_id in wanted if logical_id not in done and needs[logical_id] <= done]
        if not ready:
            left = ", ".join(logical_id for logical_id in wanted if logical_id not in done)
            raise DeployError(f"stack {stack.name}: resources refer to each other in a circle: {left}")
        ordered += ready
        done.update(ready)
    return ordered


def wanted(stack: Stack, resolver: Resolver) -> list[str]:
    """The logical ids whose condition holds, or that have none."""
    return [name for name, entry in stack.resources.items() if "Condition" not in entry
            or resolver.condition(entry["Condition"])]


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Whatever goes wrong inside is a DeployError or Unsupported that says where."""
    try:
        yield
    except (DeployError, Unsupported) as fault:
        raise type(fault)(f"{where}: {fault}") from None
    except (BotoCoreError, ClientError) as fault:
        raise DeployError(f"{where}: {fault}") from fault
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        text = f"{where}: its properties are not of the expected shape: {type(fault).__name__}: {fault}"
        raise DeployError(text) from fault


def _needs(entry: dict[str, Any]) -> Iterator[str]:
    depends = entry.get("DependsOn", [])
    yield from [depends] if isinstance(depends, str) else depends
    for name, _ in references(entry.get("Properties", {})):
        yield name


def check(assembly: Assembly, given: parameters.Given) -> None:
    """Raise Unsupported with every fault of every stack, before anything is made; DeployError for an unknown stack."""
    unknown = sorted(set(given) - {stack.name for stack in assembly.stacks})
    if unknown:
        raise DeployError(
            f"--parameter for stack {unknown[0]!r}: no such stack; "
            f"there are {', '.join(stack.name for stack in assembly.stacks)}"
        )
    faults = [fault for stack in assembly.stacks for fault in template_check.faults_of(stack)]
    if faults:
        raise Unsupported("\n".join(dict.fromkeys(faults)))


class Deployer:
    """Deploys and destroys one assembly at the given services. `given` holds parameters by stack and name."""

    def __init__(self, assembly: Assembly, services: Services, given: parameters.Given) -> None:
        self._assembly = assembly
        self._services = services
        self._given = {name: dict(values) for name, values in given.items()}
        self._stack_ids = {stack.name: str(uuid.uuid4()) for stack in assembly.stacks}
        self._providers: dict[str, frozenset[str]] = {}
        self.stacks: dict[str, DeployedStack] = {}

    def stack(self, name: str) -> Stack:
        """The stack of this name in the assembly; DeployError when it has none, or when it is not deployed."""
        if name not in self.stacks:
            raise DeployError(f"stack {name} does not exist; deployed: {', '.join(self.stacks) or 'none'}")
        return next(stack for stack in self._assembly.stacks if stack.name == name)

    def stack_id(self, name: str) -> str:
        """The stack's ARN, the same through updates."""
        return (
            f"arn:aws:cloudformation:{self._services.region}:{self._services.account_id}:"
            f"stack/{name}/{self._stack_ids[name]}"
        )

    def given(self, name: str) -> dict[str, str]:
        """Every parameter of a stack with the text it was given: by the options, the assembly, or its default."""
        stack = self.stack(name)
        declared = stack.template.get("Parameters", {})
        defaults = {key: str(entry["Default"]) for key, entry in declared.items() if "Default" in entry}
        return {**defaults, **stack.parameters, **self._given.get(name, {})}

    async def deploy(self) -> None:
        """Create every stack that is not deployed yet; on a fault, roll its stack back and raise."""
        check(self._assembly, self._given)
        for stack in self._assembly.stacks:
            if stack.name not in self.stacks:
                await self._deploy_stack(stack)

    async def _deploy_stack(self, stack: Stack) -> None:
        deployed = DeployedStack(stack.name)
        resolver = await self.resolver(stack, deployed, self._given.get(stack.name, {}))
        try:
            for logical_id in creation_order(stack, wanted(stack, resolver)):
                properties = await self.properties(stack, logical_id, resolver)
                deployed.resources[logical_id] = await self.create(stack, logical_id, properties)
            deployed.outputs = await asyncio.to_thread(self.resolve_outputs, stack, resolver)
        except BaseException:
            await self._roll_back(deployed)
            raise
        self.stacks[stack.name] = deployed

    async def resolver(self, stack: Stack, deployed: DeployedStack, given: dict[str, str]) -> Resolver:
        """What resolves the stack's intrinsics against these parameters and what is deployed of it so far."""
        pseudo = {
            "AWS::AccountId": self._services.account_id,
            "AWS::Region": self._services.region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack.name,
            "AWS::NotificationARNs": [],
            "AWS::StackId": self.stack_id(stack.name),
        }
        given = {**stack.parameters, **given}
        try:
            found = await asyncio.to_thread(parameters.values, stack.template, given, self._ssm_value)
        except (DeployError, Unsupported) as fault:
            raise type(fault)(f"stack {stack.name}: {fault}") from None
        return Resolver(stack.template, pseudo, found, deployed.resources, self._ssm_value)

    def _ssm_value(self, name: str) -> str:
        return self._services.ssm_value(name)

    async def properties(self, stack: Stack, logical_id: str, resolver: Resolver) -> dict[str, Any]:
        """A resource's properties, resolved."""
        entry = stack.resources[logical_id]
        with _located(stack.where(logical_id)):
            found: dict[str, Any] = await asyncio.to_thread(resolver.resolve, entry.get("Properties", {}))
            return found

    def context(self, stack: Stack, logical_id: str) -> Context:
        """What the applier of a resource may use."""

        def code(key: str) -> Path:
            if key not in stack.assets:
                raise DeployError(f"Code.S3Key {key} is not among the assets of {stack.name}")
            return stack.assets[key]

        if stack.name not in self._providers:
            self._providers[stack.name] = template_check.emulated_providers(stack)
        return Context(self._services, stack.name, logical_id, code, self._providers[stack.name])

    async def create(self, stack: Stack, logical_id: str, properties: dict[str, Any]) -> Resource:
        """Make one resource; a fault carries where."""
        entry = stack.resources[logical_id]
        kind, where = entry["Type"], stack.where(logical_id)
        with _located(where):
            applied = await REGISTRY[kind].apply(properties, self.context(stack, logical_id))
        log.debug("%s: created %s", where, applied.ref)
        return Resource(where, logical_id, kind, applied, entry.get("DeletionPolicy", "Delete"), properties)

    def put(self, deployed: DeployedStack, given: dict[str, str]) -> None:
        """A stack was updated to these parameters (stack_update.py)."""
        self.stacks[deployed.name], self._given[deployed.name] = deployed, dict(given)

    def resolve_outputs(self, stack: Stack, resolver: Resolver) -> dict[str, str]:
        """The values of a stack's outputs."""
        outputs = {}
        for name, entry in stack.template.get("Outputs", {}).items():
            if "Condition" in entry and not resolver.condition(entry["Condition"]):
                continue
            try:
                outputs[name] = str(resolver.resolve(entry["Value"]))
            except (DeployError, Unsupported) as fault:
                raise type(fault)(f"stack {stack.name}, output {name}: {fault}") from None
        return outputs

    async def _roll_back(self, deployed: DeployedStack) -> None:
        for resource in reversed(deployed.resources.values()):
            if resource.deletion_policy == "Retain":
                log.warning("rolling back: %s is retained as %s", resource.where, resource.ref)
                continue
            try:
                await resource.applied.delete()
            except REFUSALS as fault:
                log.error("rolling back %s: %s", resource.where, fault)

    async def destroy(self) -> list[Resource]:
        """Delete everything in reverse order; returns what its DeletionPolicy retains.

        DeployError names the first resource that cannot be deleted; the rest stays, and a further call goes on.
        """
        kept: list[Resource] = []
        for name in reversed(list(self.stacks)):
            stack = self.stacks[name]
            for logical_id in reversed(list(stack.resources)):
                resource = stack.resources[logical_id]
                if resource.deletion_policy != "Delete":
                    kept.append(resource)
                else:
                    await self._delete(resource)
                del stack.resources[logical_id]
            del self.stacks[name]
        return kept

    async def _delete(self, resource: Resource) -> None:
        try:
            await resource.applied.delete()
        except REFUSALS as fault:
            raise DeployError(f"{resource.where}: {fault}") from fault

    def outputs(self) -> dict[str, dict[str, str]]:
        """Output values by stack and name."""
        return {name: dict(stack.outputs) for name, stack in self.stacks.items()}

    def physical_names(self) -> dict[str, dict[str, str]]:
        """What Ref gives, by stack and logical id."""
        return {
            name: {logical_id: resource.ref for logical_id, resource in stack.resources.items()}
            for name, stack in self.stacks.items()
        }

    def not_emulated(self) -> dict[str, int]:
        """Properties in use that are accepted but not emulated (`type.property`, how often); tags aside."""
        found: dict[str, int] = {}
        for stack in self._assembly.stacks:
            deployed = self.stacks[stack.name].resources if stack.name in self.stacks else {}
            for logical_id, resource in deployed.items():
                given = stack.resources[logical_id].get("Properties", {})
                for name in set(given) & set(REGISTRY[resource.kind].stated) - {"Tags"}:
                    key = f"{resource.kind}.{name}"
                    found[key] = found.get(key, 0) + 1
        return dict(sorted(found.items()))

    def applied_count(self) -> int:
        """How many resources are deployed."""
        return sum(len(stack.resources) for stack in self.stacks.values())
