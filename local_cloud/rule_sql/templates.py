"""Substitution templates of rule actions: text with ${expression} parts, rendered for each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_cloud.rule_sql import parser
from local_cloud.rule_sql.compiler import Compiler
from local_cloud.rule_sql.errors import SqlError
from local_cloud.rule_sql.functions import Function
from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.scope import Evaluator, Scope
from local_cloud.rule_sql.values import UNDEFINED


class Template:
    """A compiled template; `variables` are the SET names of the rule's statement, `functions` what it may call.
    Raises SqlError."""

    def __init__(self, text: str, variables: set[str], functions: Mapping[str, Function]) -> None:
        self.text = text
        if "@{" in text:
            raise SqlError("template", text.index("@{") + 1, "@{field} works in InfluxDB actions only; use ${…}")
        self._parts: list[str | Evaluator] = []
        position = 0
        while (start := text.find("${", position)) >= 0:
            end = _closing_brace(text, start + 2)
            self._parts.append(text[position:start])
            self._parts.append(_compile(text[start + 2 : end], variables, functions, start + 2))
            position = end + 1
        self._parts.append(text[position:])

    def render(self, scope: Scope) -> str:
        """The text with every part's String; Undefined and Null become nothing."""
        return "".join(part if isinstance(part, str) else _as_text(part(scope)) for part in self._parts)


def _compile(expression: str, variables: set[str], functions: Mapping[str, Function], offset: int) -> Evaluator:
    try:
        tree = parser.parse_expression(expression, "template")
    except SqlError as fault:
        raise SqlError("template", fault.position + offset, fault.text) from None
    return Compiler(expression, variables, functions, "template", offset).compile(tree)


def _as_text(value: Any) -> str:
    text = to_string(value)
    return "" if text is UNDEFINED else str(text)


def _closing_brace(text: str, start: int) -> int:
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character in "'\"":
            position = _closing_quote(text, position)
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return position
        position += 1
    raise SqlError("template", start - 1, "this ${ is never closed; write ${expression}")


def _closing_quote(text: str, start: int) -> int:
    position = start + 1
    while position < len(text) and text[position] != text[start]:
        position += 2 if text[position] == "\\" else 1
    return position
