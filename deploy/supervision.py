"""Starts what ends in a running demo again, as a container's restart policy does; `make drill` finds it by demo.json.

A part named by a file in `held/` stays down until the file goes: the drill's way to keep it away for a while.
"""
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from deploy.processes import Part

RESTARTS, WITHIN_S = 5, 60.0
HELD_AT_MOST_S = 180.0  # a drill that was ended itself must not keep the demo down


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only this user may read, so that a reader finds the whole of it or nothing."""
    partial = path.with_name(f"{path.name}.partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


class Supervision:
    """Of one demo's parts; `directory` is the demo's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._restarts: dict[str, deque[float]] = {}

    def announce(self, parts: dict[str, Part], **more: Any) -> None:
        """demo.json: the demo's process id, those of its parts by name, and `more`."""
        pids = {name: part.process.pid for name, part in parts.items() if part.process}
        write_private(self._directory / "demo.json", {"pid": os.getpid(), "parts": pids, **more})

    def keep_running(self, part: Part) -> bool:
        """Start it again if it has ended and is not held; whether it was. PartFailed when it ends again and again."""
        if part.running or self._held(part.name):
            return False
        now_s, recent = time.monotonic(), self._restarts.setdefault(part.name, deque(maxlen=RESTARTS))
        if len(recent) == RESTARTS and now_s - recent[0] < WITHIN_S:
            part.check()
        recent.append(now_s)
        part.start()
        return True

    def _held(self, name: str) -> bool:
        try:
            held_s = time.time() - (self._directory / "held" / name).stat().st_mtime
        except FileNotFoundError:
            return False
        return held_s < HELD_AT_MOST_S
