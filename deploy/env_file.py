"""Env files, NAME=value lines as compose, `docker run --env-file`, a shell and the bridge's doctor all read them."""
from collections.abc import Mapping
from pathlib import Path

from deploy import atomic_file


def read(path: Path) -> dict[str, str]:
    """What it says, in its order; {} when there is none. Lines that begin with # and lines without = are left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip().removeprefix("export "): value.strip() for name, _, value in pairs}


def write(path: Path, values: Mapping[str, str], comment: str = "") -> None:
    """Replace it as a whole; it may hold passwords, so only its owner can read it."""
    lines = [f"# {comment}", *(f"{name}={value}" for name, value in values.items())]
    atomic_file.write(path, ("\n".join(lines if comment else lines[1:]) + "\n").encode(), private=True)
