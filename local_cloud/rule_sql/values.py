"""The values of rule SQL and their standard conversions; payloads come in through json_text.py.

Int is `int`, Decimal is `decimal.Decimal`, Boolean `bool`, String `str`, Array `list`, Object `dict`, Null
`None`, a payload that is not JSON `bytes`. Undefined, which is not Null, is UNDEFINED. Never `float`.
"""

from __future__ import annotations

import enum
import re
from decimal import (
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from typing import Any, Final


class _Marker(enum.Enum):
    UNDEFINED = "Undefined"
    NO_OUTPUT = "no output"

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


UNDEFINED: Final = _Marker.UNDEFINED
NO_OUTPUT: Final = _Marker.NO_OUTPUT

DIGITS = 34
MAX_EXPONENT = 999
# What AWS calls Decimal: 34 digits, magnitudes from 1E-999 to 9.99E999.
CONTEXT: Final = Context(
    prec=DIGITS, Emax=MAX_EXPONENT, Emin=-MAX_EXPONENT, traps=[InvalidOperation, DivisionByZero, Overflow]
)
# Remainders and roundings of numbers in that range come out exact with this many digits.
EXACT: Final = Context(prec=2 * MAX_EXPONENT + 2 * DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow])
_INT_LIMIT = 10**DIGITS
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?")

FLOOR, NEAREST, TRUNCATE = ROUND_FLOOR, ROUND_HALF_UP, ROUND_DOWN


def is_number(value: object) -> bool:
    """Whether `value` is an Int or a Decimal (a Boolean is not)."""
    return type(value) is int or type(value) is Decimal


def in_range(number: int | Decimal) -> bool:
    """Whether the rules engine could hold the number at all; payload numbers outside pass through `*` only."""
    if type(number) is int:
        return number.bit_length() <= MAX_EXPONENT * 3.4
    assert isinstance(number, Decimal)
    return not number or -MAX_EXPONENT <= number.adjusted() <= MAX_EXPONENT


def tidy(number: Decimal) -> int | Decimal:
    """An Int when the number is whole and fits 34 digits, as SQL version 2016-03-23 makes of 10.0."""
    if not number:
        return 0
    if number.adjusted() >= DIGITS:
        return number
    whole = int(number)
    return whole if whole == number else number


def int_result(number: int) -> int | Decimal:
    """An Int of at most 34 digits, or the rounded Decimal."""
    return number if -_INT_LIMIT < number < _INT_LIMIT else CONTEXT.create_decimal(number)


def to_number(value: Any) -> Any:
    """Int or Decimal from a number or a numeric String; else UNDEFINED (Null too: no function takes it)."""
    if type(value) is int or type(value) is Decimal:
        return value if in_range(value) else UNDEFINED
    if type(value) is str and _NUMBER.fullmatch(value):
        try:
            number = Decimal(value)
        except InvalidOperation:
            return UNDEFINED
        return tidy(number) if in_range(number) else UNDEFINED
    return UNDEFINED


def to_int(value: Any, rounding: str = NEAREST) -> Any:
    """An Int by `rounding`, UNDEFINED when there is no number in `value`."""
    number = to_number(value)
    if type(number) is not Decimal:
        return number
    return int(number.to_integral_value(rounding=rounding))


def to_index(value: Any) -> Any:
    """The standard conversion to Int: a Decimal goes to the nearest Int, a String loses its decimals."""
    return to_int(value, TRUNCATE if type(value) is str else NEAREST)


def to_boolean(value: Any) -> Any:
    """A Boolean from a Boolean or the String true or false in any case, else UNDEFINED."""
    if type(value) is bool:
        return value
    if type(value) is str:
        return {"true": True, "false": False}.get(value.lower(), UNDEFINED)
    return UNDEFINED


def equal(left: Any, right: Any) -> bool:
    """Equality of two values that are not UNDEFINED: Int equals Decimal, arrays by order, objects by key."""
    if is_number(left) and is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if type(left) is list:
        return len(left) == len(right) and all(map(equal, left, right))
    if type(left) is dict:
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    return bool(left == right)
