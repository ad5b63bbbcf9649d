"""Faults found in a rule's SQL: raised by every module of this package, shown to whoever creates the rule."""

from __future__ import annotations


class SqlError(Exception):
    """A statement or substitution template that cannot be run.

    `clause` is where the fault lies (SET, SELECT, FROM, WHERE, or template), `position` the 1-based character
    in the text that was given (0 when it concerns the whole text), `text` what is wrong and what to do.
    """

    def __init__(self, clause: str, position: int, text: str) -> None:
        super().__init__(clause, position, text)
        self.clause = clause
        self.position = position
        self.text = text

    def __str__(self) -> str:
        where = f" at character {self.position}" if self.position else ""
        return f"{self.clause}{where}: {self.text}"


class Unsupported(SqlError):
    """Valid AWS IoT SQL that needs an AWS service which is not emulated here."""
