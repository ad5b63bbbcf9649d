"""Object keys of Firehose: prefix expressions (`!{timestamp:yyyy/MM/dd}`, `!{firehose:…}`) in, keys out."""

from __future__ import annotations

import re
import secrets
import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

from local_cloud.errors import Unsupported

Part = Callable[[datetime], str]
_EXPRESSION = re.compile(r"!\{([^}]*)\}")
_LETTERS = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "DDD": "%j", "HH": "%H", "mm": "%M",
            "ss": "%S", "SSS": ""}
_TOKEN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>[^A-Za-z']+)")


def compile_prefix(prefix: str, *, error_type: str | None = None) -> Part:
    """A function from the arrival time (already in the stream's zone) to the evaluated prefix.

    Without any expression AWS adds `yyyy/MM/dd/HH/`. error_type is what `!{firehose:error-output-type}` gives
    (None: the expression belongs into ErrorOutputPrefix only)."""
    if "!{" not in prefix:
        prefix += "!{timestamp:yyyy/MM/dd/HH/}"
    parts: list[Part] = []
    end = 0
    for match in _EXPRESSION.finditer(prefix):
        parts += [_literal(prefix[end:match.start()]), _expression(match[1], error_type)]
        end = match.end()
    parts.append(_literal(prefix[end:]))
    return lambda at: "".join(part(at) for part in parts)


def object_name(stream: str, at: datetime, extension: str) -> str:
    """The name after the prefix: stream, version 1, arrival time (UTC) and a random id."""
    return f"{stream}-1-{at.astimezone(UTC):%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}{extension}"


def arrival(at_s: float, zone: tzinfo) -> datetime:
    """The arrival time in the stream's zone."""
    return datetime.fromtimestamp(at_s, zone)


def _literal(text: str) -> Part:
    return lambda _: text


def _expression(expression: str, error_type: str | None) -> Part:
    namespace, _, value = expression.partition(":")
    if namespace == "timestamp":
        return _java_pattern(value)
    if expression == "firehose:random-string":
        return lambda _: "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(11))
    if expression == "firehose:error-output-type" and error_type is not None:
        return _literal(error_type)
    raise Unsupported(f"Prefix: !{{{expression}}} is not emulated here; timestamp:…, firehose:random-string and (in "
                      "ErrorOutputPrefix) firehose:error-output-type are")


def _java_pattern(pattern: str) -> Part:
    """Java's DateTimeFormatter letters as strftime would write them."""
    parts: list[Part] = []
    for token in _TOKEN.finditer(pattern):
        letters = token["letters"]
        if letters is None:
            parts.append(_literal(token["other"] or token["quoted"] or "'"))
        elif letters == "SSS":
            parts.append(lambda at: f"{at.microsecond // 1000:03d}")
        elif letters in _LETTERS:
            parts.append(_strftime(_LETTERS[letters]))
        else:
            raise Unsupported(f"Prefix: the letters {letters!r} of !{{timestamp:{pattern}}} are not emulated; "
                              f"{', '.join(_LETTERS)} are")
    return lambda at: "".join(part(at) for part in parts)


def _strftime(form: str) -> Part:
    return lambda at: at.strftime(form)
