"""All stacks together: what they hand each other, ids that must stay, and that two deployments fit one account."""
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local_cloud.assembly import load
from local_cloud.template_check import faults_of
from tests import template_snapshots
from tests.privileges import WITHOUT_RESOURCE
from tests.synthesized import EXISTING, PARTS, Context, assembly, flags, statements, template, templates

VARIANTS: list[Context] = [(), EXISTING, (("name", "plant2"), ("ephemeral", "true"), ("things", "EdgeCloudAWS,site-b"))]
PHYSICAL = {"TableName", "BucketName", "QueueName", "FunctionName", "RoleName", "PolicyName", "LogGroupName",
            "RuleName", "ThingName", "DeliveryStreamName", "TopicName", "AlarmName"}
# A new logical id would make AWS create an empty table beside the full one: these must never change.
STATEFUL_IDS = {
    "Storage": {"Readings": "AWS::DynamoDB::Table", "Rollups": "AWS::DynamoDB::Table",
                "Alerts": "AWS::DynamoDB::Table", "Archive": "AWS::S3::Bucket"},
    "Device": {"EdgeCloudAWSThing": "AWS::IoT::Thing", "CsrACertificate": "AWS::IoT::Certificate",
               "CsrBCertificate": "AWS::IoT::Certificate", "Policy": "AWS::IoT::Policy"},
    "Ingest": {"ReadingsQueue": "AWS::SQS::Queue", "EventsQueue": "AWS::SQS::Queue", "AlertsQueue": "AWS::SQS::Queue",
               "ReadingsDeadLetters": "AWS::SQS::Queue", "EventsDeadLetters": "AWS::SQS::Queue",
               "AlertsDeadLetters": "AWS::SQS::Queue", "StreamDeadLetters": "AWS::SQS::Queue"},
}


def everything(*context: tuple[str, str], title: str = "EdgeCloud") -> list[dict[str, Any]]:
    return [one for found in templates(*context, title=title).values() for one in found["Resources"].values()]


@pytest.mark.parametrize("part", sorted(STATEFUL_IDS))
def test_logical_ids_of_what_holds_state_never_change(part: str) -> None:
    found = template(part)["Resources"]
    wrong = {name: kind for name, kind in STATEFUL_IDS[part].items() if found.get(name, {}).get("Type") != kind}
    assert not wrong, f"missing {sorted(wrong)}; there are {sorted(found)}"


@pytest.mark.parametrize("context", VARIANTS)
def test_stacks_share_names_by_parameters_alone(context: Context) -> None:
    title = "Plant2" if ("name", "plant2") in context else "EdgeCloud"
    found = templates(*context, title=title)
    whole = json.dumps(found)
    assert "Fn::ImportValue" not in whole and '"Export"' not in whole
    given = {one["Properties"]["Name"] for one in everything(*context, title=title)
             if one["Type"] == "AWS::SSM::Parameter"}
    taken = {one["Default"] for one_template in found.values() for name, one in one_template["Parameters"].items()
             if one["Type"].startswith("AWS::SSM::Parameter::Value") and name != "BootstrapVersion"}
    assert taken and taken <= given
    assert given and all(name.startswith(f"/{title.lower()}/") for name in given)


def test_stacks_are_deployed_after_those_they_read_from() -> None:
    manifest = json.loads((assembly() / "manifest.json").read_text())["artifacts"]
    for reader in ("EdgeCloudIngest", "EdgeCloudApi"):
        assert "EdgeCloudStorage" in manifest[reader]["dependencies"]


def test_what_is_kept_has_no_name_of_its_own() -> None:
    for one in everything():
        if one.get("DeletionPolicy") == "Retain":
            assert not PHYSICAL & set(one["Properties"]), one


def physical_names(context: Context, title: str) -> Counter[tuple[str, str]]:
    names = Counter[tuple[str, str]]()
    for one in everything(*context, title=title):
        if one["Type"].endswith("Attachment"):
            continue  # names something else
        for key in PHYSICAL & set(one.get("Properties", {})):
            if isinstance(one["Properties"][key], str):
                names[one["Type"], one["Properties"][key]] += 1
        if one["Type"] == "AWS::SSM::Parameter":
            names[one["Type"], one["Properties"]["Name"]] += 1
    return names


