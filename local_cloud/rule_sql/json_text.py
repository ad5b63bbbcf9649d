"""JSON with exact numbers: message payloads in, rule output and string conversions out."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from json.encoder import encode_basestring as _plain_text
from json.encoder import encode_basestring_ascii as _ascii_text
from typing import Any, NoReturn

from local_cloud.rule_sql.values import UNDEFINED, tidy

MAX_DEPTH = 256
_NOT_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', re.S)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _number(text: str) -> int | Decimal:
    # Only a fraction that ends in 0, or an exponent, can hide a whole number.
    number = Decimal(text)
    return tidy(number) if text[-1] == "0" or "e" in text or "E" in text else number


def _whole(text: str) -> int | Decimal:
    # Python refuses to convert very long digit strings to int; Decimal keeps all their digits too.
    return int(text) if len(text) < 1000 else Decimal(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_float=_number, parse_int=_whole, parse_constant=_refuse).decode


def loads(payload: bytes) -> Any:
    """The value of a JSON text: int for whole numbers, Decimal for the rest, every digit kept.

    Raises ValueError for what is not JSON in UTF-8, is nested deeper than 256 levels, or holds an exponent of
    more than 18 digits.
    """
    text = payload.decode("utf-8")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return _decode(text)
    except ArithmeticError as fault:
        raise ValueError("a number whose exponent is out of range") from fault


def literal_number(text: str) -> int | Decimal:
    """The value of a number as it stands in SQL or JSON: an Int when it is whole."""
    return _number(text) if "." in text or "e" in text or "E" in text else _whole(text)


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _NOT_BRACKETS.sub("", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def dumps(value: Any) -> str:
    """Compact JSON of a rule's result with the numbers' own digits; UNDEFINED alone is an empty string.

    Undefined members of objects and elements of arrays are left out.
    """
    if value is UNDEFINED:
        return ""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def to_payload(value: Any) -> bytes:
    """What an action receives: a payload that was not JSON as it came, anything else as JSON in UTF-8."""
    return value if isinstance(value, bytes) else dumps(value).encode()


def to_string(value: Any) -> Any:
    """The String of a value; UNDEFINED for Null, Undefined and bytes."""
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Decimal:
        return str(value)
    if kind is list or kind is dict:
        return dumps(value)
    return UNDEFINED


def _text(value: str) -> str:
    if value.isascii():
        return _ascii_text(value)
    # A lone surrogate cannot be written in UTF-8, only escaped.
    return _ascii_text(value) if _SURROGATE.search(value) else _plain_text(value)


def _write(value: Any, parts: list[str]) -> None:
    kind = type(value)
    if kind is str:
        parts.append(_text(value))
    elif kind is int or kind is Decimal:
        parts.append(str(value))
    elif kind is dict:
        _write_members(value, parts)
    elif kind is list:
        _write_elements(value, parts)
    elif value is None:
        parts.append("null")
    elif kind is bool:
        parts.append("true" if value else "false")
    else:
        raise TypeError(f"{kind.__name__} has no JSON form; encode(*, 'base64') makes one of a binary payload")


def _write_members(value: dict[str, Any], parts: list[str]) -> None:
    separator = "{"
    for key, member in value.items():
        if member is UNDEFINED:
            continue
        parts.append(f"{separator}{_text(key)}:")
        separator = ","
        _write(member, parts)
    parts.append("{}" if separator == "{" else "}")


def _write_elements(value: list[Any], parts: list[str]) -> None:
    separator = "["
    for element in value:
        if element is UNDEFINED:
            continue
        parts.append(separator)
        separator = ","
        _write(element, parts)
    parts.append("[]" if separator == "[" else "]")
