"""Which sockets a test binds, seen from Python's own audit events, whatever makes them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def binds() -> Iterator[list[tuple[Any, Any]]]:
    """(socket, the address asked for) of every bind of this process meanwhile, the latest last."""
    found: list[tuple[Any, Any]] = []
    watching = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "socket.bind":
            found.append((arguments[0], arguments[1]))

    sys.addaudithook(note)  # a hook stays for as long as the process lives
    try:
        yield found
    finally:
        watching = False
        found.clear()
