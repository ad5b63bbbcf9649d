"""docs/from-zero-to-aws.md, walked command by command: what a block says is what runs, against a running local cloud.

Only paths and ports are replaced, so that it does not meet a rehearsal that you have going yourself.
"""
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from contract import numbers
from deploy.processes import ROOT, Part, free_port, listening, wait_until
from deploy.provision_stack import DeviceStack
from tests import cloud_rig
from tests.cloud_rig import Cloud

DOCUMENT = ROOT / "docs" / "from-zero-to-aws.md"
THING = "EdgeCloudAWS"
DEADLINE_S = 120
# make as the document says it, but into this Python, whose packages are there, and to the cloud of the tests.
MAKE = 'make() { command make --no-print-directory -o setup "PY=$PYTHON" "CLOUD=$CLOUD" "$@"; }\n'


class Block(NamedTuple):
    """A fenced block: how it is run ("", "stays": until stopped, "aws": not here), and its text."""

    how: str
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```sh ?(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(how, text) for how, text in found]


class Walk:
    """Runs blocks in order; those that stay run until the end."""

    def __init__(self, cloud: Cloud) -> None:
        ready, self.directory = cloud_rig.ready(cloud), cloud.ready_file.parent
        self.lan_port = free_port(21884)
        self.replaced = {"1884": str(self.lan_port), ".venv/bin/python": sys.executable, ".cloud": str(self.directory),
                         "http://127.0.0.1:5000": ready["endpoints"]["api"].rstrip("/")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = {**kept, "PYTHON": sys.executable, "CLOUD": str(cloud.ready_file), "STATUS_INTERVAL": "1",
                            "BATCH_AGE": "1", "MQTT_PORT": str(self.lan_port), "AWS_EC2_METADATA_DISABLED": "true"}
        self.staying: list[Part] = []

    def script(self, text: str) -> list[str]:
        for said, here in self.replaced.items():
            text = text.replace(said, here)
        return ["bash", "-ec", MAKE + text]

    def run(self, text: str) -> str:
        """The output of a block that ends. Fails with it when a command does."""
        done = subprocess.run(self.script(text), cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
        assert done.returncode == 0, "\n".join([text, done.stdout, *(part.tail() for part in self.staying)])
        return done.stdout

    def start(self, text: str) -> None:
        part = Part("a block that stays", self.script(text), self.directory / f"walk-{len(self.staying)}.log",
                    self.environment)
        self.staying.append(part.start())

    def close(self) -> None:
        for part in reversed(self.staying):
            if part.process is not None and part.running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(part.process.pid, signal.SIGTERM)
            part.stop()


@pytest.fixture
def walk() -> Iterator[Walk]:
    cloud = cloud_rig.cloud()
    stack = DeviceStack(cloud.target, THING)
    for slot in stack.slots():
        if not slot.is_empty:
            stack.fill(slot, "")
    cloud.target.table("rollups").delete_item(Key={"pk": "status", "sk": THING})  # no bridge was ever there
    walking = Walk(cloud)
    yield walking
    walking.close()


@pytest.mark.timeout(400)
def test_the_rehearsal_works_as_it_is_written(walk: Walk) -> None:
    seen: list[str] = []
    for how, text in blocks():
        if text == "make cloud\n" or how == "aws":
            continue  # cloud_rig runs the first; its command line is compared below
        if how == "stays":
            walk.start(text)
            if "lan_broker" in text:
                wait_until("the LAN broker", lambda: listening(walk.lan_port), DEADLINE_S)
        elif text.startswith("curl"):
            wait_for_readings(walk, text, 30)
        elif "ROTATE=1" in text:
            rotate(walk, text)
        else:
            seen.append(walk.run(text))
        for part in walk.staying:
            part.check()
    assert "PUBACK 0" in seen[0] and "verify: all agree" in seen[1] and len(walk.staying) == 2
    keys = sorted(path.name for path in (walk.directory / "certs").iterdir())
    assert keys == ["AmazonRootCA1.pem", f"{THING}.crt", f"{THING}.key", "bridge.env"]


def wait_for_readings(walk: Walk, command: str, wanted: int) -> None:
    """The document's own curl, until it shows so many readings, each once and in order."""
    def arrived() -> bool:
        for part in walk.staying:
            part.check()
        answer = numbers.loads(walk.run(command))
        return len(answer.get("readings", [])) >= wanted

    wait_until(f"{wanted} readings\n{walk.staying[-1].tail()}", arrived, DEADLINE_S, every_s=0.5)
    sequence = [one["seq"] for one in numbers.loads(walk.run(command))["readings"]]
    assert sequence == list(range(sequence[0], sequence[0] - wanted, -1))


def rotate(walk: Walk, text: str) -> None:
    """The block with the renewal: the bridge goes on with the new certificate, nothing is lost."""
    *before, curl, after = text.splitlines()
    said = walk.run("\n".join(before))
    assert "is INACTIVE" in said
    wait_for_readings(walk, curl, 60)
    assert "it is taken up" in walk.staying[-1].log.read_text(), "the bridge says so"
    assert "is deleted" in walk.run(after)


def test_make_cloud_is_what_the_tests_run() -> None:
    command = ["make", "--no-print-directory", "-n", "-o", "setup", "PY=PYTHON", "cloud", "CLOUD=c.json"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["PYTHON", "-m", "deploy.cloud", "--context", '""', "--ready-file", '"c.json"']
    assert Block("stays", "make cloud\n") in blocks()


def test_aws_gets_the_commands_that_were_rehearsed() -> None:
    walked = {line for how, text in blocks() if how != "aws" for line in text.splitlines()}
    same = [line for how, text in blocks() if how == "aws" for line in text.splitlines()
            if line.startswith(("make provision", "make verify"))]
    assert len(same) == 4
    for line in same:
        verb, _, rest = line.partition(" ")[2].partition(" ")
        assert f"make {verb} TARGET=local {rest}".strip() in walked


def test_every_file_that_is_named_is_there() -> None:
    for name in re.findall(r"(?:-f |\]\()([\w./-]+\.(?:md|yaml|py))", DOCUMENT.read_text()):
        assert (ROOT / name).exists() or (DOCUMENT.parent / name).exists(), name
