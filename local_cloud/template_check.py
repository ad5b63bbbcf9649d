"""Refuses a template before anything is created: every fault of every stack, with its logical id, in one list."""

from collections.abc import Iterator
from typing import Any

from local_cloud.assembly import Stack
from local_cloud.errors import DeployError
from local_cloud.intrinsics import CONDITION_FUNCTIONS, FUNCTIONS, intrinsic_of, references, refusal, walk
from local_cloud.resources import REGISTRY
from local_cloud.resources.custom import EMULATED_CUSTOM

SECTIONS = {
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
    "Rules",
}
RESOURCE_KEYS = {"Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata"}
DELETION_POLICIES = {"Delete", "Retain", "RetainExceptOnCreate"}


def faults_of(stack: Stack) -> list[str]:
    """Everything of a stack's template that the local cloud would not honour, one line each."""
    found = [f"stack {stack.name}: section {name} is not emulated" for name in stack.template if name not in SECTIONS]
    found += [
        f"stack {stack.name}: rule {name} is not emulated; only CheckBootstrapVersion is known"
        for name in stack.template.get("Rules", {})
        if name != "CheckBootstrapVersion"
    ]
    for logical_id, entry in stack.resources.items():
        found += [f"{stack.where(logical_id)}: {fault}" for fault in _resource_faults(stack, entry)]
    for name, entry in stack.template.get("Outputs", {}).items():
        if "Export" in entry:
            found.append(
                f"stack {stack.name}, output {name}: Export is not emulated; "
                "hand the value over as an SSM String parameter"
            )
        found += [f"stack {stack.name}, output {name}: {fault}" for fault in _node_faults(stack, entry.get("Value"))]
    return found + _condition_faults(stack)


def _condition_faults(stack: Stack) -> list[str]:
    known = {*FUNCTIONS, *CONDITION_FUNCTIONS}
    return [
        f"stack {stack.name}, condition {name}: {refusal(call[0])}"
        for name, body in stack.template.get("Conditions", {}).items()
        for call in map(intrinsic_of, walk(body))
        if call and call[0] not in known
    ]


def _resource_faults(stack: Stack, entry: dict[str, Any]) -> Iterator[str]:
    kind = REGISTRY.get(entry.get("Type", ""))
    if kind is None:
        yield _unknown_type(str(entry.get("Type")))
        return
    for key in entry:
        if key not in RESOURCE_KEYS:
            yield f"{key} is not emulated; take it out"
    if entry.get("DeletionPolicy", "Delete") not in DELETION_POLICIES:
        yield f"DeletionPolicy {entry['DeletionPolicy']!r} is not emulated; use Delete, Retain or RetainExceptOnCreate"
    properties = entry.get("Properties", {})
    yield from kind.faults(properties)
    yield from _node_faults(stack, properties)


def _unknown_type(name: str) -> str:
    if name.startswith("Custom::") or name == "AWS::CloudFormation::CustomResource":
        return (
            f"custom resources are not run; only {', '.join(EMULATED_CUSTOM)} is emulated. "
            "Use a plain resource instead (see local_cloud/COVERAGE.md)"
        )
    return (
        "unknown resource type; take it out for the local cloud (a `-c` context switch), or add an applier to "
        "local_cloud/resources/ (the known types are in local_cloud/COVERAGE.md)"
    )


def _node_faults(stack: Stack, node: Any) -> Iterator[str]:
    for one in walk(node):
        call = intrinsic_of(one)
        if call and call[0] not in FUNCTIONS:
            yield refusal(call[0])
    try:
        named = list(references(node))
    except DeployError as fault:
        yield str(fault)
        return
    for name, attribute in named:
        yield from _reference_faults(stack, name, attribute)


def _reference_faults(stack: Stack, name: str, attribute: str | None) -> Iterator[str]:
    if name.startswith("AWS::") or (attribute is None and name in stack.template.get("Parameters", {})):
        return
    entry = stack.resources.get(name)
    if entry is None:
        yield f"refers to {name!r}, which is neither a parameter nor a resource of this stack"
        return
    kind = REGISTRY.get(entry.get("Type", ""))
    if attribute and kind and kind.attributes is not None and attribute not in kind.attributes:
        yield (
            f"Fn::GetAtt {name}.{attribute}: unknown attribute of {kind.name}; "
            f"known: {', '.join(sorted(kind.attributes)) or 'none'}"
        )


def emulated_providers(stack: Stack) -> frozenset[str]:
    """Functions that only custom resources name which are emulated: they are not run (the CDK's own are Node)."""
    named_by: dict[str, set[str]] = {}
    for entry in stack.resources.values():
        for name, _ in references(entry.get("Properties", {})):
            named_by.setdefault(name, set()).add(str(entry.get("Type")))
    return frozenset(
        name
        for name, kinds in named_by.items()
        if kinds <= set(EMULATED_CUSTOM) and stack.resources.get(name, {}).get("Type") == "AWS::Lambda::Function"
    )
