"""Rule SQL text in, lark tree out, by grammar.lark; every fault becomes a SqlError with clause and position."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from lark import Lark, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import Token

from local_cloud.rule_sql.errors import SqlError

VERSION = "2016-03-23"  # of AWS IoT SQL: the one that grammar.lark is
MAX_CHARACTERS = 256 * 1024  # AWS takes a rule of 128 KB; more than twice that is no rule
Node = Tree[Token]
_CLAUSE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\b(set|select|from|where)\b", re.I | re.S)
_ESCAPE = re.compile(r"""\\(["'\\/nrt]|u[0-9a-fA-F]{4})""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@functools.cache
def _grammar(start: str) -> Lark:
    text = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", start=start, propagate_positions=True, maybe_placeholders=True)


def parse_statement(sql: str) -> Node:
    """The tree of a whole statement ([SET …] SELECT …); raises SqlError."""
    return _parse("statement", sql, None)


def parse_expression(text: str, clause: str) -> Node:
    """The tree of one expression, such as a substitution template holds; raises SqlError naming `clause`."""
    return _parse("expression", text, clause)


def _parse(start: str, text: str, clause: str | None) -> Node:
    if len(text) > MAX_CHARACTERS:
        raise SqlError(clause or "SELECT", 0, f"{len(text)} characters, at most {MAX_CHARACTERS} are taken")
    try:
        return _grammar(start).parse(text)
    except UnexpectedInput as fault:
        position = _position(fault, text)
        raise SqlError(clause or clause_at(text, position), position, _complaint(fault, text, position)) from None


def _position(fault: UnexpectedInput, text: str) -> int:
    offset = fault.pos_in_stream
    if isinstance(fault, UnexpectedToken) and fault.token.type == "$END":
        offset = len(text)
    return (len(text) if offset is None else offset) + 1


def _complaint(fault: UnexpectedInput, text: str, position: int) -> str:
    rest = text[position - 1 : position + 19]
    if not rest.strip():
        return "the text ends too early; something must follow here"
    if rest.startswith(("--", "/*")):
        return "AWS IoT SQL has no comments; take them out"
    if rest.startswith("!="):
        return "!= is not in AWS IoT SQL; write <>"
    kind = "character" if isinstance(fault, UnexpectedCharacters) else "word"
    return f"unexpected {kind} at {rest!r}"


def clause_at(text: str, position: int) -> str:
    """The clause keyword that `position` (1-based) falls under; SELECT when none precedes it."""
    clause = "SELECT"
    for match in _CLAUSE.finditer(text):
        if match.start() >= position - 1:
            break
        clause = match[1].upper() if match[1] else clause
    return clause


def unquote(literal: str) -> str:
    """The text a quoted literal stands for: doubled quotes and JSON escapes undone.

    A backslash before anything else stays: AWS prints regular expressions such as '\\d+' both single and doubled,
    and both then mean the same.
    """
    quote = literal[0]
    body = literal[1:-1].replace(quote * 2, quote)
    return _ESCAPE.sub(_unescape, body) if "\\" in body else body


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    return chr(int(escape[1:], 16)) if escape[0] == "u" and len(escape) > 1 else _ESCAPED.get(escape, escape)
