"""AWS IoT policies: a template's policy documents become decisions on connect, publish, subscribe and receive.

Evaluated as AWS documents it: policy variables filled from the connection, `*` and `?` as the only wildcards, an
explicit Deny over any Allow, everything else denied. What this file does not know stops the start with PolicyError.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_DOCUMENT = 2048  # characters without white space
ALLOWED, EXPLICIT_DENY, IMPLICIT_DENY = "allowed", "explicit deny", "implicit deny"

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_KNOWN_KEYS = re.compile(
    r"iot:(ClientId|DomainName|CertificateId|ConnectAttributes|LastWillTopic"
    r"|Connection\.Thing\.(ThingName|ThingTypeName|IsAttached|Attributes\[[^]]+\]))\Z|aws:SourceIp\Z")
_STATEMENT_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}


class PolicyError(ValueError):
    """A policy document that AWS would refuse, or that uses what the local cloud does not evaluate."""


Context = Mapping[str, "str | tuple[str, ...]"]  # values by condition key; a missing key is absent


def _matches(pattern: str, value: str, context: Context | None, ignore_case: bool = False) -> bool:
    """Whether the value fits a pattern with `*`, `?` and variables; a variable without a value fits nothing."""
    expression, position = "", 0
    for variable in _VARIABLE.finditer(pattern):
        expression += _wildcards(pattern[position:variable.start()])
        position = variable.end()
        if variable[1] in ("*", "?", "$"):
            expression += re.escape(variable[1])
            continue
        filled = (context or {}).get(variable[1])
        if not isinstance(filled, str):
            return False
        expression += re.escape(filled)  # a client id with a `*` in it is that character, not a wildcard
    expression += _wildcards(pattern[position:])
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


def _wildcards(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _literal(pattern: str, context: Context) -> str | None:
    """A condition's value with its variables filled, None where one has no value."""
    missing = [name for name in _VARIABLE.findall(pattern) if not isinstance(context.get(name), str)]
    return None if missing else _VARIABLE.sub(lambda found: str(context[found[1]]), pattern)


def _equals(pattern: str, value: str, context: Context) -> bool:
    return _literal(pattern, context) == value


def _equals_ignoring_case(pattern: str, value: str, context: Context) -> bool:
    literal = _literal(pattern, context)
    return literal is not None and literal.casefold() == value.casefold()


def _in_network(pattern: str, value: str, context: Context) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(pattern, strict=False)


Test = Callable[[str, str, Context], bool]
# Operator: (its test, whether it is negated).
_OPERATORS: dict[str, tuple[Test, bool]] = {
    "StringEquals": (_equals, False), "StringNotEquals": (_equals, True),
    "StringEqualsIgnoreCase": (_equals_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equals_ignoring_case, True),
    "StringLike": (_matches, False), "StringNotLike": (_matches, True),
    "ArnEquals": (_matches, False), "ArnNotEquals": (_matches, True),
    "ArnLike": (_matches, False), "ArnNotLike": (_matches, True),
    "Bool": (_equals_ignoring_case, False),
    "IpAddress": (_in_network, False), "NotIpAddress": (_in_network, True),
}


@dataclass(frozen=True)
class Condition:
    """One key under one operator; `quantifier` is ForAllValues, ForAnyValue or empty."""

    quantifier: str
    operator: str
    if_exists: bool
    key: str
    values: tuple[str, ...]

    def holds(self, context: Context) -> bool:
        """Whether the connection meets it."""
        found = context.get(self.key)
        test, negated = _OPERATORS[self.operator]
        if found is None:
            return negated or self.if_exists or self.quantifier == "ForAllValues"
        present = (found,) if isinstance(found, str) else found
        fits = (negated != any(test(one, value, context) for one in self.values) for value in present)
        # A plain operator on a key with several values (iot:ConnectAttributes) asks it of all of them.
        return any(fits) if self.quantifier == "ForAnyValue" else all(fits)


