"""Event filter patterns (FilterCriteria of an event source mapping): records in, keep or drop out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from local_cloud.errors import Unsupported

Test = Callable[[Any], bool]
_MISSING = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}


def compile_criteria(criteria: Mapping[str, Any]) -> Test | None:
    """The test that a record passes when any pattern of {"Filters": [{"Pattern": JSON}]} matches; None without any."""
    patterns = [_compile(json.loads(entry["Pattern"])) for entry in criteria.get("Filters", [])]
    if not patterns:
        return None
    return lambda record: any(pattern(record) for pattern in patterns)


def _compile(pattern: Any) -> Test:
    if not isinstance(pattern, Mapping):
        raise Unsupported(f"FilterCriteria: a pattern is a JSON object, got {json.dumps(pattern)}")
    either = _compile_either(pattern["$or"]) if "$or" in pattern else None
    fields = [(name, _compile_values(rule) if isinstance(rule, list) else _compile(rule))
              for name, rule in pattern.items() if name != "$or"]

    def matches(record: Any) -> bool:
        if not isinstance(record, Mapping):
            record = {}
        return all(test(record.get(name, _MISSING)) for name, test in fields) and (either is None or either(record))

    return matches


def _compile_either(patterns: Any) -> Test:
    if not isinstance(patterns, list):
        raise Unsupported(f"FilterCriteria: $or takes a list of patterns, got {json.dumps(patterns)}")
    tests = [_compile(pattern) for pattern in patterns]
    return lambda record: any(test(record) for test in tests)


def _compile_values(rules: list[Any]) -> Test:
    tests = [_compile_rule(rule) for rule in rules]

    def matches(value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        return any(test(each) for each in values for test in tests)

    return matches


def _compile_rule(rule: Any) -> Test:
    if not isinstance(rule, Mapping):
        return lambda value: value is not _MISSING and type(value) is type(rule) and value == rule
    if len(rule) != 1:
        raise Unsupported(f"FilterCriteria: one comparison is expected, got {json.dumps(rule)}")
    ((name, wanted),) = rule.items()
    if name == "exists":
        return lambda value: (value is not _MISSING) is wanted
    if name == "prefix" and isinstance(wanted, str):
        return lambda value: isinstance(value, str) and value.startswith(wanted)
    if name == "suffix" and isinstance(wanted, str):
        return lambda value: isinstance(value, str) and value.endswith(wanted)
    if name == "anything-but" and not isinstance(wanted, Mapping):
        excluded = wanted if isinstance(wanted, list) else [wanted]
        return lambda value: value is not _MISSING and value not in excluded
    if name == "numeric":
        return _numeric(wanted)
    raise Unsupported(f"FilterCriteria: the comparison {json.dumps(rule)} is not emulated; "
                      "exists, prefix, suffix, anything-but, numeric and plain values are")


def _numeric(wanted: list[Any]) -> Test:
    pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
    if not pairs or any(sign not in _COMPARE for sign, _ in pairs):
        raise Unsupported(f"FilterCriteria: numeric takes =, <, <=, >, >= with numbers, got {json.dumps(wanted)}")

    def matches(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return all(_COMPARE[sign](value, bound) for sign, bound in pairs)

    return matches
