"""Numeric functions: exact on Int and Decimal where AWS is, in double precision where AWS says so."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any

from local_cloud.rule_sql.casts import from_double, to_double
from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.operators import remainder
from local_cloud.rule_sql.values import (
    DIGITS,
    EXACT,
    FLOOR,
    NEAREST,
    TRUNCATE,
    UNDEFINED,
    int_result,
    is_number,
    tidy,
    to_int,
    to_number,
)


def _in_doubles(compute: Callable[..., float]) -> Callable[..., Any]:
    """`compute` on the nearest doubles of its arguments; imaginary and infinite results are Undefined."""

    def apply(*arguments: Any) -> Any:
        numbers = [to_number(argument) for argument in arguments]
        if UNDEFINED in numbers:
            return UNDEFINED
        try:
            return from_double(compute(*map(to_double, numbers)))
        except (ValueError, ArithmeticError):
            return UNDEFINED

    return apply


def _to_ints(rounding: str) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        whole = to_int(value, rounding)
        return UNDEFINED if whole is UNDEFINED else int_result(whole)

    return apply


def _bitwise(compute: Callable[..., int]) -> Callable[..., Any]:
    def apply(*arguments: Any) -> Any:
        numbers = [to_int(argument, FLOOR) for argument in arguments]
        return UNDEFINED if UNDEFINED in numbers else int_result(compute(*numbers))

    return apply


def absolute(value: Any) -> Any:
    """The number without its sign, digits unchanged."""
    number = to_number(value)
    if number is UNDEFINED:
        return UNDEFINED
    return abs(number) if type(number) is int else number.copy_abs()


def sign(value: Any) -> Any:
    """-1, 0 or 1."""
    number = to_number(value)
    return UNDEFINED if number is UNDEFINED else (number > 0) - (number < 0)


def truncate(value: Any, places: Any) -> Any:
    """The number cut to `places` decimals (0 to 34), without trailing zeros; `places` must be a number."""
    number = to_number(value)
    count: Any = to_int(places, FLOOR) if is_number(places) else UNDEFINED
    if count is UNDEFINED or type(number) is not Decimal:
        return UNDEFINED if count is UNDEFINED else number
    shift = Decimal((0, (1,), -min(max(count, 0), DIGITS)))
    return tidy(number.quantize(shift, TRUNCATE, EXACT).normalize(EXACT))


def _random() -> Any:
    return from_double(random.random())


_ONE_NUMBER: dict[str, Callable[[float], float]] = {
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "cos": math.cos,
    "cosh": math.cosh,
    "exp": math.exp,
    "ln": math.log,
    "log": math.log10,
    "sin": math.sin,
    "sinh": math.sinh,
    "sqrt": math.sqrt,
    "tan": math.tan,
    "tanh": math.tanh,
}

FUNCTIONS = {
    **{name: Function(_in_doubles(compute), 1, 1) for name, compute in _ONE_NUMBER.items()},
    "abs": Function(absolute, 1, 1),
    "atan2": Function(_in_doubles(math.atan2), 2, 2),
    "bitand": Function(_bitwise(lambda left, right: left & right), 2, 2),
    "bitor": Function(_bitwise(lambda left, right: left | right), 2, 2),
    "bitxor": Function(_bitwise(lambda left, right: left ^ right), 2, 2),
    "bitnot": Function(_bitwise(lambda value: ~value), 1, 1),
    "ceil": Function(_to_ints(ROUND_CEILING), 1, 1),
    "floor": Function(_to_ints(FLOOR), 1, 1),
    "mod": Function(remainder, 2, 2),
    "power": Function(_in_doubles(math.pow), 2, 2),
    "rand": Function(_random, 0, 0),
    "remainder": Function(remainder, 2, 2),
    "round": Function(_to_ints(NEAREST), 1, 1),
    "sign": Function(sign, 1, 1),
    "trunc": Function(truncate, 2, 2),
}
