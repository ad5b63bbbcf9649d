"""CONTEXT="k=v ..." of the Makefile becomes the JSON that CDK takes as context (CDK_CONTEXT_JSON)."""
import json
import os
import shlex
import sys


def parse(text: str) -> dict[str, str]:
    """{"k": "v"} of `k=v k2=v2` (shell quoting allowed). Raises ValueError for a word without `=`."""
    pairs = {}
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f'CONTEXT: got {word!r}, expected key=value; for example CONTEXT="name=edgecloud"')
        pairs[key] = value
    return pairs


def main() -> int:
    """Print the JSON: what is in the environment already, overridden by the first argument."""
    try:
        given = parse(sys.argv[1] if len(sys.argv) > 1 else "")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({**json.loads(os.environ.get("CDK_CONTEXT_JSON") or "{}"), **given}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
