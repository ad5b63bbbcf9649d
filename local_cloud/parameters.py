"""A stack's parameters: `--parameter` options, the assembly's own values and defaults in, checked values out."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_cloud.errors import DeployError, Unsupported

SSM_TYPE = "AWS::SSM::Parameter::Value<"
Given = dict[str, dict[str, str]]


def parse_options(options: list[str]) -> Given:
    """`STACK:NAME=VALUE` or `STACK:NAME=@FILE` as {stack: {name: value}}; DeployError for anything else."""
    given: Given = {}
    for option in options:
        target, equals, value = option.partition("=")
        stack, colon, name = target.partition(":")
        if not (equals and colon and stack and name):
            raise DeployError(f"--parameter {option!r}: expected STACK:NAME=VALUE or STACK:NAME=@FILE")
        if value.startswith("@"):
            try:
                value = Path(value[1:]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as fault:
                raise DeployError(f"--parameter {target}: cannot read {value[1:]}: {fault}") from None
        given.setdefault(stack, {})[name] = value
    return given


def values(template: dict[str, Any], given: dict[str, str], ssm_value: Callable[[str], str]) -> dict[str, Any]:
    """Every parameter's value; DeployError names the ones that are unknown, missing or against their constraints."""
    declared = template.get("Parameters", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise DeployError(
            f"parameter {unknown[0]} is not declared; declared: {', '.join(sorted(declared)) or 'none'}"
        )
    found = {}
    for name, declaration in declared.items():
        raw = given.get(name, declaration.get("Default"))
        if raw is None:
            raise DeployError(f"parameter {name} has no value; give --parameter STACK:{name}=VALUE")
        found[name] = _typed(name, declaration, str(raw), ssm_value)
    return found


def _typed(name: str, declaration: dict[str, Any], raw: str, ssm_value: Callable[[str], str]) -> Any:
    kind = declaration["Type"]
    if kind == "Number" and not re.fullmatch(r"[+-]?\d+(\.\d+)?", raw):
        raise DeployError(f"parameter {name}: {raw!r} is not a number")
    _check(name, declaration, raw)
    if kind.startswith(SSM_TYPE):
        text = ssm_value(raw)
        return text.split(",") if kind.removeprefix(SSM_TYPE).startswith("List<") else text
    if kind in ("String", "Number"):
        return raw
    if kind in ("CommaDelimitedList", "List<Number>"):
        return [item.strip() for item in raw.split(",")]
    raise Unsupported(f"parameter {name}: type {kind} is not emulated; use String")


def _check(name: str, declaration: dict[str, Any], raw: str) -> None:
    allowed = declaration.get("AllowedValues")
    pattern = declaration.get("AllowedPattern")
    if allowed is not None and raw not in [str(value) for value in allowed]:
        fault = f"{raw!r} is not one of {allowed}"
    elif pattern is not None and not re.fullmatch(pattern, raw):
        fault = f"{raw[:80]!r} does not match {pattern}"
    elif not int(declaration.get("MinLength", 0)) <= len(raw) <= int(declaration.get("MaxLength", len(raw))):
        longest = declaration.get("MaxLength", "any number")
        fault = f"{len(raw)} characters, expected {declaration.get('MinLength', 0)} to {longest}"
    elif "MinValue" in declaration and float(raw) < float(declaration["MinValue"]):
        fault = f"{raw} is below {declaration['MinValue']}"
    elif "MaxValue" in declaration and float(raw) > float(declaration["MaxValue"]):
        fault = f"{raw} is above {declaration['MaxValue']}"
    else:
        return
    raise DeployError(f"parameter {name}: {fault}")
