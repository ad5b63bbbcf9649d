"""A disk that can lose power, fill up or fail: durable.c, compiled and preloaded into the bridge by rows_disk.py."""
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.processes import PartFailed

SOURCE = Path(__file__).with_name("durable.c")


def missing() -> str | None:
    """Why this machine cannot make such a disk; None when it can."""
    if sys.platform != "linux":
        return "a library is preloaded to play the disk, which is done on Linux only"
    return None if shutil.which("cc") else "no C compiler (cc) on this machine"


class Disk:
    """Plays the disk below `directory`, a flat one. work: where the library and the copy of what is durable go."""

    def __init__(self, directory: Path, work: Path) -> None:
        self._directory, self._copy, self._library = directory, work / "durable", work / "durable.so"
        directory.mkdir(parents=True, exist_ok=True)
        self._copy.mkdir(parents=True)
        built = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(self._library), str(SOURCE), "-ldl",
                                "-lpthread"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if built.returncode:
            raise PartFailed(f"{SOURCE.name} does not compile:\n{built.stdout}")
        self._all_durable()

    def environment(self) -> dict[str, str]:
        """What makes a process see this disk."""
        return {"LD_PRELOAD": str(self._library), "DURABLE_DIR": str(self._directory), "DURABLE_COPY": str(self._copy)}

    def _all_durable(self) -> None:
        """The copy anew from the directory as it is."""
        names = []
        for number, path in enumerate(sorted(p for p in self._directory.iterdir() if p.is_file()), 1):
            shutil.copyfile(path, self._copy / str(number))
            names.append(f"{number} {path.name}\n")
        (self._copy / "names").write_text("".join(names))

    def cut_power(self) -> int:
        """The process was killed: leave only what it had synced. Returns how many bytes that were there are gone."""
        before = {path.name: path.read_bytes() for path in self._directory.iterdir() if not path.name.endswith("-shm")}
        shutil.rmtree(self._directory)
        self._directory.mkdir()
        for line in (self._copy / "names").read_text().splitlines():
            number, name = line.split(" ", 1)
            kept = self._copy / number
            (self._directory / name).write_bytes(kept.read_bytes() if kept.exists() else b"")
        for leftover in self._copy.iterdir():
            leftover.unlink()
        self._all_durable()
        return sum(len(content) - self._same(name, content) for name, content in before.items())

    def _same(self, name: str, content: bytes) -> int:
        path = self._directory / name
        kept = path.read_bytes() if path.exists() else b""
        return len(content) if kept == content else min(len(content), len(kept)) - 1 if kept else 0

    def fill(self, full: bool) -> None:
        """Writes fail with "no space left on device", or no longer do."""
        self._switch("full", full)

    def fail(self, broken: bool) -> None:
        """Every fsync fails with an I/O error, or no longer does."""
        self._switch("broken", broken)

    def _switch(self, name: str, on: bool) -> None:
        if on:
            (self._copy / name).touch()
        else:
            (self._copy / name).unlink(missing_ok=True)
