"""IAM policy documents: a template's identity and trust policies become statements that allow or deny a request.

As AWS evaluates them: an explicit Deny over any Allow, everything else denied; `*` and `?` the only wildcards, actions
without regard to case. What this file does not know stops the start with Unsupported.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError, Unsupported

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
# Operator: whether * and ? are wildcards in its values. A key that the request lacks meets none of them.
OPERATORS = {"StringEquals": False, "StringLike": True, "ArnEquals": True, "ArnLike": True, "Bool": False}


@functools.lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether the text fits the pattern."""
    return _expression(pattern).fullmatch(text) is not None


def _listed(value: Any, where: str) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(one, str) for one in found):
        raise DeployError(f"{where}: got {value!r}, expected a string or a list of strings")
    return tuple(found)


@dataclass(frozen=True)
class Statement:
    """One statement; `services` are the principals of a trust policy's, `conditions` (operator, key, values)."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    services: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]

    def speaks_of(self, action: str, resource: str, context: Mapping[str, str]) -> bool:
        """Whether it says something of this request. context: condition keys with their values."""
        return (any(matches(one.lower(), action.lower()) for one in self.actions)
                and any(matches(one, resource) for one in self.resources)
                and all(self._holds(*condition, context) for condition in self.conditions))

    @staticmethod
    def _holds(operator: str, key: str, values: tuple[str, ...], context: Mapping[str, str]) -> bool:
        found = context.get(key)
        if found is None:
            return False
        return any(matches(one, found) if OPERATORS[operator] else one == found for one in values)


def parse(document: Any, where: str, trust: bool = False) -> tuple[Statement, ...]:
    """The statements of a policy document. trust: of a role's AssumeRolePolicyDocument, which names no resource."""
    if not isinstance(document, Mapping) or "Statement" not in document:
        raise DeployError(f"{where}: got {document!r:.80}, expected an object with Version and Statement")
    raw = document["Statement"]
    return tuple(_statement(one, where, trust) for one in (raw if isinstance(raw, list) else [raw]))


def _statement(raw: Any, where: str, trust: bool) -> Statement:
    if not isinstance(raw, Mapping):
        raise DeployError(f"{where}: statement {raw!r}, expected an object")
    if unknown := sorted(set(raw) - ELEMENTS):
        raise Unsupported(f"{where}: {', '.join(unknown)} is not evaluated here; write it with Action and Resource")
    if raw.get("Effect") not in ("Allow", "Deny"):
        raise DeployError(f"{where}: Effect is {raw.get('Effect')!r}, expected Allow or Deny")
    if not trust and "Resource" not in raw:
        raise DeployError(f"{where}: a statement has no Resource")
    conditions = []
    for operator, tests in _members(raw.get("Condition", {}), f"{where}: Condition"):
        if operator not in OPERATORS:
            raise Unsupported(f"{where}: condition operator {operator} is not evaluated here; known: "
                              f"{', '.join(OPERATORS)}")
        conditions += [(operator, key, _listed(_texts(values), f"{where}: {key}"))
                       for key, values in _members(tests, f"{where}: {operator}")]
    principal = raw.get("Principal", {})
    services = principal.get("Service", ()) if isinstance(principal, Mapping) else ()
    return Statement(
        raw["Effect"], _listed(raw.get("Action"), f"{where}: Action"),
        ("*",) if trust else _listed(raw["Resource"], f"{where}: Resource"),
        _listed(services, f"{where}: Principal.Service") if services else (), tuple(conditions))


def _members(value: Any, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise DeployError(f"{where}: got {value!r}, expected an object")
    return value.items()


def _texts(values: Any) -> Any:
    """Condition values, of which booleans may come as such."""
    found = values if isinstance(values, list) else [values]
    return [str(one).lower() if isinstance(one, bool) else one for one in found]


def allowed(statements: Iterable[Statement], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether one of the statements allows the request and none denies it."""
    effects = {one.effect for one in statements if one.speaks_of(action, resource, context)}
    return effects == {"Allow"}
