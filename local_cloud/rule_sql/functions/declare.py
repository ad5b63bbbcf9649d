"""How a function of rule SQL is declared: its code and how many arguments it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ANY_NUMBER = 1_000_000


@dataclass(frozen=True)
class Function:
    """`run` answers a call with `fewest` to `most` arguments; with `of_message` it takes the Message first."""

    run: Callable[..., Any]
    fewest: int
    most: int
    of_message: bool = False
