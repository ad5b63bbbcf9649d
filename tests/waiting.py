"""Waiting for a condition with a generous deadline: `eventually` in a thread, `until` in an event loop."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 60.0
PAUSE_S = 0.01


def eventually(probe: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """The first truthy answer of `probe`; AssertionError after the deadline."""
    until_s = time.monotonic() + deadline_s
    while not (found := probe()):
        assert time.monotonic() < until_s, f"waited {deadline_s:.0f} s for {what or probe}"
        time.sleep(PAUSE_S)
    return found


async def until(probe: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S) -> Any:
    """As eventually(), without holding the event loop; what `probe` answers may have to be awaited."""
    until_s = time.monotonic() + deadline_s
    while not (found := await answer if inspect.isawaitable(answer := probe()) else answer):
        assert time.monotonic() < until_s, f"waited {deadline_s:.0f} s for {what or probe}"
        await asyncio.sleep(PAUSE_S)
    return found
