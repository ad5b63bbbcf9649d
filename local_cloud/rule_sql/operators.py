"""The operators of rule SQL on values; compiler.py turns them into closures."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.values import (
    CONTEXT,
    EXACT,
    UNDEFINED,
    equal,
    in_range,
    int_result,
    is_number,
    tidy,
    to_boolean,
    to_number,
)

Binary = Callable[[Any, Any], Any]


def add(left: Any, right: Any) -> Any:
    """Concatenation when either side is a String, else the sum of two numbers."""
    if type(left) is str or type(right) is str:
        first, second = to_string(left), to_string(right)
        return UNDEFINED if first is UNDEFINED or second is UNDEFINED else first + second
    if not is_number(left) or not is_number(right):
        return UNDEFINED
    return _arithmetic(left, right, operator.add, CONTEXT.add)


def subtract(left: Any, right: Any) -> Any:
    """The difference of two numbers or numeric Strings."""
    return _arithmetic(to_number(left), to_number(right), operator.sub, CONTEXT.subtract)


def multiply(left: Any, right: Any) -> Any:
    """The product of two numbers or numeric Strings."""
    return _arithmetic(to_number(left), to_number(right), operator.mul, CONTEXT.multiply)


def divide(left: Any, right: Any) -> Any:
    """The exact quotient to 34 digits, an Int when it is whole.

    AWS's table says Int / Int is Int, its examples print 23.89 for 215 / 9. Truncation would make 10.0 / 4, whose
    operands are Ints in this version, 2: the examples win.
    """
    return _arithmetic(to_number(left), to_number(right), None, CONTEXT.divide)


def remainder(left: Any, right: Any) -> Any:
    """What is left of `left` after whole `right`s, with the sign of `left`; UNDEFINED for a zero `right`."""
    return _arithmetic(to_number(left), to_number(right), _int_remainder, EXACT.remainder)


def _int_remainder(left: int, right: int) -> int:
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def _arithmetic(left: Any, right: Any, ints: Callable[[int, int], int] | None, decimals: Binary) -> Any:
    if left is UNDEFINED or right is UNDEFINED or not in_range(left) or not in_range(right):
        return UNDEFINED
    try:
        if ints is not None and type(left) is int and type(right) is int:
            return int_result(ints(left, right))
        return tidy(CONTEXT.plus(decimals(Decimal(left), Decimal(right))))
    except ArithmeticError:
        return UNDEFINED


def negate(value: Any) -> Any:
    """The number or numeric String with the other sign, its digits unchanged."""
    number = to_number(value)
    if number is UNDEFINED:
        return UNDEFINED
    return -number if type(number) is int else number.copy_negate()


def keep_sign(value: Any) -> Any:
    """A number or numeric String as a number (unary +)."""
    return to_number(value)


def _ordering(compare: Callable[[Any, Any], bool]) -> Binary:
    def ordered(left: Any, right: Any) -> Any:
        first, second = to_number(left), to_number(right)
        return UNDEFINED if first is UNDEFINED or second is UNDEFINED else compare(first, second)

    return ordered


def equals(left: Any, right: Any) -> Any:
    """Equality; different types are unequal, an Undefined side makes Undefined."""
    return UNDEFINED if left is UNDEFINED or right is UNDEFINED else equal(left, right)


def differs(left: Any, right: Any) -> Any:
    """The opposite of `equals`."""
    return UNDEFINED if left is UNDEFINED or right is UNDEFINED else not equal(left, right)


def contains(value: Any, array: Any) -> Any:
    """`value IN array`."""
    if value is UNDEFINED or type(array) is not list:
        return UNDEFINED
    return any(element is not UNDEFINED and equal(value, element) for element in array)


def all_of(values: list[Any]) -> Any:
    """AND of Booleans (or Strings true/false); any other operand makes Undefined, as AWS's table has it."""
    flags = [to_boolean(value) for value in values]
    return UNDEFINED if UNDEFINED in flags else all(flags)


def any_of(values: list[Any]) -> Any:
    """OR, with the operands of `all_of`."""
    flags = [to_boolean(value) for value in values]
    return UNDEFINED if UNDEFINED in flags else any(flags)


def opposite(value: Any) -> Any:
    """NOT of a Boolean or of the Strings true and false."""
    flag = to_boolean(value)
    return UNDEFINED if flag is UNDEFINED else not flag


COMPARISONS: dict[str, Binary] = {
    "=": equals,
    "<>": differs,
    ">": _ordering(operator.gt),
    ">=": _ordering(operator.ge),
    "<": _ordering(operator.lt),
    "<=": _ordering(operator.le),
}
ARITHMETIC: dict[str, Binary] = {"+": add, "-": subtract, "*": multiply, "/": divide, "%": remainder}