def test_two_deployments_fit_one_account() -> None:
    second: Context = (("name", "plant2"), ("things", "Plant2Bridge"))
    one, two = physical_names((), "EdgeCloud"), physical_names(second, "Plant2")
    assert ("AWS::IoT::TopicRule", "plant2_alerts") in two and ("AWS::IoT::TopicRule", "edgecloud_alerts") in one
    assert not set(one) & set(two)
    assert set((one + two).values()) == {1}
    stacks = {path.name for path in assembly(*second).glob("*.template.json")}
    assert stacks == {f"Plant2{part}.template.json" for part in PARTS}


def test_region_and_tags_are_those_of_the_deployment() -> None:
    context: Context = (("name", "plant2"), ("region", "eu-west-1"))
    manifest = json.loads((assembly(*context) / "manifest.json").read_text())["artifacts"]
    stacks = [one for one in manifest.values() if one["type"] == "aws:cloudformation:stack"]
    assert len(stacks) == len(PARTS)
    for stack in stacks:
        assert stack["environment"] == "aws://unknown-account/eu-west-1"
        assert stack["properties"]["tags"] == {"deployment": "plant2", "project": "EdgeCloud"}
    assert "eu-north-1" not in json.dumps(templates(*context, title="Plant2"))


@pytest.mark.parametrize("context", VARIANTS)
def test_no_custom_resource_and_no_policy_that_allows_everything(context: Context) -> None:
    title = "Plant2" if ("name", "plant2") in context else "EdgeCloud"
    for one in everything(*context, title=title):
        assert not one["Type"].startswith("Custom::") and one["Type"] != "AWS::CloudFormation::CustomResource"
        assert "ManagedPolicyArns" not in one.get("Properties", {}), "AWS's own are wider than what is needed"
        if one["Type"] == "AWS::IAM::Role":
            for action, resource in statements(one["Properties"]):
                assert "*" not in action
                assert resource != "*" or action in WITHOUT_RESOURCE, f"{action}: name its resource"


@pytest.mark.parametrize("context", VARIANTS)
def test_the_local_cloud_knows_every_resource(context: Context) -> None:
    assert [fault for stack in load(assembly(*context)).stacks for fault in faults_of(stack)] == []


def test_cfn_lint_has_nothing_to_say() -> None:
    found = [str(path) for context in VARIANTS for path in sorted(assembly(*context).glob("*.template.json"))]
    assert len(found) == len(VARIANTS) * len(PARTS)
    done = subprocess.run([str(Path(sys.executable).parent / "cfn-lint"), "--non-zero-exit-code", "informational",
                           "-r", "eu-north-1", "-t", *found],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("part", PARTS)
def test_the_template_is_the_one_last_looked_at(part: str) -> None:
    kept = (template_snapshots.FOLDER / f"EdgeCloud{part}.json").read_text(encoding="utf-8")
    assert template_snapshots.masked(template(part)) == kept, (
        f"the {part} template changed; if that was meant, run `make snapshot` and look at the difference")


def test_every_recommended_flag_of_cdk_is_set() -> None:
    import tarfile

    import aws_cdk

    (package,) = (Path(aws_cdk.__file__).parent / "_jsii").glob("aws-cdk-lib@*.jsii.tgz")
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name == "package/recommended-feature-flags.json":
                file = archive.extractfile(member)
                assert file is not None and json.load(file) == flags()
                return
    raise AssertionError(f"{package} holds no recommended-feature-flags.json")


def test_cdk_json_adds_nothing_to_the_templates() -> None:
    settings = json.loads((Path(__file__).parent.parent / "cdk.json").read_text())
    assert [settings[key] for key in ("versionReporting", "pathMetadata", "assetMetadata")] == [False] * 3
