"""Who may connect: things, the policy and its limits, certificate slots, and the variants for what exists already."""
import json
import re
from typing import Any

import pytest

from infra.device_stack import MAX_POLICY_CHARACTERS
from tests.synthesized import CERTIFICATE, EXISTING, listed, properties, resources, template, text

THING = "${iot:Connection.Thing.ThingName}"
ARN = "arn:aws:iot:eu-north-1:123456789012:"
SHADOW = "$aws/things/${iot:Connection.Thing.ThingName}/shadow/name/bridge/"
ATTACHMENTS = ("AWS::IoT::PolicyPrincipalAttachment", "AWS::IoT::ThingPrincipalAttachment")


def resolved(node: Any) -> Any:
    """A policy document with its references as text."""
    if isinstance(node, dict) and set(node) & {"Fn::Join", "Ref", "Fn::GetAtt"}:
        return text(node)
    if isinstance(node, dict):
        return {key: resolved(value) for key, value in node.items()}
    return [resolved(value) for value in node] if isinstance(node, list) else node


def policy(*context: tuple[str, str], title: str = "EdgeCloud") -> Any:
    (found,) = resources(template("Device", *context, title=title), "AWS::IoT::Policy").values()
    assert "PolicyName" not in found["Properties"]
    return resolved(found["Properties"]["PolicyDocument"])


def granted(document: Any) -> dict[str, set[str]]:
    return {one["Action"]: set(listed(one["Resource"])) for one in document["Statement"]}


def test_the_policy_allows_a_thing_its_own_name_and_topics() -> None:
    assert granted(policy()) == {
        "iot:Connect": {f"{ARN}client/{THING}"},
        "iot:Publish": {f"{ARN}topic/$aws/rules/edgecloud_readings/{THING}",
                        f"{ARN}topic/$aws/rules/edgecloud_events/{THING}",
                        f"{ARN}topic/edgecloud/alerts", f"{ARN}topic/edgecloud/status/{THING}",
                        f"{ARN}topic/{SHADOW}get", f"{ARN}topic/{SHADOW}update"},
        "iot:RetainPublish": {f"{ARN}topic/edgecloud/status/{THING}"},
        "iot:Subscribe": {f"{ARN}topicfilter/edgecloud/receipts/{THING}", f"{ARN}topicfilter/{SHADOW}*"},
        "iot:Receive": {f"{ARN}topic/edgecloud/receipts/{THING}", f"{ARN}topic/{SHADOW}*"}}


def test_a_connection_needs_a_certificate_attached_to_the_thing() -> None:
    (connect,) = (one for one in policy()["Statement"] if one["Action"] == "iot:Connect")
    assert connect["Condition"] == {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}


@pytest.mark.parametrize("name", ["edgecloud", "p" + "x" * 31])
def test_the_policy_fits_aws_limit(name: str) -> None:
    document = policy(("name", name), title="EdgeCloud" if name == "edgecloud" else name.capitalize())
    size = len(re.sub(r"\s", "", json.dumps(document)))
    assert size <= MAX_POLICY_CHARACTERS, f"got {size} characters without white space"


