"""Expressions of alarms: a Metrics Insights query, or arithmetic over other metrics' ids, compiled to a function of a
window. A subset of CloudWatch's language; what is not in it is refused when the alarm is made."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from local_cloud.errors import Unsupported
from local_cloud.metrics import MEASURED, Metrics

Window = Callable[[float, float], float | None]  # (from_s, to_s) -> the value, None without data

_QUERY = re.compile(
    r"""\s*SELECT\s+(?P<function>AVG|COUNT|MAX|MIN|SUM)\s*\(\s*"?(?P<name>[\w.]+)"?\s*\)
    \s+FROM\s+(?:SCHEMA\s*\(\s*"?(?P<schema>[^",)\s]+)"?(?P<keys>[^)]*)\)|"(?P<quoted>[^"]+)"|(?P<plain>\w+))
    (?:\s+WHERE\s+(?P<where>.+?))?\s*""", re.VERBOSE | re.IGNORECASE | re.DOTALL)
_EQUALS = re.compile(r"""\s*"?([\w.-]+)"?\s*=\s*'([^']*)'\s*""")
_STATISTIC = {"AVG": "Average", "COUNT": "SampleCount", "MAX": "Maximum", "MIN": "Minimum", "SUM": "Sum"}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_REDUCED: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum, "MAX": max, "MIN": min, "AVG": lambda found: sum(found) / len(found)}
KNOWN = f"+ - * / ( ), FILL(id, number), {', '.join(_REDUCED)} over [id, …], or a Metrics Insights SELECT"


def compile_expression(expression: str, metrics: Metrics, others: Mapping[str, Window]) -> Window:
    """The window function of an expression; `others` are the alarm's other metrics by id. Unsupported names what is
    not emulated."""
    if re.match(r"\s*SELECT\b", expression, re.IGNORECASE):
        return _insights(expression, metrics)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as fault:
        raise Unsupported(f"Expression {expression!r}: not understood ({fault.msg}); known: {KNOWN}") from fault
    return _node(tree.body, others, expression)


def check_metric(namespace: str, name: str, dimensions: Mapping[str, str]) -> None:
    """Unsupported for a metric of AWS's own that nothing measures here, or with dimensions that it never has."""
    if not namespace.startswith("AWS/"):
        return
    names = MEASURED.get(namespace, {})
    if name not in names:
        raise Unsupported(f"{namespace} {name} is not measured here; {', '.join(names) or ', '.join(MEASURED)} are")
    if set(dimensions) != names[name]:
        raise Unsupported(f"{namespace} {name} with dimensions {sorted(dimensions)} never has data; "
                          f"it has {sorted(names[name])}")


def _insights(expression: str, metrics: Metrics) -> Window:
    """SELECT FN(metric) FROM "namespace" or SCHEMA("namespace", keys) WHERE key = 'value' AND …"""
    found = _QUERY.fullmatch(expression)
    if found is None:
        raise Unsupported(f"Expression {expression!r}: only SELECT FN(metric) FROM … WHERE key = 'value' AND … is "
                          "emulated, without GROUP BY, ORDER BY or LIMIT")
    namespace = found["schema"] or found["quoted"] or found["plain"]
    keys = frozenset(re.findall(r"[\w.-]+", found["keys"] or "")) if found["schema"] else None
    where = frozenset(_equality(part, expression) for part in re.split(r"\s+AND\s+", found["where"] or "",
                                                                       flags=re.IGNORECASE) if part)
    if namespace.startswith("AWS/") and found["name"] not in MEASURED.get(namespace, {}):
        check_metric(namespace, found["name"], {})
    statistic = _STATISTIC[found["function"].upper()]
    return lambda from_s, to_s: metrics.over_all(namespace, found["name"], keys, where, statistic, from_s, to_s)


def _equality(text: str, expression: str) -> tuple[str, str]:
    found = _EQUALS.fullmatch(text)
    if found is None:
        raise Unsupported(f"Expression {expression!r}: {text!r} is not emulated; only key = 'value' is")
    return found[1], found[2]


def _node(node: ast.expr, others: Mapping[str, Window], whole: str) -> Window:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = float(node.value)
        return lambda from_s, to_s: value
    if isinstance(node, ast.Name) and node.id in others:
        return others[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _arithmetic(_OPERATORS[type(node.op)], _node(node.left, others, whole), _node(node.right, others, whole))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args, others, whole)
    raise Unsupported(f"Expression {whole!r}: {ast.unparse(node)} is not emulated; known: {KNOWN}; "
                      f"ids: {', '.join(others) or 'none'}")


def _arithmetic(how: Callable[[float, float], float], left: Window, right: Window) -> Window:
    """A side without data leaves none, and so does a division by zero, as in CloudWatch."""
    def window(from_s: float, to_s: float) -> float | None:
        first, second = left(from_s, to_s), right(from_s, to_s)
        if first is None or second is None or (how is operator.truediv and second == 0):
            return None
        return how(first, second)
    return window


def _call(name: str, arguments: list[ast.expr], others: Mapping[str, Window], whole: str) -> Window:
    if name == "FILL" and len(arguments) == 2:
        metric, other = (_node(argument, others, whole) for argument in arguments)
        return lambda from_s, to_s: other(from_s, to_s) if (value := metric(from_s, to_s)) is None else value
    if name in _REDUCED and len(arguments) == 1 and isinstance(arguments[0], ast.List):
        parts, reduce = [_node(part, others, whole) for part in arguments[0].elts], _REDUCED[name]

        def window(from_s: float, to_s: float) -> float | None:
            found = [value for part in parts if (value := part(from_s, to_s)) is not None]
            return reduce(found) if found else None
        return window
    raise Unsupported(f"Expression {whole!r}: {name} is not emulated here; known: {KNOWN}")
