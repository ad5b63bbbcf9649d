"""Starts what ends in a running demo again, as a container's restart policy does; `make drill` finds it by demo.json.

A part named by a file in `held/` stays down until the file goes: the drill's way to keep it away for a while.
"""
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from deploy import atomic_file
from deploy.processes import Part

RESTARTS, WITHIN_S = 5, 60.0
HELD_AT_MOST_S = 180.0  # a drill that was ended itself must not keep the demo down


class Supervision:
    """Of one demo's parts; `directory` is the demo's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._restarts: dict[str, deque[float]] = {}

    def announce(self, parts: dict[str, Part], **more: Any) -> None:
        """demo.json: the demo's process id, those of its parts by name, and `more`."""
        pids = {name: part.process.pid for name, part in parts.items() if part.process}
        told = json.dumps({"pid": os.getpid(), "parts": pids, **more}, indent=1) + "\n"
        atomic_file.write(self._directory / "demo.json", told.encode(), private=True)

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
