"""A deployed stack and new parameters in; what they change is created, changed in place, replaced or deleted.

As CloudFormation does it: first everything new, then the outputs, at last the deletions; a fault before the deletions
takes back what was done. The template itself stays: another one is another start of the local cloud.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from local_cloud.assembly import Stack
from local_cloud.deployer import REFUSALS, DeployedStack, Deployer, Resource, creation_order, wanted
from local_cloud.errors import DeployError, Unsupported
from local_cloud.intrinsics import Resolver
from local_cloud.resources import REGISTRY

log = logging.getLogger(__name__)

Undo = Callable[[], Awaitable[None]]


async def update(deployer: Deployer, name: str, given: dict[str, str]) -> bool:
    """Bring a deployed stack to these parameters; False when they change nothing.

    Raises DeployError or Unsupported, and then the stack is as it was.
    """
    stack, before, after = deployer.stack(name), deployer.stacks[name], DeployedStack(name)
    after.created_at_s = before.created_at_s
    resolver = await deployer.resolver(stack, after, given)
    undo: list[Undo] = []
    try:
        for logical_id in creation_order(stack, wanted(stack, resolver)):
            old = before.resources.get(logical_id)
            after.resources[logical_id] = await _brought(deployer, stack, logical_id, resolver, old, undo)
        after.outputs = await asyncio.to_thread(deployer.resolve_outputs, stack, resolver)
    except BaseException:
        for step in reversed(undo):
            await _take_back(name, step)
        raise
    kept = {id(resource.applied) for resource in after.resources.values()}
    gone = [resource for resource in reversed(before.resources.values()) if id(resource.applied) not in kept]
    deployer.put(after, given)
    for resource in gone:
        await _clean_up(resource)
    return bool(undo or gone)


async def _brought(
    deployer: Deployer, stack: Stack, logical_id: str, resolver: Resolver, old: Resource | None, undo: list[Undo]
) -> Resource:
    """One resource as the new parameters want it; `undo` gets what would take the change back."""
    properties = await deployer.properties(stack, logical_id, resolver)
    if old is not None and old.properties == properties:
        return old
    if old is not None and not _differing(old, properties) & REGISTRY[old.kind].replaced:
        return await _changed(deployer, stack, old, properties, undo)
    made = await deployer.create(stack, logical_id, properties)
    undo.append(made.applied.delete)
    return made


def _differing(old: Resource, properties: dict[str, Any]) -> set[str]:
    return {name for name in {*old.properties, *properties} if old.properties.get(name) != properties.get(name)}


async def _changed(
    deployer: Deployer, stack: Stack, old: Resource, properties: dict[str, Any], undo: list[Undo]
) -> Resource:
    """The same resource with other properties."""
    change, context = REGISTRY[old.kind].update, deployer.context(stack, old.logical_id)
    if change is None:
        names = ", ".join(sorted(_differing(old, properties)))
        raise Unsupported(
            f"{old.where}: changing {names} of a deployed resource is not emulated; start the local cloud anew"
        )
    before = old.properties
    try:
        await change(old.ref, properties, context)
    except (DeployError, Unsupported) as fault:
        raise type(fault)(f"{old.where}: {fault}") from None
    undo.append(lambda: change(old.ref, before, context))
    return Resource(old.where, old.logical_id, old.kind, old.applied, old.deletion_policy, properties)


async def _take_back(name: str, step: Undo) -> None:
    try:
        await step()
    except REFUSALS as fault:
        log.error("stack %s: rolling back: %s", name, fault)


async def _clean_up(resource: Resource) -> None:
    """Delete what the update left over; as on AWS, a fault here does not fail the update: the resource stays behind."""
    if resource.deletion_policy != "Delete":
        log.warning("updating: %s is retained as %s", resource.where, resource.ref)
        return
    try:
        await resource.applied.delete()
    except REFUSALS as fault:
        log.error("updating: %s could not be deleted and stays behind: %s", resource.where, fault)
