"""One run's site: a LAN broker, a bridge with its outbox, our publishers with their records; made and ended here.

The device names carry the run's name, so that runs share one cloud and yet count apart.
"""
import json
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.processes import Part, PartFailed, python_module, wait_until
from tests.bridge_rig import Mosquitto
from tests.scorecard import oracle
from tests.scorecard.world import World

CONNECTED_S = 45.0
DRAIN_S = 120.0
RECOVER_S = 90.0


class Site:
    """name: unique in the run; chance: this run's own random numbers."""

    def __init__(self, world: World, directory: Path, name: str, chance: random.Random) -> None:
        self.world, self.directory, self.name, self.chance = world, directory, name, chance
        directory.mkdir(parents=True)
        self.broker = Mosquitto(directory / "broker")
        self.broker_port = self.broker.port  # where the bridge connects to; a proxy may stand before the broker
        self.settings: dict[str, str] = {}
        self.bridge_command = python_module("edge_bridge")
        self.publishers: dict[str, Part] = {}
        self.cameras: dict[str, Part] = {}
        self.others: list[Any] = []  # further things with close()
        self.at_close: list[Callable[[], None]] = []
        self.acknowledged: Any = None  # of a foreign publisher: asked for the identities that the bridge acknowledged
        self.bridge_may_drop = False  # its retention limit is set to
        self._bridge: Part | None = None
        self._started_ms = 0.0

    # The bridge

    def environment(self) -> dict[str, str]:
        """The bridge's settings: quick about batches, receipts and status."""
        return {
            "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(self.broker_port), "BOOTSTRAP_SERVERS": "",
            "THING": self.world.thing, "IOT_ENDPOINT": "localhost", "IOT_PORT": str(self.world.gateway_port),
            "CERTS": str(self.world.certs), "OUTBOX": str(self.outbox), "STATUS_FILE": str(self._status_file),
            "STATUS_INTERVAL": "0.2", "BATCH_AGE": "0.5", "RECEIPT_TIMEOUT": "5", "RECONNECT_MAX": "1",
            "SCORED_FIELDS": "", "KAFKA_GROUP": self.name, "METRICS_PORT": "", **self.settings}

    @property
    def outbox(self) -> Path:
        """The bridge's outbox file, in a directory of its own."""
        return self.directory / "outbox" / "outbox.db"

    @property
    def _status_file(self) -> Path:
        return self.directory / "status.json"

    @property
    def bridge(self) -> Part:
        """The bridge's process."""
        assert self._bridge is not None, "the bridge was not started"
        return self._bridge

    def start_bridge(self, wait: bool = True) -> None:
        """Start the bridge (again); wait: until it says that it reaches both sides."""
        self._bridge = Part("bridge", self.bridge_command, self.directory / "bridge.log", self.environment())
        self._started_ms = time.time() * 1000
        self._bridge.start()
        if wait:
            self._bridge.wait_ready("connections to both sides", self.connected, CONNECTED_S)

    def status(self) -> dict[str, Any]:
        """The newest status of the bridge as it runs now; {} before its first."""
        try:
            found = json.loads(self._status_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if found["started"] >= self._started_ms else {}

    def connected(self, *sides: str) -> bool:
        """True when the running bridge reaches these sides ("mqtt", "kafka", "cloud"); none named: all it has."""
        reached = self.status().get("connected", {})
        return bool(reached) and all(reached.get(side) for side in sides or reached)

    def waiting(self) -> int:
        """What the bridge holds that is not receipted; -1: it has not said."""
        status = self.status()
        return sum(status["waiting"].values()) if status else -1

    def received(self) -> int:
        """Messages the running bridge says it got, ever; 0 before it says anything."""
        return int(self.status().get("received", 0))

    def kill_bridge(self) -> None:
        """SIGKILL."""
        self.bridge.kill()

    # The publishers

    def start(self, publishers: int = 2, rate: float = 50, *arguments: str) -> None:
        """Bridge and publishers, and wait until readings flow."""
        self.start_bridge()
        self.publish(publishers, rate, *arguments)
        self.flowing()

    def publish(self, publishers: int = 2, rate: float = 50, *arguments: str) -> None:
        """Start publishers that make readings until `end_publishers`."""
        for index in range(len(self.publishers) + 1, len(self.publishers) + publishers + 1):
            self.start_publisher(f"{self.name}-{index}", python_module("device.publisher"), rate, *arguments)

    def start_publisher(self, device: str, command: list[str], rate: float, *arguments: str) -> Part:
        """Start (again) our publisher under this name, its record and spool as they were."""
        part = Part(device, [
            *command, "--device-id", device, "--rate", f"{rate:g}", "--seed", device, "--broker", "127.0.0.1",
            "--port", str(self.broker.port), "--spool", str(self.spool(device)), "--record", str(self.record(device)),
            "--wait", "60", *arguments], self.directory / f"{device}.log")
        self.publishers[device] = part.start()
        return part

    def spool(self, device: str) -> Path:
        """A publisher's spool file."""
        return self.directory / f"{device}.spool"

    def record(self, device: str) -> Path:
        """What a publisher or camera made, a JSON line each."""
        return self.directory / "made" / f"{device}.jsonl"

    def flowing(self, more: int = 1) -> None:
        """Wait until the bridge has received that many further messages."""
        before = self.received()
        self.bridge.wait_ready(f"{more} readings", lambda: self.received() >= before + more, CONNECTED_S)

    def end_publishers(self) -> None:
        """Have them stop; those not fully acknowledged run once more, make one reading, and wait for the rest."""
        for part in self.publishers.values():
            if part.running and part.process:
                part.process.terminate()
        for device, part in list(self.publishers.items()):
            part.stop(20)
            if part.exit_code:
                part = self.start_publisher(device, python_module("device.publisher"), 1, "--count", "1")
                part.wait_for_end(90)

    def start_camera(self, rate: float, servers: str) -> None:
        """A camera that sends events to Kafka until the end."""
        device = f"{self.name}-camera"
        self.cameras[device] = Part(device, python_module(
            "device.camera", "--device-id", device, "--rate", f"{rate:g}", "--seed", device, "--bootstrap", servers,
            "--topic", self.settings["KAFKA_TOPIC"], "--record", str(self.record(device)), "--wait", "60"),
            self.directory / f"{device}.log").start()

    # Time

    def let_pass(self, seconds: float, bridge: bool = True) -> None:
        """The length of an outage is the point, not a condition; bridge: it must live meanwhile."""
        time.sleep(seconds)
        if bridge:
            self.bridge.check()

    def suspend(self, seconds: float) -> None:
        """Stop the bridge's process as a closed lid does, then let it go on."""
        process = self.bridge.process
        assert process
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    # The end

    def made(self) -> int:
        """Readings and events made so far."""
        return sum(path.read_bytes().count(b"\n") for path in (self.directory / "made").glob("*.jsonl"))

    def dropped(self) -> int:
        """What the publishers' spools dropped for want of room, and the bridge where it may, by their own account."""
        total = int(self._last_status().get("dropped", 0)) if self.bridge_may_drop else 0
        for device in self.publishers:
            if self.spool(device).exists():
                db = sqlite3.connect(f"file:{self.spool(device)}?mode=ro", uri=True)
                try:
                    total += db.execute("SELECT dropped FROM spool").fetchone()[0]
                finally:
                    db.close()
        return total

    def stored(self) -> int:
        """Readings and events in the cloud."""
        return sum(int(item.get("n", 1)) for device in self.devices()
                   for item in self.world.items("readings", device) if item.get("kind") in ("readings", "event"))

    def devices(self) -> list[str]:
        """Who made anything."""
        return sorted(path.stem for path in (self.directory / "made").glob("*.jsonl"))

    def recover(self) -> float:
        """Seconds until what was made so far is stored, or nothing more waits."""
        began_s, made = time.monotonic(), self.made()
        while time.monotonic() < began_s + RECOVER_S:
            if self.stored() >= made or (self._all_ended() and self.waiting() == 0):
                break
            time.sleep(0.25)
        return time.monotonic() - began_s

    def _all_ended(self) -> bool:
        return not any(part.running for part in (*self.publishers.values(), *self.cameras.values()))

    def drain(self) -> None:
        """End the publishers, let the bridge deliver all, stop it (SIGTERM), let the cloud store all."""
        self.end_publishers()
        for part in self.cameras.values():
            part.stop(70)
        if not self.bridge.running:
            self.start_bridge()
        for other in self.others:
            if hasattr(other, "finish"):
                other.finish()
        if self.cameras:
            made = sum(self.record(device).read_bytes().count(b"\n") for device in self.cameras)
            wait_until("the bridge to take the events", lambda: self.taken(list(self.cameras)) >= made, DRAIN_S)
        seen_ms = time.time() * 1000
        self.bridge.wait_ready("an empty outbox", lambda: self.status().get("at", 0) > seen_ms and not self.waiting(),
                               DRAIN_S)
        if self.bridge.stop(20):
            raise PartFailed(f"the bridge ended with exit code {self.bridge.exit_code}:\n{self.bridge.tail()}")
        self.world.flush()

    def taken(self, devices: list[str]) -> int:
        """Events of these cameras that the bridge has on disk."""
        known = self.status().get("devices", {})
        return sum(known.get(device, {}).get("committed", 0) for device in devices)

    def count(self) -> oracle.Count:
        """What was made against what the cloud holds."""
        total = oracle.Count()
        for device in self.devices():
            camera = device in self.cameras
            lines = self.record(device).read_bytes().splitlines()
            made = oracle.by_device(lines, oracle.made_event if camera else oracle.made_reading)
            items = self.world.items("readings", device)
            minutes = [item for item in self.world.items("rollups", device) if item["sk"].startswith("m#")]
            stored = oracle.stored_events(items) if camera else oracle.stored_readings(items)
            total += oracle.count(made.get(device, []), stored, minutes, "persons_detected" if camera else "sensor2",
                                  self.acknowledged() if self.acknowledged else None)
            if not camera:
                total.alerts_differ += oracle.alerts_differ(items, self.world.items("alerts", device))
        return total

    def bridge_drops(self) -> int:
        """Drops as the bridge shows them in its last status."""
        last = self._last_status()
        return int(last.get("skipped", 0)) + int(last.get("dropped", 0))

    def _last_status(self) -> dict[str, Any]:
        """What the bridge said last; {} when it never ran."""
        return dict(json.loads(self._status_file.read_text())) if self._status_file.exists() else {}

    def close(self) -> None:
        """End every process of this site."""
        for part in (*self.publishers.values(), *self.cameras.values(), *([self._bridge] if self._bridge else ())):
            part.kill()
        for other in self.others:
            other.close()
        for action in self.at_close:
            action()
        self.broker.close()


def python_code(code: str, *arguments: str) -> list[str]:
    """Command line that runs some Python of ours."""
    return [sys.executable, "-c", code, *arguments]
