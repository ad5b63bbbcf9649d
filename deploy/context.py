"""CONTEXT="k=v ..." of the Makefile becomes the JSON that CDK takes as context (CDK_CONTEXT_JSON)."""
import json
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any


def parse(text: str) -> dict[str, str]:
    """{"k": "v"} of `k=v k2=v2` (shell quoting allowed). Raises ValueError for a word without `=`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"CONTEXT: got {text!r}: {error}; expected key=value words, quotes closed") from None
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f'CONTEXT: got {word!r}, expected key=value; for example CONTEXT="name=edgecloud"')
        pairs[key] = value
    return pairs


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What CDK_CONTEXT_JSON says; {} when it is not set. Raises ValueError for what is no JSON object."""
    text = environment.get("CDK_CONTEXT_JSON") or "{}"
    try:
        return {**json.loads(text)}
    except (ValueError, TypeError):
        raise ValueError(f"CDK_CONTEXT_JSON: got {text!r:.80}, expected a JSON object; "
                         'set it like {"name": "plant2"}, or unset it') from None


def merged(text: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What is in the environment already, overridden by `k=v ...`. Raises ValueError."""
    return {**from_environment(environment), **parse(text)}


def main() -> int:
    """Print the JSON: what is in the environment already, overridden by the first argument."""
    try:
        print(json.dumps(merged(sys.argv[1] if len(sys.argv) > 1 else "")))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