@dataclass(frozen=True)
class Statement:
    """One statement: what it says about which actions on which resources, under which conditions."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def applies(self, action: str, resource: str, context: Context) -> bool:
        """Whether it speaks of this request."""
        return (any(_matches(one, action, None, ignore_case=True) for one in self.actions)
                and any(_matches(one, resource, context) for one in self.resources)
                and all(one.holds(context) for one in self.conditions))


def evaluate(statements: Iterable[Statement], action: str, resource: str, context: Context) -> str:
    """ALLOWED, EXPLICIT_DENY or IMPLICIT_DENY for an action (`iot:Publish`) on a resource's ARN."""
    decision = IMPLICIT_DENY
    for statement in statements:
        if statement.applies(action, resource, context):
            if statement.effect == "Deny":
                return EXPLICIT_DENY
            decision = ALLOWED
    return decision


def parse(document: str | Mapping[str, Any]) -> tuple[Statement, ...]:
    """A policy document (JSON text or as parsed) as statements; raises PolicyError with what is wrong and where."""
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise PolicyError(f"policy document is not JSON: {error}") from error
    if not isinstance(parsed, dict) or "Statement" not in parsed:
        raise PolicyError("policy document has no Statement; an object with Version and Statement expected")
    size = len(re.sub(r"\s", "", text))
    if size > LONGEST_DOCUMENT:
        raise PolicyError(f"policy document has {size} characters without white space; at most {LONGEST_DOCUMENT}")
    if unknown := set(parsed) - {"Version", "Id", "Statement"}:
        raise PolicyError(f"policy document has unknown elements: {', '.join(sorted(unknown))}")
    listed = parsed["Statement"]
    return tuple(_statement(one, number) for number, one in
                 enumerate(listed if isinstance(listed, list) else [listed], 1))


def _statement(raw: Any, number: int) -> Statement:
    where = f"policy statement {number}"
    if not isinstance(raw, dict):
        raise PolicyError(f"{where} is not an object")
    if unknown := set(raw) - _STATEMENT_ELEMENTS:
        raise PolicyError(f"{where}: {', '.join(sorted(unknown))} is not evaluated here; use Effect, Action, Resource "
                          "and Condition")
    if raw.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"{where}: Effect is {raw.get('Effect')!r}; Allow or Deny expected")
    actions = _texts(raw.get("Action"), f"{where}: Action")
    resources = _texts(raw.get("Resource"), f"{where}: Resource")
    for pattern in resources:
        for variable in _VARIABLE.findall(pattern):
            _check_variable(variable, where)
    if not isinstance(raw.get("Condition", {}), dict):
        raise PolicyError(f"{where}: Condition is {raw['Condition']!r}; an object of operators expected")
    conditions = tuple(condition for operator, tests in raw.get("Condition", {}).items()
                       for condition in _conditions(operator, tests, where))
    return Statement(raw["Effect"], actions, resources, conditions)


def _texts(raw: Any, where: str) -> tuple[str, ...]:
    listed = raw if isinstance(raw, list) else [raw]
    if not listed or not all(isinstance(one, str) for one in listed):
        raise PolicyError(f"{where} is {raw!r}; a string or a list of strings expected")
    return tuple(listed)


def _check_variable(name: str, where: str) -> None:
    if name not in ("*", "?", "$") and not _KNOWN_KEYS.match(name):
        raise PolicyError(f"{where}: policy variable {name!r} is not known here")


def _conditions(raw_operator: str, tests: Any, where: str) -> Iterable[Condition]:
    quantifier, _, operator = raw_operator.rpartition(":")
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    if operator not in _OPERATORS or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise PolicyError(f"{where}: condition operator {raw_operator!r} is not evaluated here; known: "
                          f"{', '.join(sorted(_OPERATORS))}")
    if not isinstance(tests, dict):
        raise PolicyError(f"{where}: {raw_operator} is {tests!r}; an object of condition keys expected")
    for key, raw in tests.items():
        if not _KNOWN_KEYS.match(key):
            raise PolicyError(f"{where}: condition key {key!r} is not known here")
        if operator.endswith("IpAddress") and key != "aws:SourceIp":
            raise PolicyError(f"{where}: {operator} is for aws:SourceIp, got {key!r}; compare that as a string")
        listed = raw if isinstance(raw, list) else [raw]
        values = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in listed)
        for value in values:
            for variable in _VARIABLE.findall(value):
                _check_variable(variable, where)
            if operator.endswith("IpAddress"):
                _check_network(value, where)
        yield Condition(quantifier, operator, if_exists, key, values)


def _check_network(value: str, where: str) -> None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise PolicyError(f"{where}: {value!r} is no IP address or network") from error
