"""Two deployments in one local cloud: the first with two sites, one of them with a spare bridge, the second with one.

The synthesized templates, the real handlers, mutual TLS; one cloud for all tests of a process, in a loop of its own.
"""
import asyncio
import atexit
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from local_cloud.cloud import LocalCloud, Options
from tests import waiting
from tests.gateway_rig import Device, RawClient, make_csr
from tests.synthesized import Context, assembly

HOME, OTHER, SPARE, FOREIGN = "EdgeCloudAWS", "SiteB", "SpareBridge", "Plant2Bridge"
FIRST: Context = (("things", f"{HOME},{OTHER},{SPARE}@{HOME}"),)
SECOND: Context = (("name", "plant2"), ("things", FOREIGN), ("quiet_hours", "00:00-23:59"))  # it holds notices back
PARAMETERS = {HOME: ("EdgeCloudDevice", "CsrA"), OTHER: ("EdgeCloudDevice", "SiteBCsrA"),
              SPARE: ("EdgeCloudDevice", "SpareBridgeCsrA"), FOREIGN: ("Plant2Device", "CsrA")}
DEADLINE_S = 120
T = TypeVar("T")


class Sites:
    """The running cloud, and one device with a key and a certificate per thing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._keys = {thing: ec.generate_private_key(ec.SECP256R1()) for thing in PARAMETERS}
        self.cloud = LocalCloud(Options(
            self._both(), {stack: {name: make_csr(self._keys[thing], thing) for thing, (its, name) in PARAMETERS.items()
                                   if its == stack} for stack, _ in PARAMETERS.values()},
            state=directory / "state", gateway_port=0, api_port=0, quotas=False))

    def _both(self) -> Path:
        """One assembly of two nested ones."""
        for name, context in (("first", FIRST), ("second", SECOND)):
            shutil.copytree(assembly(*context), self._directory / name)
        artifacts = {name: {"type": "cdk:cloud-assembly", "properties": {"directoryName": name}}
                     for name in ("first", "second")}
        (self._directory / "manifest.json").write_text(json.dumps({"version": "1", "artifacts": artifacts}))
        return self._directory

    def start(self) -> None:
        self._thread.start()
        self.run(self.cloud.start())

    def stop(self) -> None:
        self.run(self.cloud.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the cloud's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def device(self, thing: str) -> Device:
        """The files of a thing's bridge."""
        stack, parameter = PARAMETERS[thing]
        title = parameter.removesuffix("A")
        identity = self.cloud.deployer.outputs()[stack][f"{title}ACertificateId"]
        services = self.cloud.services
        device = Device(self._directory / f"{thing}.crt", self._directory / f"{thing}.key",
                        services.pki.certificate_path, services.registry.certificate(identity).pem)
        device.certificate_path.write_text(device.pem)
        device.key_path.write_bytes(self._keys[thing].private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        return device

    async def connect(self, thing: str) -> RawClient:
        """An accepted connection of this thing."""
        return await RawClient.connect(self.cloud.services.gateway.port, self.device(thing), thing)

    def publish(self, thing: str, *messages: tuple[str, bytes]) -> list[int]:
        """Publish as this thing; the PUBACKs' reason codes."""
        async def talk() -> list[int]:
            client = await self.connect(thing)
            codes = [(await client.publish(topic, payload, packet_id=number)).reason_code
                     for number, (topic, payload) in enumerate(messages, 1)]
            client.close()
            return codes
        return self.run(talk())

    def settled(self) -> None:
        """Everything that waits anywhere is where it goes."""
        found = self.run(self.cloud.flush(DEADLINE_S))
        assert found["idle"], found["waiting"]

    def client(self, service: str) -> Any:
        """boto3 at the cloud's endpoint, as a person uses it."""
        return boto3.client(service, endpoint_url=self.cloud.aws_url, region_name="eu-north-1",
                            aws_access_key_id="test", aws_secret_access_key="test")

    def name(self, logical_id: str, stack: str = "EdgeCloudStorage") -> str:
        """A resource's physical name."""
        return str(self.cloud.deployer.physical_names()[stack][logical_id])

    def name_like(self, title: str, stack: str) -> str:
        """The physical name of the resource whose logical id is this title and CDK's hash."""
        (found,) = (name for logical_id, name in self.cloud.deployer.physical_names()[stack].items()
                    if logical_id[:-8] == title)
        return str(found)

    def titles(self) -> dict[str, tuple[str, str]]:
        """{physical name: (deployment, logical id)} of everything."""
        return {name: ("Plant2" if stack.startswith("Plant2") else "EdgeCloud", logical_id) for stack, names in
                self.cloud.deployer.physical_names().items() for logical_id, name in names.items()}

    def api(self) -> str:
        """The first deployment's API."""
        outputs = self.run(_async(self.cloud.endpoints))["outputs"]["EdgeCloudApi"]
        return str(outputs["ApiUrl"])


async def _async(call: Callable[[], T]) -> T:
    return call()


def eventually(probe: Callable[[], T], what: str) -> T:
    """The first truthy answer; fails after the deadline, which is long: a whole cloud is behind it."""
    found: T = waiting.eventually(probe, what, DEADLINE_S)
    return found


@cache
def sites() -> Sites:
    """Running until `ended`."""
    directory = Path(tempfile.mkdtemp(prefix="sites-rig-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Sites(directory)
    made.start()
    return made


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    """Where this is imported, the cloud stops with the module, while its threads can still be waited for."""
    yield
    if sites.cache_info().currsize:
        sites().stop()
        sites.cache_clear()
