"""cast(value AS type): the standard conversions, with Booleans to and from numbers besides."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.values import FLOOR, UNDEFINED, is_number, tidy, to_boolean, to_int, to_number


def _decimal(value: Any) -> Any:
    return int(value) if type(value) is bool else to_number(value)


def _double(value: Any) -> Any:
    number = _decimal(value)
    if number is UNDEFINED:
        return UNDEFINED
    return from_double(to_double(number))


def _int(value: Any) -> Any:
    return int(value) if type(value) is bool else to_int(value, FLOOR)


def _boolean(value: Any) -> Any:
    return value != 0 if is_number(value) else to_boolean(value)


def to_double(number: int | Decimal) -> float:
    """The nearest double; infinite when the number is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def from_double(number: float | complex) -> Any:
    """The shortest Decimal that reads back as the same double; UNDEFINED when imaginary, infinite or NaN."""
    if isinstance(number, complex) or number != number or number in (float("inf"), float("-inf")):
        return UNDEFINED
    return tidy(Decimal(repr(number)))


CASTS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("string", "nvarchar", "text", "ntext", "varchar"), to_string),
    **dict.fromkeys(("int", "integer"), _int),
    **dict.fromkeys(("bool", "boolean"), _boolean),
    "decimal": _decimal,
    "double": _double,
}
