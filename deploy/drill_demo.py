"""The running demo as `make drill` sees it: its ledger, its processes, its cloud's fault switches, what was made."""
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import control, env_file
from deploy.processes import Part, PartFailed, python_module, wait_until
from deploy.target import Target, settings_of

RESTART_S = 60.0
RECOVERY_S = 120.0
LATE_S = 5.0


def find(root: Path) -> Path | None:
    """The directory of the newest demo that runs under `root`; None when none does."""
    for told in sorted(root.glob("*/demo.json"), reverse=True):
        if _lives(json.loads(told.read_text())["pid"]):
            return told.parent
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class RunningDemo:
    """One demo, by its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told = json.loads((directory / "demo.json").read_text())
        self._ready = json.loads((directory / "cloud.json").read_text())

    def pid(self, part: str) -> int:
        """Process id of a part as it runs now."""
        return int(json.loads((self.directory / "demo.json").read_text())["parts"][part])

    def status(self) -> dict[str, Any]:
        """The bridge's newest ledger; {} while there is none."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def switch(self, **switches: Any) -> None:
        """Set the local cloud's fault switches (local_cloud/fault_switches.py)."""
        control.tell(self._ready["endpoints"]["control"], "/faults", switches)

    def kill(self, part: str) -> None:
        """SIGKILL."""
        os.kill(self.pid(part), signal.SIGKILL)

    @contextmanager
    def held(self, part: str) -> Iterator[None]:
        """The part is killed and stays away; afterwards the demo starts it again, and it is waited for."""
        mark, before = self.directory / "held" / part, self.pid(part)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        try:
            self.kill(part)
            yield
        finally:
            mark.unlink()
        wait_until(f"{part} to run again", lambda: self.pid(part) != before, RESTART_S)

    def environment(self) -> dict[str, str]:
        """The bridge's settings, as the demo wrote them down."""
        return env_file.read(self.directory / "bridge.env")

    @contextmanager
    def bridge(self, **settings: str) -> Iterator[Part]:
        """A bridge of our own on the demo's outbox, with these settings besides; only while the demo's is held."""
        part = Part("bridge of the drill", python_module("edge_bridge"), self.directory / "logs" / "drill-bridge.log",
                    {**self.environment(), **settings})
        part.start()
        try:
            yield part
        finally:
            part.stop(30)

    def recovered(self, since_ms: float) -> bool:
        """The ledger, written since then, says: all sides connected, nothing alarms, nothing waits for long."""
        status = self.status()
        return bool(status.get("at", 0) > since_ms and all(status["connected"].values()) and not status["alarms"]
                    and status["oldest_unsent_s"] < LATE_S)

    def wait_recovered(self, show: Callable[[], None]) -> float:
        """Seconds until it has recovered; PartFailed with its ledger after two minutes."""
        began_s, since_ms = time.monotonic(), time.time() * 1000
        while not self.recovered(since_ms):
            if time.monotonic() - began_s > RECOVERY_S:
                raise PartFailed(f"not recovered after {RECOVERY_S:.0f} s; the ledger: {json.dumps(self.status())}")
            show()
            time.sleep(1)
        return time.monotonic() - began_s

    def records(self) -> list[Path]:
        """What the simulated Pis made, a JSON line a reading."""
        return sorted((self.directory / "made").glob("pi-*.jsonl"))

    def readings_table(self) -> Any:
        """The DynamoDB table of readings."""
        settings = settings_of({"name": self.told["name"], "region": self._ready["region"]})
        return Target(settings, self._ready).table("readings")
