"""Templates for the tests: synthesized once for each context in a process, and read in a way that a test can state."""
import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from infra.nodejs import use_nodejs

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Storage", "Ingest", "Web", "Api", "Device", "Monitoring")
ACCOUNT = "123456789012"
CERTIFICATE = f"arn:aws:iot:eu-north-1:{ACCOUNT}:cert/{'0123456789abcdef' * 4}"
EXISTING = (("existing_thing", "EdgeCloudAWS"), ("certificate_arn", CERTIFICATE))
_folders: list[tempfile.TemporaryDirectory[str]] = []  # each goes when the process ends

Context = tuple[tuple[str, str], ...]
Template = dict[str, Any]


def flags() -> dict[str, Any]:
    """The context of cdk.json."""
    return dict(json.loads((ROOT / "cdk.json").read_text())["context"])


@cache
def assembly(*context: tuple[str, str]) -> Path:
    """The folder of the cloud assembly for a context; leave it as it is, others read it too."""
    os.environ.pop("CDK_CONTEXT_JSON", None)  # a developer's own choice must not change what the tests see
    use_nodejs()
    from infra.deployment import build

    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="assembly-")
    _folders.append(folder)
    build({**flags(), **dict(context)}, folder.name).synth()
    return Path(folder.name)


def template(part: str, *context: tuple[str, str], title: str = "EdgeCloud") -> Template:
    """A stack's template: part is one of PARTS, title what its deployment's stack names begin with."""
    return dict(json.loads((assembly(*context) / f"{title}{part}.template.json").read_text()))


def templates(*context: tuple[str, str], title: str = "EdgeCloud") -> dict[str, Template]:
    """All of them by part."""
    return {part: template(part, *context, title=title) for part in PARTS}


def resources(found: Template, kind: str) -> dict[str, dict[str, Any]]:
    """{logical id: resource} of one type, such as AWS::SQS::Queue."""
    return {name: resource for name, resource in found["Resources"].items() if resource["Type"] == kind}


def properties(found: Template, logical_id: str) -> dict[str, Any]:
    """A resource's properties by its logical id, with or without CDK's hash at the end."""
    names = [name for name in found["Resources"] if name == logical_id or name[:-8] == logical_id]
    assert len(names) == 1, f"{logical_id}: got {names}, expected one of {sorted(found['Resources'])}"
    return dict(found["Resources"][names[0]]["Properties"])


def text(node: Any) -> str:
    """A string of a template, its references written <LogicalId> or <LogicalId.Attribute>, without CDK's hashes."""
    if isinstance(node, str):
        return node
    (function, argument), = node.items()
    if function == "Fn::Join":
        return str(argument[0]).join(map(text, argument[1]))
    if function == "Ref":
        return ACCOUNT if argument == "AWS::AccountId" else f"<{_plain(argument)}>"
    assert function == "Fn::GetAtt", f"{function}: no string in these templates should need it"
    return f"<{_plain(argument[0])}.{argument[1]}>"


def _plain(logical_id: str) -> str:
    tail = logical_id[-8:]
    return logical_id[:-8] if len(tail) == 8 and set(tail) <= set("0123456789ABCDEF") else logical_id


def statements(role: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(action, resource) of everything that a role's inline policies allow."""
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    yield action, text(resource)


def listed(value: Any) -> list[Any]:
    """A policy's value that may be one or a list, as a list."""
    return value if isinstance(value, list) else [value]
