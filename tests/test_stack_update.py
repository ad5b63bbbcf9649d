"""A deployed stack and other parameters: what appears, changes, is replaced, goes; and that a fault takes all back."""

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local_cloud import stack_update
from local_cloud.cloudformation_api import CloudFormationApi
from local_cloud.deployer import Deployer
from local_cloud.errors import DeployError, Unsupported
from local_cloud.http_wire import Request
from tests.deployer_rig import QUEUE, RecordedServices, deploy, stack
from tests.gateway_rig import make_csr

ONE, TWO = (make_csr(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}


@pytest.fixture()
def services(tmp_path: Path) -> RecordedServices:
    return RecordedServices(tmp_path)


def slot(name: str) -> dict[str, Any]:
    """A certificate with its attachment, there as long as the parameter `name` is filled."""
    return {
        f"{name}Certificate": {"Type": "AWS::IoT::Certificate", "Condition": f"Has{name}", "Properties": {
            "Status": {"Ref": "Status"}, "CertificateSigningRequest": {"Ref": name}}},
        f"{name}Attachment": {"Type": "AWS::IoT::PolicyPrincipalAttachment", "Condition": f"Has{name}", "Properties": {
            "PolicyName": {"Ref": "Policy"}, "Principal": {"Fn::GetAtt": [f"{name}Certificate", "Arn"]}}}}


def devices(**more: Any) -> Any:
    return stack(
        {"Policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": POLICY}}, **slot("A"), **slot("B"),
         **more},
        Parameters={"A": {"Type": "String", "Default": ""}, "B": {"Type": "String", "Default": ""},
                    "Status": {"Type": "String", "Default": "ACTIVE"}, "Name": {"Type": "String", "Default": "n"}},
        Conditions={f"Has{name}": {"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]} for name in "AB"},
        Outputs={f"{name}Id": {"Value": {"Ref": f"{name}Certificate"}, "Condition": f"Has{name}"} for name in "AB"})


def update(made: Deployer, **given: str) -> bool:
    return asyncio.run(stack_update.update(made, "S", given))


def attached(services: RecordedServices) -> dict[str, int]:
    return {identity: len(one.policies) for identity, one in services.registry.certificates.items()}


def test_what_a_parameter_adds_and_takes_away_comes_and_goes(services: RecordedServices) -> None:
    made = deploy(services, devices(), S={"A": ONE})
    first = made.outputs()["S"]["AId"]
    assert update(made, A=ONE, B=TWO)
    ids = made.outputs()["S"]
    assert ids["AId"] == first and attached(services) == {ids["AId"]: 1, ids["BId"]: 1}
    assert update(made, B=TWO)
    assert made.outputs()["S"] == {"BId": ids["BId"]} and attached(services) == {ids["BId"]: 1}
    assert not update(made, B=TWO), "the same parameters change nothing"
    assert asyncio.run(made.destroy()) == [] and attached(services) == {}
    asyncio.run(made.deploy())
    assert set(made.outputs()["S"]) == {"BId"}, "a later deployment keeps the parameters"


def test_a_changed_request_replaces_the_certificate_and_what_hangs_on_it(services: RecordedServices) -> None:
    made = deploy(services, devices(), S={"A": ONE})
    first = made.outputs()["S"]["AId"]
    assert update(made, A=TWO)
    second = made.outputs()["S"]["AId"]
    assert first != second and attached(services) == {second: 1}
    assert asyncio.run(made.destroy()) == []


def test_a_status_changes_in_place(services: RecordedServices) -> None:
    made = deploy(services, devices(), S={"A": ONE})
    identity = made.outputs()["S"]["AId"]
    assert update(made, A=ONE, Status="INACTIVE")
    assert made.outputs()["S"]["AId"] == identity
    assert services.registry.certificate(identity).status == "INACTIVE"


@pytest.mark.parametrize(("change", "kind", "text"), [
    ({"B": "no request"}, DeployError, "resource BCertificate (AWS::IoT::Certificate): CertificateSigningRequest"),
    ({"Status": "ASLEEP"}, DeployError, "resource ACertificate (AWS::IoT::Certificate): certificate status 'ASLEEP'"),
    ({"Name": "m", "B": TWO}, Unsupported, "resource Queue (AWS::SQS::Queue): changing QueueName of a deployed"),
    ({"Colour": "red"}, DeployError, "parameter Colour is not declared")])
def test_a_fault_leaves_the_stack_as_it_was(
        services: RecordedServices, change: dict[str, str], kind: type[Exception], text: str) -> None:
    queue = {**QUEUE, "Properties": {"QueueName": {"Ref": "Name"}}, "DependsOn": ["BAttachment", "AAttachment"]}
    made = deploy(services, devices(Queue=queue), S={"A": ONE})
    before = made.outputs(), made.physical_names(), attached(services), made.given("S")
    with pytest.raises(kind) as fault:
        update(made, **{"A": ONE, **change})
    assert text in str(fault.value)
    assert (made.outputs(), made.physical_names(), attached(services), made.given("S")) == before
    assert services.queues.names() == ["n"]


def test_a_status_is_taken_back_with_the_rest(services: RecordedServices) -> None:
    made = deploy(services, devices(), S={"A": ONE})
    with pytest.raises(DeployError, match="BCertificate"):
        update(made, A=ONE, B="no request", Status="INACTIVE")
    assert services.registry.certificate(made.outputs()["S"]["AId"]).status == "ACTIVE"


def test_what_cannot_be_deleted_stays_behind_and_the_update_stands(services: RecordedServices) -> None:
    made = deploy(services, devices(), S={"A": ONE})
    identity = made.outputs()["S"]["AId"]
    services.registry.add_thing("holds-it")
    services.registry.attach_thing("holds-it", identity)
    assert update(made, B=TWO)
    assert set(made.outputs()["S"]) == {"BId"} and attached(services)[identity] == 0


class Client:
    """Sends forms of the query protocol to the API."""

    def __init__(self, made: Deployer) -> None:
        self._api = CloudFormationApi(lambda: made, asyncio.Lock())

    def ask(self, action: str, **form: str) -> tuple[int, str]:
        body = urlencode({"Action": action, "Version": "2010-05-15", **form}).encode()
        answer = asyncio.run(self._api.handle(Request("POST", "/", [], body)))
        return answer.status, answer.body.decode()


def parameters(**given: str | None) -> dict[str, str]:
    """Parameters.member.N of UpdateStack; None: its previous value."""
    form = {}
    for index, (key, value) in enumerate(given.items(), 1):
        form[f"Parameters.member.{index}.ParameterKey"] = key
        name, text = ("UsePreviousValue", "true") if value is None else ("ParameterValue", value)
        form[f"Parameters.member.{index}.{name}"] = text
    return form


def test_the_api_updates_describes_and_says_why_not(services: RecordedServices) -> None:
    client = Client(deploy(services, devices(), S={"A": ONE}))
    same = {"StackName": "S", "UsePreviousTemplate": "true"}
    first = client.ask("DescribeStacks", StackName="S")[1]
    assert "<StackStatus>CREATE_COMPLETE</StackStatus>" in first
    status, text = client.ask("UpdateStack", **same, **parameters(A=None, B=TWO, Status=None, Name=None))
    stack_id = text.partition("<StackId>")[2].partition("</StackId>")[0]
    assert status == 200 and stack_id.startswith("arn:aws:cloudformation:eu-north-1:123456789012:stack/S/")
    described = client.ask("DescribeStacks", StackName=stack_id)[1]
    assert "<StackStatus>UPDATE_COMPLETE</StackStatus>" in described and "<OutputKey>BId</OutputKey>" in described
    made_at = re.search("<CreationTime>[^<]+</CreationTime>", first)
    assert made_at is not None and made_at[0] in described, "a stack is made once, however often it is asked for"
    assert client.ask("UpdateStack", **same, **parameters(A=None, B=None, Status=None, Name=None)) == (
        400, client.ask("UpdateStack", **same, **parameters(A=None, B=None))[1])
    status, text = client.ask("UpdateStack", **same, **parameters(A=None, B="<no request>"))
    assert status == 200, "an update that fails is told by the stack's status, as on AWS"
    assert "<StackStatus>UPDATE_ROLLBACK_COMPLETE</StackStatus>" in client.ask("DescribeStacks")[1]
    assert "CertificateSigningRequest: CSR is no PEM" in client.ask("DescribeStackEvents", StackName="S")[1]


@pytest.mark.parametrize(("action", "form", "status", "text"), [
    ("DescribeStacks", {"StackName": "T"}, 400, "Stack with id T does not exist"),
    ("DeleteStack", {"StackName": "S"}, 501, "CloudFormation DeleteStack is not emulated; known: DescribeStacks"),
    ("UpdateStack", {"StackName": "S", "TemplateBody": "{}"}, 400, "give UsePreviousTemplate=true"),
    ("UpdateStack", {"StackName": "S", "UsePreviousTemplate": "true", "Tags.member.1.Key": "k"}, 400,
     "Tags.member.1.Key is not emulated"),
    ("UpdateStack", {"StackName": "S", "UsePreviousTemplate": "true", **parameters(Colour=None)}, 400,
     "[Colour] has no previous value"),
    ("UpdateStack", {"StackName": "S", "UsePreviousTemplate": "true", **parameters(Colour="red")}, 400,
     "Parameters: [Colour] do not exist in the template"),
    ("UpdateStack", {"StackName": "S", "UsePreviousTemplate": "true"}, 400, "No updates are to be performed.")])
def test_the_api_refuses_what_it_does_not_do(
        services: RecordedServices, action: str, form: dict[str, str], status: int, text: str) -> None:
    found, answer = Client(deploy(services, devices())).ask(action, **form)
    assert found == status and text in answer
