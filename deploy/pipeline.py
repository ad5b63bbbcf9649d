"""The whole system as processes on this machine, in the order in which a reading meets them; used by demo and tests."""
import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import routes
from deploy import certificates, control, env_file, lan_broker
from deploy.kafka import Kafka
from deploy.processes import Part, PartFailed, free_port, on_free_port, python_module, wait_until
from deploy.supervision import Supervision
from deploy.synth import synthesize
from deploy.target import Target, settings_of


@dataclass
class Plan:
    """What to run. seconds 0 = until stopped; rates per second; batch_age_s and receipt_timeout_s of the bridge."""

    directory: Path
    assembly: Path
    seconds: float = 0
    pis: int = 3
    rate: float = 10
    cameras: int = 1
    camera_rate: float = 1
    lan: bool = False
    context_json: str = "{}"
    batch_age_s: float = 1
    receipt_timeout_s: float = 5
    web_port: int = 8080
    bridge_environment: dict[str, str] = field(default_factory=dict)
    publisher_arguments: list[str] = field(default_factory=list)


class Pipeline:
    """Start the parts one by one or all with `start`; `close` ends every process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.settings = settings_of(json.loads(plan.context_json))
        self.name, self.thing = self.settings.name, self.settings.things[0]
        self.site = self.settings.sites.get(self.thing, self.thing)
        self.parts: dict[str, Part] = {}
        self.ready: dict[str, Any] = {}
        self.target: Target  # once the local cloud runs
        self.kafka: Kafka | None = None
        self.broker: lan_broker.LanBroker | None = None
        self.supervision = Supervision(plan.directory)
        plan.directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Synthesize, then start everything; PartFailed (with the log's end) at the first part that fails."""
        synthesize(self.plan.assembly, self.plan.context_json)
        self.start_local_cloud()
        self.start_sources()
        self.start_bridge()
        self.start_devices()
        self.supervision.announce(self.parts, thing=self.thing, name=self.name)

    def start_local_cloud(self) -> None:
        """Run the synthesized template; leave certificate and key for the bridge in certs/."""
        certs, ready_file = self.plan.directory / "certs", self.plan.directory / "cloud.json"
        csr = self.plan.directory / "device.csr"
        csr.write_text(certificates.make_key_and_csr(certs, self.thing))
        stack = f"{self.settings.title}Device"
        part = self._part("local cloud", python_module(
            "local_cloud", str(self.plan.assembly), "--state", str(self.plan.directory / "cloud"),
            "--parameter", f"{stack}:CsrA=@{csr}", "--ready-file", str(ready_file),
            "--web-port", str(self.plan.web_port)))
        part.wait_ready("its ready file", ready_file.exists, 90)
        self.ready = json.loads(ready_file.read_text())
        self.target = Target(self.settings, self.ready)
        shutil.copy(self.ready["ca_file"], certs / certificates.ROOT_CA)
        certificate_id = self.ready["outputs"][stack]["CsrACertificateId"]
        certificates.fetch_certificate(self.client("iot"), certificate_id, certs, self.thing)

    def start_sources(self) -> None:
        """The LAN broker and Kafka."""
        self.broker = lan_broker.start(self.plan.directory / "broker", self.plan.lan)
        self.parts["LAN broker"] = self.broker.part
        self.kafka = Kafka()

    def start_bridge(self) -> None:
        """The bridge, as its container runs it; ready when it is connected to both sides."""
        on_free_port(self._start_bridge)

    def _start_bridge(self) -> None:
        environment = self.bridge_environment()
        self._write_for_doctor(environment)
        self._log("bridge").unlink(missing_ok=True)  # of an attempt on another port
        part = self._part("bridge", python_module("edge_bridge"), environment)
        try:
            part.wait_ready("a connection to both sides", self.bridge_connected, 30)
        except PartFailed:
            part.stop()
            raise

    def bridge_environment(self) -> dict[str, str]:
        """The bridge's settings for this run."""
        assert self.broker is not None and self.kafka is not None
        (self.plan.directory / "outbox").mkdir(exist_ok=True)
        gateway = self.ready["endpoints"]["gateway"]
        password = self.broker.password
        login = {"MQTT_USERNAME": lan_broker.USER, "MQTT_PASSWORD": password} if password else {}
        return {
            "MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(self.broker.port), **login,
            "BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "THING": self.thing, "IOT_ENDPOINT": "localhost", "IOT_PORT": str(gateway["port"]),
            "CERTS": str(self.plan.directory / "certs"),
            "RULE_READINGS": routes.rule_name(self.name, "readings"),
            "RULE_EVENTS": routes.rule_name(self.name, "events"),
            "OUTBOX": str(self.plan.directory / "outbox" / "outbox.db"),
            "STATUS_FILE": str(self.status_file), "STATUS_INTERVAL": "1",
            "METRICS_HOST": "127.0.0.1", "METRICS_PORT": str(free_port(9464)),
            "BATCH_AGE": str(self.plan.batch_age_s), "RECEIPT_TIMEOUT": str(self.plan.receipt_timeout_s),
            **self.plan.bridge_environment,
        }

    def _write_for_doctor(self, environment: dict[str, str]) -> None:
        """bridge.env: the settings that the bridge runs with, for `make doctor`; it may hold a password."""
        env_file.write(self.plan.directory / "bridge.env", environment)

    def start_devices(self) -> None:
        """The simulated Pis and cameras; each writes down what it made."""
        for index in range(1, self.plan.pis + 1):
            self._part(f"pi-{index}", python_module(
                "device.publisher", "--device-id", f"pi-{index}", "--rate", f"{self.plan.rate:g}", "--seed", str(index),
                "--spool", str(self.plan.directory / f"pi-{index}.spool"),
                "--record", str(self.record(f"pi-{index}")), *self._seconds(), *self.plan.publisher_arguments),
                self.broker.environment() if self.broker else {})
        for index in range(1, self.plan.cameras + 1):
            name = f"camera-{index:02d}"
            self._part(name, python_module(
                "device.camera", "--device-id", name, "--rate", f"{self.plan.camera_rate:g}", "--seed", str(index),
                "--record", str(self.record(name)), *self._seconds()),
                {"BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers if self.kafka else ""})

    def _seconds(self) -> list[str]:
        return ["--seconds", f"{self.plan.seconds:g}"] if self.plan.seconds else []

    def _part(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> Part:
        self.parts[name] = Part(name, command, self._log(name), environment).start()
        return self.parts[name]

    def _log(self, name: str) -> Path:
        return self.plan.directory / "logs" / f"{name.replace(' ', '-')}.log"

    @property
    def stack_prefix(self) -> str:
        """Prefix of the stacks' names; `edgecloud` is written EdgeCloud."""
        return self.settings.title

    @property
    def control_url(self) -> str:
        """Address of the local cloud's control port."""
        return str(self.ready["endpoints"]["control"])

    @property
    def status_file(self) -> Path:
        """Where the bridge writes its ledger."""
        return self.plan.directory / "status.json"

    @property
    def devices(self) -> list[Part]:
        """The publishers' and cameras' processes."""
        return [part for name, part in self.parts.items() if name.startswith(("pi-", "camera-"))]

    def record(self, device: str) -> Path:
        """What a device made, one JSON line each."""
        return self.plan.directory / "made" / f"{device}.jsonl"

    def records(self, kind: str) -> list[Path]:
        """The records of all Pis ("pi") or cameras ("camera")."""
        return sorted((self.plan.directory / "made").glob(f"{kind}-*.jsonl"))

    def status(self) -> dict[str, Any]:
        """The bridge's newest ledger; {} before the first."""
        try:
            return json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}

    def bridge_connected(self) -> bool:
        """True when the bridge says that it reaches the LAN broker and the cloud."""
        connected = self.status().get("connected", {})
        return bool(connected.get("mqtt") and connected.get("cloud"))

    def waiting(self) -> int:
        """Readings, events and alerts on disk at the bridge that the cloud has not receipted."""
        return sum(self.status().get("waiting", {"unknown": 1}).values())

    def cameras_taken(self) -> bool:
        """True when the bridge has as many events on disk as the cameras made (Kafka does not push them)."""
        devices = self.status().get("devices", {})
        return all(devices.get(path.stem, {}).get("committed", 0) >= path.read_bytes().count(b"\n")
                   for path in self.records("camera"))

    def client(self, service: str) -> Any:
        """A boto3 client of the local cloud."""
        return self.target.client(service)

    def table(self, which: str) -> Any:
        """The DynamoDB table behind `/<name>/<which>-table`."""
        return self.target.table(which)

    def archive_bucket(self) -> str:
        """Name of the archive's bucket."""
        return self.parameter("archive-bucket")

    def parameter(self, what: str) -> str:
        """The value of the SSM parameter `/<name>/<what>`."""
        return self.target.parameter(what)

    def control(self, path: str, body: dict[str, Any] | None = None, within_s: float = 60) -> dict[str, Any]:
        """POST to the local cloud's control port."""
        return dict(control.tell(self.control_url, path, body, within_s))

    def drain(self, within_s: float = 120) -> None:
        """Stop the devices, let the bridge deliver everything and stop, then have the cloud store all it holds.

        PartFailed when nothing more has come of it for `within_s`.
        """
        for part in self.devices:
            part.stop(45)
        if self.parts["bridge"].running:
            seen_ns = self.status_file.stat().st_mtime_ns
            wait_until("the bridge to take all that the cameras sent", self.cameras_taken, within_s)
            try:
                wait_until("the bridge to deliver all it holds",
                           lambda: self.status_file.stat().st_mtime_ns != seen_ns and self.waiting() == 0, within_s,
                           progress=lambda: self.status().get("delivered"))
            except PartFailed as fault:
                raise PartFailed(
                    f"{fault}\n{self.waiting()} readings, events and alerts still wait on the bridge's disk, in "
                    f"{self.plan.directory / 'outbox'}: they are late, not lost. Is the machine busy with something "
                    "else? The bridge's log says what it waits for.") from None
            self.parts["bridge"].stop(20)
        self.control("/flush", within_s=within_s)

    def close(self) -> None:
        """End every process, devices first, the cloud last."""
        order = [*self.devices, *(self.parts[n] for n in ("bridge", "LAN broker", "local cloud") if n in self.parts)]
        for part in order:
            part.stop()
        if self.kafka:
            self.kafka.close()

    def check(self) -> list[str]:
        """Start broker and bridge again when they have ended, as containers are; the names of those started.

        PartFailed when one ends again and again, the cloud has ended, or a device has failed.
        """
        self.parts["local cloud"].check()
        restarted = [name for name in ("LAN broker", "bridge") if self.supervision.keep_running(self.parts[name])]
        if restarted:
            self.supervision.announce(self.parts, thing=self.thing, name=self.name)
        for part in self.devices:
            if part.exit_code not in (None, 0):
                raise PartFailed(f"{part.name} ended with exit code {part.exit_code}:\n{part.tail()}")
        return restarted


def scratch_directory(root: Path) -> Path:
    """A fresh directory for one run under `root`."""
    directory = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    directory.mkdir(parents=True)
    return directory