def test_two_slots_take_a_request_each_and_are_empty_by_default() -> None:
    found = template("Device")
    assert resources(found, "AWS::IoT::Thing")["EdgeCloudAWSThing"]["Properties"] == {"ThingName": "EdgeCloudAWS"}
    for slot in ("CsrA", "CsrB"):
        assert found["Parameters"][slot]["Type"] == "String" and found["Parameters"][slot]["Default"] == ""
        assert found["Conditions"][f"Has{slot}"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": slot}, ""]}]}
        made = [one for name, one in found["Resources"].items() if name.startswith(slot)]
        assert len(made) == 3 and {one["Condition"] for one in made} == {f"Has{slot}"}
        certificate = found["Resources"][f"{slot}Certificate"]
        assert certificate["Type"] == "AWS::IoT::Certificate"
        assert certificate["Properties"] == {"CertificateSigningRequest": {"Ref": slot}, "Status": "ACTIVE"}
        principal = {"Fn::GetAtt": [f"{slot}Certificate", "Arn"]}
        assert found["Resources"][f"{slot}PolicyAttachment"]["Properties"] == {
            "PolicyName": {"Ref": "Policy"}, "Principal": principal}
        to_thing = found["Resources"][f"{slot}ThingAttachment"]
        assert to_thing["Properties"] == {"ThingName": "EdgeCloudAWS", "Principal": principal}
        assert to_thing["DependsOn"] == ["EdgeCloudAWSThing"]
        output = found["Outputs"][f"{slot}CertificateId"]
        assert output["Condition"] == f"Has{slot}" and output["Value"] == {"Ref": f"{slot}Certificate"}


def test_without_a_request_an_output_names_the_next_step() -> None:
    condition, present, missing = template("Device")["Outputs"]["NextStep"]["Value"]["Fn::If"]
    either = [{"Condition": "HasCsrA"}, {"Condition": "HasCsrB"}]
    assert template("Device")["Conditions"][condition] == {"Fn::Or": either}
    assert missing.startswith("EdgeCloudAWS has no certificate yet: make provision (with the same CONTEXT) makes a key")
    assert present.startswith("make provision (with the same CONTEXT) writes and proves")
    second = template("Device", ("things", "EdgeCloudAWS,site-b"))["Outputs"]["SiteBNextStep"]["Value"]["Fn::If"][2]
    assert second.startswith("site-b has no certificate yet: make provision THING=site-b (with")


def test_an_existing_thing_with_its_certificate_only_gets_the_policy() -> None:
    found = template("Device", *EXISTING)
    assert not resources(found, "AWS::IoT::Thing") and not resources(found, "AWS::IoT::Certificate")
    assert not resources(found, "AWS::IoT::ThingPrincipalAttachment")
    (attachment,) = resources(found, "AWS::IoT::PolicyPrincipalAttachment").values()
    assert attachment["Properties"] == {"PolicyName": {"Ref": "Policy"}, "Principal": CERTIFICATE}
    assert set(found["Parameters"]) == {"BootstrapVersion"}
    said = found["Outputs"]["EdgeCloudAWSNextStep"]["Value"]
    assert "aws iot list-thing-principals --thing-name EdgeCloudAWS" in said


def test_an_existing_thing_without_certificate_keeps_the_slots() -> None:
    found = template("Device", EXISTING[0])
    assert not resources(found, "AWS::IoT::Thing")
    assert {"CsrA", "CsrB"} < set(found["Parameters"])
    assert "DependsOn" not in found["Resources"]["CsrAThingAttachment"]
    assert "make provision" in found["Outputs"]["NextStep"]["Value"]["Fn::If"][2]


def test_a_second_site_changes_nothing_of_the_first() -> None:
    one, two = template("Device"), template("Device", ("things", "EdgeCloudAWS,site-b"))
    for section in ("Parameters", "Conditions"):
        assert one[section].items() <= two[section].items()
    unchanged = {name: two["Resources"].get(name) for name in one["Resources"] if name != "ThingsParameter"}
    assert unchanged == {name: one["Resources"][name] for name in unchanged}
    assert properties(two, "SiteBThing") == {"ThingName": "site-b"}
    assert {"SiteBCsrA", "SiteBCsrB"} < set(two["Parameters"])
    assert properties(two, "SiteBCsrAThingAttachment")["ThingName"] == "site-b"


def test_what_the_bridge_must_know_is_in_the_outputs() -> None:
    outputs = {name: one["Value"] for name, one in template("Device")["Outputs"].items()}
    assert outputs["ReadingsRuleName"] == "edgecloud_readings" and outputs["EventsRuleName"] == "edgecloud_events"
    assert outputs["Things"] == "EdgeCloudAWS"
    assert outputs["RootCaCommand"] == (  # the bridge does not start without certs/AmazonRootCA1.pem
        "mkdir -p certs && curl -o certs/AmazonRootCA1.pem https://www.amazontrust.com/repository/AmazonRootCA1.pem")
    assert outputs["EndpointCommand"] == "aws iot describe-endpoint --endpoint-type iot:Data-ATS --region eu-north-1"
