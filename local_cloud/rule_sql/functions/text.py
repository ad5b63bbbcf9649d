"""String functions; arguments of other types go through the standard conversion to String."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local_cloud.rule_sql.functions.declare import ANY_NUMBER, Function
from local_cloud.rule_sql.json_text import to_string
from local_cloud.rule_sql.values import FLOOR, UNDEFINED, to_int

MAX_PADDING = 1000
_JAVA_SPACE = "".join(map(chr, range(0x21)))


def of_strings(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute` on the Strings of all arguments; UNDEFINED when one has none (Null, Undefined)."""

    def apply(*arguments: Any) -> Any:
        strings = [to_string(argument) for argument in arguments]
        return UNDEFINED if UNDEFINED in strings else compute(*strings)

    return apply


def concat(*arguments: Any) -> Any:
    """One Array when any argument is one, else the Strings joined; a lone argument as String or Array."""
    if any(type(argument) is list for argument in arguments):
        joined: list[Any] = []
        for argument in arguments:
            joined.extend(argument if type(argument) is list else [argument])
        return joined
    # The example concat(1) = "1" is followed, not the table's "unmodified": the function returns String or Array.
    if len(arguments) > 1 and not any(type(argument) is str for argument in arguments):
        return UNDEFINED
    return of_strings(lambda *strings: "".join(strings))(*arguments) if arguments else UNDEFINED


def _padded(add: Callable[[str, str], str]) -> Callable[[Any, Any], Any]:
    def pad(value: Any, count: Any) -> Any:
        text, spaces = to_string(value), to_int(count, FLOOR)
        if text is UNDEFINED or spaces is UNDEFINED:
            return UNDEFINED
        return add(text, " " * min(max(spaces, 0), MAX_PADDING))

    return pad


def substring(value: Any, start: Any, *end: Any) -> Any:
    """The characters from `start` (0-based) up to, not including, `end`; bounds outside go to the nearest end."""
    text = to_string(value)
    bounds = [to_int(bound, FLOOR) for bound in (start, *end)]
    if text is UNDEFINED or UNDEFINED in bounds:
        return UNDEFINED
    first, last = max(bounds[0], 0), max(bounds[1], 0) if end else len(text)
    return text[first:last]


def character(code: Any) -> Any:
    """The ASCII character of a code from 0 to 127."""
    number = to_int(code, FLOOR)
    return UNDEFINED if number is UNDEFINED or not 0 <= number < 128 else chr(number)


FUNCTIONS = {
    "chr": Function(character, 1, 1),
    "concat": Function(concat, 0, ANY_NUMBER),
    "endswith": Function(of_strings(str.endswith), 2, 2),
    "indexof": Function(of_strings(str.find), 2, 2),
    "length": Function(of_strings(len), 1, 1),
    "lower": Function(of_strings(str.lower), 1, 1),
    "lpad": Function(_padded(lambda text, spaces: spaces + text), 2, 2),
    "ltrim": Function(of_strings(lambda text: text.lstrip(" \t")), 1, 1),
    "numbytes": Function(of_strings(lambda text: len(text.encode("utf-8", "surrogatepass"))), 1, 1),
    "replace": Function(of_strings(str.replace), 3, 3),
    "rpad": Function(_padded(lambda text, spaces: text + spaces), 2, 2),
    "rtrim": Function(of_strings(lambda text: text.rstrip(" \t")), 1, 1),
    "startswith": Function(of_strings(str.startswith), 2, 2),
    "substring": Function(substring, 2, 3),
    "trim": Function(of_strings(lambda text: text.strip(_JAVA_SPACE)), 1, 1),
    "upper": Function(of_strings(str.upper), 1, 1),
}
