"""Looks through the functions' logs for a text, as Logs Insights does: a batch id in, the lines of its hops out."""

import json
from typing import Any

from local_cloud.functions import FunctionService

MAX_LINES = 10_000


def holding(functions: FunctionService, text: str) -> list[dict[str, Any]]:
    """[{"function", "at", "line"}] of every line that holds the text, by time; a line that is JSON comes as its object.

    at: the line's own timestamp, "" where it has none (then it stands first).
    """
    wanted, found = text.encode(), []
    for function in functions.all():
        for path in (function.log_path.with_suffix(".log.1"), function.log_path):
            for line in path.read_bytes().splitlines() if path.exists() else ():
                if wanted in line:
                    shown = _read(line)
                    at = str(shown.get("timestamp", "")) if isinstance(shown, dict) else ""
                    found.append({"function": function.name, "at": at, "line": shown})
    return sorted(found, key=lambda one: one["at"])[:MAX_LINES]


def _read(line: bytes) -> Any:
    text = line.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
