"""encode() and decode(): base64 of payloads and strings."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.json_text import loads, to_string
from local_cloud.rule_sql.values import UNDEFINED


def encode(value: Any, scheme: Any) -> Any:
    """Base64 of a value's String, or of the raw payload when `value` is `*`; UNDEFINED for other schemes."""
    if scheme != "base64":
        return UNDEFINED
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    text = to_string(value)
    if text is UNDEFINED:
        return UNDEFINED
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")


def decode(value: Any, scheme: Any) -> Any:
    """The JSON value or else the String that a base64 String holds; Null when it cannot be decoded."""
    if scheme != "base64" or not isinstance(value, str | bytes):
        return UNDEFINED
    try:
        encoded = value.encode("ascii") if isinstance(value, str) else value
        # Java's decoder takes a text without its padding, as many devices send it.
        decoded = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
        text = decoded.decode("utf-8")
    except (binascii.Error, UnicodeError):
        return None
    try:
        return loads(decoded)
    except ValueError:
        return text


FUNCTIONS = {"encode": Function(encode, 2, 2), "decode": Function(decode, 2, 2)}
