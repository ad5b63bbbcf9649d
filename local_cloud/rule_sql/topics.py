"""Topic filters of rules: which published topics a FROM clause takes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

MAX_TOPIC_BYTES = 256
MAX_SLASHES = 7


def filter_fault(topic_filter: str) -> str | None:
    """What is wrong with a topic filter, None when nothing is."""
    levels = topic_filter.split("/")
    if not topic_filter:
        return "the topic filter is empty"
    if len(topic_filter.encode("utf-8", "replace")) > MAX_TOPIC_BYTES:
        return f"the topic filter is longer than {MAX_TOPIC_BYTES} bytes"
    if len(levels) > MAX_SLASHES + 1:
        return f"the topic filter has {len(levels) - 1} slashes, at most {MAX_SLASHES} are allowed"
    if any(("+" in level or "#" in level) and len(level) > 1 for level in levels):
        return f"a wildcard must stand alone between slashes, got {topic_filter!r}"
    if "#" in levels[:-1]:
        return f"# may only be the last level, got {topic_filter!r}"
    return None


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter takes a topic: `+` is one level, `#` what follows.

    As on AWS, `sensor/#` does not match `sensor`, and a leading wildcard does not match topics that begin with $.
    """
    return _matcher(topic_filter)(topic)


@functools.lru_cache(maxsize=4096)
def _matcher(topic_filter: str) -> Callable[[str], bool]:
    if "+" not in topic_filter and "#" not in topic_filter:
        return topic_filter.__eq__
    levels = topic_filter.split("/")
    open_ended = levels[-1] == "#"
    body = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels[: -1 if open_ended else None])
    tail = ("/.*" if len(levels) > 1 else ".*") if open_ended else ""
    guard = r"(?!\$)" if levels[0] in ("+", "#") else ""
    pattern = re.compile(guard + body + tail, re.S)
    return lambda topic: pattern.fullmatch(topic) is not None
