"""What an expression can see while it is evaluated: the message, or one element inside a nested SELECT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_cloud.rule_sql.message import Message
from local_cloud.rule_sql.values import UNDEFINED


class Scope:
    """The document or element that names refer to, its alias, the scope around it, and the SET variables."""

    __slots__ = ("alias", "message", "outer", "value", "variables")

    def __init__(
        self,
        message: Message,
        value: Any,
        variables: dict[str, Any],
        *,
        alias: str | None = None,
        outer: Scope | None = None,
    ) -> None:
        self.message = message
        self.value = value
        self.variables = variables
        self.alias = alias
        self.outer = outer

    def lookup(self, name: str) -> Any:
        """The field or alias of that name in this scope, else in the scopes around it, else UNDEFINED."""
        scope: Scope | None = self
        while scope is not None:
            if name == scope.alias:
                return scope.value
            value = scope.value
            if type(value) is dict and name in value:
                return value[name]
            scope = scope.outer
        return UNDEFINED

    def whole(self) -> Any:
        """What `*` stands for: the document or element; a payload that is no object or array as its bytes."""
        return self.message.payload if self.value is UNDEFINED else self.value

    def raw(self) -> Any:
        """What encode(*, …) takes: the payload byte for byte; inside a nested SELECT the element."""
        return self.message.payload if self.outer is None else self.value


Evaluator = Callable[[Scope], Any]  # a compiled expression
