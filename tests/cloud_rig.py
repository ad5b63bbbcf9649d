"""A local cloud as `make cloud` runs it, one for all tests of a process; what uses it finds it by its ready file.

Quotas are lifted: a thing that connects once a second at most would make the tests wait.
"""
import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deploy import target
from deploy.processes import ROOT, Part, python_module
from deploy.synth import synthesize
from deploy.target import Target
from infra.settings import Settings, product_version, read

READY_S = 120
ASSEMBLY = ROOT / ".demo" / "cdk.out"  # shared with the end-to-end tests: synthesized once


@dataclass(frozen=True)
class Cloud:
    """ready_file: as CLOUD= wants it; told: what the command printed."""

    part: Part
    ready_file: Path

    @property
    def told(self) -> str:
        return self.part.log.read_text()

    @property
    def target(self) -> Target:
        return target.local(settings(), self.ready_file)

    def registered(self) -> dict[str, dict[str, Any]]:
        """Every certificate by its id."""
        found = self.target.client("iot").list_certificates()["certificates"]
        return {one["certificateId"]: one for one in found}


def settings(**context: str) -> Settings:
    return read(context, product_version())


@cache
def cloud() -> Cloud:
    """Running; it ends with the process."""
    directory = Path(tempfile.mkdtemp(prefix="cloud-rig-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    synthesize(ASSEMBLY)
    shutil.copytree(ASSEMBLY, directory / "cdk.out")
    ready_file = directory / "cloud.json"
    part = Part("make cloud", python_module("deploy.cloud", "--ready-file", str(ready_file), "--quotas", "lifted",
                                            "--gateway-port", "0", "--api-port", "0", "--web-port",
                                            "0"), directory / "told.log")
    running = Cloud(part, ready_file)
    atexit.register(part.stop)
    part.start().wait_ready("its addresses", lambda: "Ctrl-C" in running.told if part.log.exists() else False, READY_S)
    return running


def ready(running: Cloud) -> dict[str, Any]:
    """What it says of itself."""
    return dict(json.loads(running.ready_file.read_text()))
