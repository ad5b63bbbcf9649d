"""The registry of resource types: a template's (type, properties) comes in, the function that applies it goes out.

Each type states per property what is honoured, what is accepted but not emulated (and why), and what is refused; any
other property refuses the start. coverage.py writes these statements into COVERAGE.md.
"""

import secrets
import string
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from local_cloud.errors import DeployError

Properties = dict[str, Any]
EMULATED, MOTO, STORED = "emulated", "moto", "stored"
TAGS = {"Tags": "kept in the template only; nothing local reads tags"}
IAM_NOTE = "resource policies and permissions are kept, not enforced; roles are (AWS::IAM::Role)"


async def nothing_to_delete() -> None:
    """For resources that vanish with what they belong to."""


@dataclass(frozen=True)
class Applied:
    """What became of a resource: its Ref, its Fn::GetAtt values, its name, and how to delete it again."""

    ref: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    delete: Callable[[], Awaitable[None]] = nothing_to_delete


class Services(Protocol):
    """What appliers reach: the emulated services (queues, firehose, functions, rules, registry, …) and moto."""

    region: str
    account_id: str
    queues: Any
    firehose: Any
    functions: Any
    rules: Any
    registry: Any
    pki: Any
    apis: dict[str, Any]
    pollers: dict[str, Any]
    subscriptions: Any
    alarms: Any
    schedules: Any
    swept_buckets: set[str]
    iam: Any
    header_policies: dict[str, dict[str, str]]
    addresses: Any

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]: ...
    def ssm_value(self, name: str) -> str: ...
    async def open_api(self, api_id: str, properties: Properties) -> None: ...
    async def close_api(self, api_id: str) -> None: ...
    async def open_site(self, site_id: str, aws_url: str, site: Any) -> None: ...
    async def close_site(self, site_id: str) -> None: ...
    async def add_poller(self, mapping_id: str, properties: Properties) -> None: ...
    async def remove_poller(self, mapping_id: str) -> None: ...


@dataclass(frozen=True)
class Context:
    """One resource being applied: where it stands, and the services it may use."""

    services: Services
    stack: str
    logical_id: str
    code: Callable[[str], Path]
    emulated_providers: frozenset[str] = frozenset()

    @property
    def region(self) -> str:
        return self.services.region

    @property
    def account_id(self) -> str:
        return self.services.account_id

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """One AWS API call at moto, in a thread; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return await self.services.call(service, operation, **given)

    def name(self, properties: Properties, key: str, limit: int, *, lower: bool = False) -> str:
        """The name that the template gives, else one made as CloudFormation makes them."""
        given = properties.get(key)
        return str(given) if given else physical_name(self.stack, self.logical_id, limit, lower=lower)

    def arn(self, service: str, rest: str, *, regional: bool = True) -> str:
        """An ARN of this account and region."""
        return f"arn:aws:{service}:{self.region if regional else ''}:{self.account_id}:{rest}"


Apply = Callable[[Properties, Context], Awaitable[Applied]]
Update = Callable[[str, Properties, Context], Awaitable[None]]


@dataclass(frozen=True)
class ResourceType:
    """One row of the registry. `attributes` None means any (custom resources).

    When a stack is updated: a change of a property in `replaced` makes the resource anew, `update(ref, properties,
    context)` brings the other honoured ones to their new values; without `update` they cannot change.
    """

    name: str
    apply: Apply
    backing: str
    note: str
    attributes: frozenset[str] | None
    honoured: frozenset[str]
    stated: Mapping[str, str]
    refused: Mapping[str, str]
    replaced: frozenset[str] = frozenset()
    update: Update | None = None

    def faults(self, properties: Any) -> list[str]:
        """Why these (unresolved) properties cannot be run, one line each."""
        if not isinstance(properties, dict):
            return [f"Properties is {type(properties).__name__}, expected an object"]
        return [self._fault(name) for name in properties if name not in self.honoured and name not in self.stated]

    def _fault(self, name: str) -> str:
        if name in self.refused:
            return f"property {name}: {self.refused[name]}"
        return f"property {name}: not known to the local cloud for {self.name}; known: {', '.join(self.known())}"

    def known(self) -> list[str]:
        """Every property that passes."""
        return sorted({*self.honoured, *self.stated})


REGISTRY: dict[str, ResourceType] = {}


def resource(
    name: str,
    backing: str,
    *,
    attributes: str | None = "",
    honoured: str = "",
    note: str = "",
    stated: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    replaced: str = "",
    update: Update | None = None,
) -> Callable[[Apply], Apply]:
    """Register the applier of a type; `attributes`, `honoured` and `replaced` are space-separated names."""

    def register(apply: Apply) -> Apply:
        known = None if attributes is None else frozenset(attributes.split())
        REGISTRY[name] = ResourceType(
            name,
            apply,
            backing,
            note,
            known,
            frozenset(honoured.split()),
            dict(stated or {}),
            dict(refused or {}),
            frozenset(replaced.split()),
            update,
        )
        return apply

    return register


def physical_name(stack: str, logical_id: str, limit: int, *, lower: bool = False) -> str:
    """`stack-logicalid-RANDOM` within `limit` characters; the random end always stays whole."""
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    room = limit - len(suffix) - 2
    stack_part = stack[: max(room - len(logical_id), room // 2)]
    name = f"{stack_part}-{logical_id[: room - len(stack_part)]}-{suffix}"
    return name.lower() if lower else name


def require(properties: Properties, name: str) -> Any:
    """A property that must be there."""
    if name not in properties:
        raise DeployError(f"property {name} is missing")
    return properties[name]
