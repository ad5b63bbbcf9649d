"""docs/extending.md, word for word, in a copy of the tree: files written, changes applied, commands run."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import ROOT
from tests.bridge_rig import Mosquitto

TEXT = (ROOT / "docs" / "extending.md").read_text()
PARTS = ("contract", "device", "edge_bridge", "infra", "lambdas", "deploy", "tests", "local_cloud")
TOP = ("app.py", "cdk.json", "pyproject.toml", "requirements.txt", "Makefile")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/extending.md has no section {title!r}"
    return found.group(1)


class Copy:
    """The tree with what a section says done to it."""

    def __init__(self, directory: Path, title: str) -> None:
        self.directory, self._text = directory, section(title)
        directory.mkdir()
        (directory / ".venv").symlink_to(sys.prefix)  # what `make setup-dev` makes
        for part in PARTS:
            shutil.copytree(ROOT / part, directory / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        for name in TOP:
            shutil.copy(ROOT / name, directory / name)
        for name, content in re.findall(r"^```\w+ file=(\S+)\n(.*?)^```", self._text, re.MULTILINE | re.DOTALL):
            path = directory / name
            assert not path.exists(), f"{name} is there already: the document would overwrite it"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        for change in re.findall(r"^```diff\n(.*?)^```", self._text, re.MULTILINE | re.DOTALL):
            self._apply(change)

    def _apply(self, change: str) -> None:
        """Each hunk: the lines with a space or a minus must stand in the file, once; those with a plus come in."""
        name = re.findall(r"^\+\+\+ b/(\S+)$", change, re.MULTILINE)
        assert len(name) == 1, change
        path = self.directory / name[0]
        for hunk in re.split(r"^@@.*@@\n", change, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            text = path.read_text()
            assert text.count(before) == 1, f"{name[0]} has {text.count(before)} times:\n{before}"
            path.write_text(text.replace(before, after))

    def commands(self) -> list[str]:
        return re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```", "", self._text, flags=re.MULTILINE | re.DOTALL),
                          re.MULTILINE)

    def run(self, command: str, **environment: str) -> str:
        """What it prints; `.venv` is that of this interpreter."""
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.directory, text=True, capture_output=True, timeout=200,
            env={**os.environ, **environment})
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.mark.needs("mosquitto")
def test_a_sensor(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    try:
        copy = Copy(tmp_path / "tree", "A sensor")
        [publish] = copy.commands()
        copy.run(publish, PORT=str(broker.port))
        made = [json.loads(line) for line in (copy.directory / "barn.jsonl").read_text().splitlines()]
        assert [reading["values"] for reading in made] == [{"sensor1": 20.0, "sensor2": 0.5, "weight_kg": 412.5}] * 3
    finally:
        broker.close()


def test_a_detector(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "tree", "A detector")
    [backtest] = copy.commands()
    lines = copy.run(backtest).splitlines()
    assert len(lines) == 5 and [line for line in lines if line.endswith(",spike")] == [lines[3]]
    known = copy.run(".venv/bin/python -c 'from edge_bridge import settings; print(settings.help_text())'")
    assert "DETECTOR" in known
    made = copy.run(".venv/bin/python -c \"from edge_bridge import detectors; made = detectors.factory('limits'); "
                    "one, other = made(), made(); one.update(0.5, 0); other.restore(one.state()); "
                    "print(other.state() == one.state() != made().state())\"")
    assert made == "True\n"


def test_a_rule_with_its_lambda(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "tree", "A rule with its Lambda")
    lacks, synthesize = copy.commands()
    copy.run(lacks)
    copy.run(synthesize, CDK_OUTDIR=str(tmp_path / "cdk.out"))
    ingest = json.loads((tmp_path / "cdk.out" / "EdgeCloudIngest.template.json").read_text())["Resources"].values()
    [rule] = [one["Properties"]["TopicRulePayload"] for one in ingest if one["Type"] == "AWS::IoT::TopicRule"
              and one["Properties"]["RuleName"] == "edgecloud_notes"]
    assert "FROM 'edgecloud/notes/+' WHERE clientid() = 'EdgeCloudAWS'" in rule["Sql"]
    assert [one for one in ingest if one["Type"] == "AWS::Lambda::Function"
            and one["Properties"]["Handler"] == "lambdas.note.handler"]
    device = (tmp_path / "cdk.out" / "EdgeCloudDevice.template.json").read_text()
    assert "edgecloud/notes/${iot:Connection.Thing.ThingName}" in device
    assert copy.run(_STORE_A_NOTE) == "EdgeCloudAWS The north gate was open from 7 to 8.\n"


# The function as it is packed, on a table of moto's, with a message as the rule hands it on; twice, as a queue may.
_STORE_A_NOTE = """.venv/bin/python -c '
import json, os
import boto3
from moto import mock_aws
os.environ.update(ROLLUPS_TABLE="rollups", ROLLUP_RETENTION_DAYS="400", AWS_DEFAULT_REGION="eu-north-1",
                  AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
with mock_aws():
    client = boto3.client("dynamodb")
    client.create_table(TableName="rollups", BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}])
    from lambdas import note
    body = json.dumps({**json.load(open("contract/examples/notes.json")), "site": "EdgeCloudAWS"})
    for _ in range(2):
        assert note.handler({"Records": [{"messageId": "m", "body": body}]}, None) == {"batchItemFailures": []}
    assert note.handler({"Records": [{"messageId": "m", "body": "[]"}]}, None)["batchItemFailures"]
    [item] = client.scan(TableName="rollups")["Items"]
    print(item["site"]["S"], item["text"]["S"])
'"""


def test_a_change_that_no_longer_fits_is_seen(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "tree", "A sensor")
    with pytest.raises(AssertionError, match=r"cdk.json has 0 times"):
        copy._apply("--- a/cdk.json\n+++ b/cdk.json\n@@ -1 +1 @@\n nothing like this\n+new\n")
