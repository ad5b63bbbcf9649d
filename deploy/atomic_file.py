"""Files that a reader finds whole or not at all: content comes in, is written beside its place, then takes it."""
import os
from pathlib import Path


def write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file as a whole, on disk when this returns; private: for its owner alone, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
