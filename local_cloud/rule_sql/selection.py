"""The inside of SELECT: items and aliases to output, and nested SELECTs over arrays and objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lark import Tree

from local_cloud.rule_sql.parser import Node
from local_cloud.rule_sql.scope import Evaluator, Scope
from local_cloud.rule_sql.values import UNDEFINED, to_boolean

if TYPE_CHECKING:
    from local_cloud.rule_sql.compiler import Compiler


@dataclass
class Rows:
    """What a nested SELECT found: its results, and whether it went over an array or one object."""

    values: list[Any]
    from_array: bool


def compile_where(compiler: Compiler, where: Node | None) -> Callable[[Scope], bool]:
    """Whether a scope passes; Undefined and false do not."""
    if where is None:
        return lambda scope: True
    [condition] = compiler.compile_all(where.children)
    return lambda scope: to_boolean(condition(scope)) is True


def compile_nested(compiler: Compiler, subquery: Node) -> Evaluator:
    """(SELECT …) as a value: an Array over an Array, one result over an Object, else Undefined."""
    rows_of = _compile_subquery(compiler, subquery)

    def nested(scope: Scope) -> Any:
        rows = rows_of(scope)
        if rows is None:
            return UNDEFINED
        if rows.from_array:
            return [value for value in rows.values if value is not UNDEFINED]
        return rows.values[0] if rows.values else UNDEFINED

    return nested


def compile_exists(compiler: Compiler, subquery: Node) -> Evaluator:
    """EXISTS (SELECT …): whether any row passes; false when there is nothing to select from."""
    rows_of = _compile_subquery(compiler, subquery)

    def exists(scope: Scope) -> bool:
        rows = rows_of(scope)
        return rows is not None and bool(rows.values)

    return exists


def _compile_subquery(compiler: Compiler, node: Node) -> Callable[[Scope], Rows | None]:
    """The rows of (SELECT … FROM array or object …); None when the source is neither."""
    projection, source, alias, where = node.children
    [source_of] = compiler.compile_all([source])
    project = compile_projection(compiler, projection)
    passes = compile_where(compiler, where)  # type: ignore[arg-type]
    name = None if alias is None else str(alias)

    def rows(scope: Scope) -> Rows | None:
        found = source_of(scope)
        if type(found) is not list and type(found) is not dict:
            return None
        elements = found if type(found) is list else [found]
        inner = [Scope(scope.message, e, scope.variables, alias=name, outer=scope) for e in elements]
        return Rows([project(one) for one in inner if passes(one)], type(found) is list)

    return rows


def compile_projection(compiler: Compiler, node: Any) -> Evaluator:
    """The output of a SELECT for a scope: the VALUE, or an object of its items."""
    if node.data == "value_of":
        [value] = compiler.compile_all(node.children)
        return value
    items = [_compile_item(compiler, item) for item in node.children]
    if len(items) == 1 and items[0].kind == "star":
        return Scope.whole
    return lambda scope: _build(items, scope)


@dataclass(frozen=True)
class _Item:
    """`kind` is star, merged (an object literal without a name) or named (placed at `path`)."""

    kind: str
    path: tuple[str, ...]
    evaluate: Evaluator


def _build(items: list[_Item], scope: Scope) -> Any:
    output: dict[str, Any] = {}
    for item in items:
        value = item.evaluate(scope)
        if item.kind == "named":
            if value is not UNDEFINED:
                _place(output, item.path, value)
        elif type(value) is dict:
            output.update(value)
        elif value != b"":
            # Nothing can be added to a payload that is not an object; only an empty one takes additions.
            return value
    return output


def _place(output: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        below = output.get(key)
        # A copy: what lies there may belong to the message, which other rules read too.
        output[key] = dict(below) if type(below) is dict else {}
        output = output[key]
    output[path[-1]] = value


def _compile_item(compiler: Compiler, item: Node) -> _Item:
    expression, alias = item.children
    assert isinstance(expression, Tree)
    [evaluate] = compiler.compile_all([expression])
    if isinstance(alias, Tree):
        return _Item("named", tuple(str(part) for part in alias.children), evaluate)
    if expression.data == "star":
        return _Item("star", (), evaluate)
    if expression.data == "object":
        return _Item("merged", (), evaluate)
    name = _own_name(expression)
    if name is None:
        raise compiler.fault(expression, "this item has no name; give it one with AS")
    return _Item("named", (name,), evaluate)


def _own_name(node: Node) -> str | None:
    """The name an item has without AS: a.b is b, @v is v, f(x) is f."""
    first = node.children[0] if node.children else None
    if node.data in ("group", "index") and isinstance(first, Tree):
        return _own_name(first)
    if node.data == "member":
        return str(node.children[1])
    if node.data in ("name", "variable", "call"):
        return str(first).lstrip("@")
    return None
