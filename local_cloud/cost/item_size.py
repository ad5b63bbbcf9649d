"""Sizes of DynamoDB items as AWS counts them, from its JSON protocol; capacity.py makes units of them.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

ITEM_OVERHEAD_BYTES = 100  # of storage, for each item
Attributes = Mapping[str, Any]


def item_bytes(item: Attributes) -> int:
    """Size of an item as DynamoDB counts it; attributes as in its JSON protocol."""
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def value_bytes(value: Attributes) -> int:
    """Size of one attribute value, {"N": "12.5"}."""
    ((kind, content),) = value.items()
    return _SIZES[kind](content)


def number_bytes(text: str) -> int:
    """A byte for two significant digits, one more, and one for a minus sign."""
    number = Decimal(text)
    digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
    return (digits + 1) // 2 + 1 + (number < 0)


def _binary_bytes(content: Any) -> int:
    return len(base64.b64decode(content)) if isinstance(content, str) else len(content)


_SIZES: dict[str, Callable[[Any], int]] = {
    "S": lambda content: len(content.encode()), "N": number_bytes, "B": _binary_bytes,
    "BOOL": lambda content: 1, "NULL": lambda content: 1,
    "SS": lambda content: sum(len(one.encode()) for one in content),
    "NS": lambda content: sum(map(number_bytes, content)),
    "BS": lambda content: sum(map(_binary_bytes, content)),
    "L": lambda content: 3 + sum(1 + value_bytes(one) for one in content),
    "M": lambda content: 3 + sum(1 + len(name.encode()) + value_bytes(one) for name, one in content.items()),
}
