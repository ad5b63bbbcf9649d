"""The templates as last looked at, in tests/snapshots; `python -m tests.template_snapshots` writes them anew.

Asset hashes and the version number are masked: they change with the functions' code and with each release.
"""
import json
import re
from pathlib import Path
from typing import Any

from tests.synthesized import PARTS, template

FOLDER = Path(__file__).parent / "snapshots"


def masked(found: dict[str, Any]) -> str:
    """A template as text without what changes by itself."""
    words = json.dumps(found, indent=1, sort_keys=True) + "\n"
    words = re.sub(r'"[0-9a-f]{64}\.zip"', '"<asset>.zip"', words)
    return re.sub(r'"EDGECLOUD_VERSION": "[^"]*"', '"EDGECLOUD_VERSION": "<version>"', words)


def main() -> None:
    """Write all snapshots."""
    FOLDER.mkdir(exist_ok=True)
    for part in PARTS:
        path = FOLDER / f"EdgeCloud{part}.json"
        path.write_text(masked(template(part)), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
