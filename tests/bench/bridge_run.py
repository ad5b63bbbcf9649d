"""One run of a bridge under the bench: started on its own directory, watched from outside, stopped."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
_STOP_S = 20.0


class BridgeRun:
    """A bridge process with its own outbox. environment: the settings that differ from the bench's own."""

    def __init__(self, directory: Path, **environment: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.outbox = directory, directory / "outbox.db"
        self._environment = {
            **os.environ, "MQTT_BROKER": "", "BOOTSTRAP_SERVERS": "", "THING": "EdgeCloudAWS",
            "OUTBOX": str(self.outbox), "STATUS_FILE": str(directory / "status.json"), "SCORED_FIELDS": "",
            "METRICS_PORT": "", "LOG_LEVEL": "INFO", **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0

    def start(self) -> "BridgeRun":
        """Begin; started_s is when."""
        self.started_s = time.time()
        with (self.directory / "bridge.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.bridge_child", str(self.directory / "notes")],
                cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        return self

    def check_alive(self) -> None:
        """Raises RuntimeError when it has ended by itself."""
        if self._process and self._process.poll() is not None:
            raise RuntimeError(f"the bridge ended with {self._process.returncode}: "
                               + (self.directory / "bridge.log").read_text()[-2000:])

    def notes(self) -> list[dict[str, Any]]:
        """What it noted of itself so far (bridge_child.usage)."""
        path = self.directory / "notes"
        lines = path.read_text().split("\n") if path.exists() else []
        return [json.loads(line) for line in lines[:-1]]  # the last may be half written

    def status(self) -> dict[str, Any]:
        """Its status file, {} before there is one."""
        path = self.directory / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def committed(self) -> int:
        """Readings on disk, as another process sees them in the outbox file."""
        if not self.outbox.exists():
            return 0
        try:
            with sqlite3.connect(f"file:{self.outbox}?mode=ro", uri=True) as db:
                row = db.execute("SELECT value FROM counters WHERE device = '' AND name = 'readings_in'").fetchone()
        except sqlite3.OperationalError:  # the tables are not made yet
            return 0
        return int(row[0]) if row else 0

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def used_between(notes: list[dict[str, Any]], from_s: float, to_s: float) -> dict[str, Any]:
    """CPU seconds and disk bytes used in a span of wall time, from the notes nearest to its ends; seconds between."""
    first = min(notes, key=lambda note: abs(note["at_s"] - from_s))
    last = min(notes, key=lambda note: abs(note["at_s"] - to_s))
    told = first["disk_bytes"] is not None
    return {"seconds": last["at_s"] - first["at_s"], "cpu_s": last["cpu_s"] - first["cpu_s"],
            "disk_bytes": last["disk_bytes"] - first["disk_bytes"] if told else None,
            "disk_source": first["disk_source"]}
