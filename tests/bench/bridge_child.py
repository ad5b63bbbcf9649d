"""A bridge as the bench runs it: edge_bridge's own main, and a thread that notes what the process uses.

`python -m tests.bench.bridge_child FILE`, settings from the environment; one line of JSON per note goes to FILE.
"""
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

EVERY_S = 0.25
_STATM, _IO = Path("/proc/self/statm"), Path("/proc/self/io")


def rss_mb() -> tuple[float, str]:
    """Resident memory now, and who said so."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize() / 1e6, "/proc/self/statm"
    kib = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(kib.stdout) * 1024 / 1e6, "ps"


def disk_bytes() -> tuple[int | None, str]:
    """Bytes that this process had written to the disk, and who said so; None where the system does not tell."""
    if _IO.exists():
        for line in _IO.read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1]), "/proc/self/io write_bytes"
    return None, "not told by this system"


def usage() -> dict[str, Any]:
    """What this process uses now. at_s: wall clock; cpu_s: user and system, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory, memory_source = rss_mb()
    written, written_source = disk_bytes()
    return {"at_s": time.time(), "cpu_s": used.ru_utime + used.ru_stime, "rss_mb": memory, "rss_source": memory_source,
            "disk_bytes": written, "disk_source": written_source, "threads": threading.active_count(),
            "files": len(os.listdir("/dev/fd"))}


def _note(path: str) -> None:
    with open(path, "a", buffering=1) as notes:
        while True:
            notes.write(json.dumps(usage()) + "\n")
            time.sleep(EVERY_S)


if __name__ == "__main__":
    threading.Thread(target=_note, args=(sys.argv[1],), daemon=True).start()
    from edge_bridge.__main__ import main
    sys.exit(main([]))
