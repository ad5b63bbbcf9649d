"""Regular expression functions. AWS runs Java's; Python's `re` takes most of that, the rest is translated here."""

from __future__ import annotations

import functools
import re
from typing import Any

from local_cloud.rule_sql.functions.declare import Function
from local_cloud.rule_sql.functions.text import of_strings
from local_cloud.rule_sql.values import UNDEFINED

# Java's POSIX classes are ASCII; written as the inside of a [...] class.
_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7F",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1F\x7F",
    "XDigit": "0-9a-fA-F",
    "Space": r" \t\n\x0B\f\r",
}
_JAVA = re.compile(r"\\p\{(\w+)\}|\\([zZh])|\(\?<(?=[A-Za-z])|\\.|\[\^?\]?|\]", re.S)
_REFERENCE = re.compile(r"\\(.)|\$\{(\w+)\}|\$(\d)(\d*)|([\\$])", re.S)
_ENDS = {"z": r"\Z", "Z": r"(?=\n?\Z)"}


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """The pattern in Python's dialect, None when it is no valid regular expression."""
    in_class = False

    def translate(match: re.Match[str]) -> str:
        nonlocal in_class
        posix, special = match[1], match[2]
        if posix:
            inside = _POSIX.get(posix, match[0])
            return inside if in_class else f"[{inside}]"
        if special == "h":
            return r" \t\xA0" if in_class else r"[ \t\xA0]"
        if special:
            return _ENDS[special]
        if match[0] == "(?<":
            return match[0] if in_class else "(?P<"
        if match[0][0] in "[]":
            in_class = match[0] != "]"
        return match[0]

    try:
        return re.compile(_JAVA.sub(translate, pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError):
        return None


def _matches(text: str, pattern: str) -> Any:
    compiled = _compiled(pattern)
    return UNDEFINED if compiled is None else compiled.search(text) is not None


def _substring(text: str, pattern: str) -> Any:
    compiled = _compiled(pattern)
    found = compiled.search(text) if compiled else None
    return UNDEFINED if found is None else found[0]


def _replace(text: str, pattern: str, replacement: str) -> Any:
    compiled = _compiled(pattern)
    pieces = _pieces(replacement, compiled) if compiled else None
    if compiled is None or pieces is None:
        return UNDEFINED
    return compiled.sub(lambda match: "".join(p if type(p) is str else match[p] or "" for p in pieces), text)


def _pieces(replacement: str, compiled: re.Pattern[str]) -> list[str | int] | None:
    """Java's replacement string as literal text and group numbers; None when it refers to no such group."""
    pieces: list[str | int] = []
    position = 0
    for match in _REFERENCE.finditer(replacement):
        pieces.append(replacement[position : match.start()])
        position = match.end()
        escaped, name, digit, more, _ = match.groups()
        if escaped is not None:
            pieces.append(escaped)
        elif name is not None and name in compiled.groupindex:
            pieces.append(compiled.groupindex[name])
        elif digit is not None and int(digit) <= compiled.groups:
            pieces.extend(_group_number(int(digit), more, compiled.groups))
        else:
            return None
    return [*pieces, replacement[position:]]


def _group_number(number: int, more: str, groups: int) -> list[str | int]:
    # As in Java, further digits belong to the reference while such a group exists: $12 may be group 1 and "2".
    taken = 0
    while taken < len(more) and number * 10 + int(more[taken]) <= groups:
        number = number * 10 + int(more[taken])
        taken += 1
    return [number, more[taken:]]


FUNCTIONS = {
    "regexp_matches": Function(of_strings(_matches), 2, 2),
    "regexp_replace": Function(of_strings(_replace), 3, 3),
    "regexp_substr": Function(of_strings(_substring), 2, 2),
}
