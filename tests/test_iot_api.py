"""IoT's control-plane API of the local cloud: certificates, policies and rules by boto3's own requests; refusals."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec

from local_cloud.http_wire import Request, Response
from local_cloud.iot_api import IotApi
from tests.aws_server import client, served
from tests.gateway_rig import make_csr
from tests.test_deployer import RecordedServices

POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}'
CSR = make_csr(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def services(tmp_path: Path) -> RecordedServices:
    return RecordedServices(tmp_path)


@pytest.fixture
def iot(services: RecordedServices) -> Iterator[Any]:
    """boto3's client of the API, served on a port of its own."""
    api = IotApi(services.registry, lambda: "localhost:1", services.pki, services.rules)

    async def handle(request: Request) -> Response:
        return api.handle(request)

    with served(handle) as url:
        yield client("iot", url)


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    return str(refusal.value.response["Error"]["Code"])


def test_a_certificate_and_its_policy_come_and_go(iot: Any, services: RecordedServices) -> None:
    made = iot.create_certificate_from_csr(certificateSigningRequest=CSR, setAsActive=True)
    identity, arn = made["certificateId"], made["certificateArn"]
    assert services.registry.certificate(identity).pem == made["certificatePem"]
    iot.create_policy(policyName="p", policyDocument=POLICY)
    iot.attach_policy(policyName="p", target=arn)
    assert [one["policyName"] for one in iot.list_attached_policies(target=arn)["policies"]] == ["p"]
    assert refused(iot.delete_policy, policyName="p") == "DeleteConflictException"
    assert refused(iot.delete_certificate, certificateId=identity) == "CertificateStateException"
    iot.update_certificate(certificateId=identity, newStatus="INACTIVE")
    assert refused(iot.delete_certificate, certificateId=identity) == "DeleteConflictException"
    iot.detach_policy(policyName="p", target=arn)
    iot.delete_certificate(certificateId=identity)
    iot.delete_policy(policyName="p")
    assert services.registry.certificates == {} and services.registry.policies == {}
    assert refused(iot.delete_policy, policyName="p") == "ResourceNotFoundException"


def test_a_certificate_is_inactive_unless_asked(iot: Any) -> None:
    made = iot.create_certificate_from_csr(certificateSigningRequest=CSR)
    found = iot.describe_certificate(certificateId=made["certificateId"])["certificateDescription"]
    assert found["status"] == "INACTIVE"


def test_a_rule_runs_until_it_is_deleted(iot: Any, services: RecordedServices) -> None:
    payload = {"sql": "SELECT 1 AS x FROM 'a'", "awsIotSqlVersion": "2016-03-23", "ruleDisabled": False,
               "actions": [{"republish": {"topic": "b", "qos": 1, "roleArn": "arn:aws:iam::1:role/r"}}]}
    iot.create_topic_rule(ruleName="r", topicRulePayload=payload)
    assert [rule["ruleName"] for rule in iot.list_topic_rules()["rules"]] == ["r"]
    assert services.rules.rule("r").actions[0].name == "RepublishAction"
    assert refused(iot.create_topic_rule, ruleName="r", topicRulePayload=payload) == "ResourceAlreadyExistsException"
    iot.delete_topic_rule(ruleName="r")
    iot.delete_topic_rule(ruleName="r")
    assert services.rules.names() == []


@pytest.mark.parametrize(("operation", "arguments", "code"), [
    ("create_topic_rule", {"ruleName": "r", "topicRulePayload": {"sql": "SELECT FROM", "actions": []}},
     "SqlParseException"),
    ("create_topic_rule", {"ruleName": "r", "topicRulePayload": {
        "sql": "SELECT 1 AS x FROM 'a'", "awsIotSqlVersion": "2016-03-23",
        "actions": [{"kinesis": {"streamName": "s", "roleArn": "r"}}]}},
     "InvalidRequestException"),
    ("create_policy", {"policyName": "p", "policyDocument": '{"Statement": [{"Effect": "Perhaps"}]}'},
     "MalformedPolicyException"),
    ("create_certificate_from_csr", {"certificateSigningRequest": "no request"}, "InvalidRequestException"),
    ("attach_policy", {"policyName": "p", "target": "arn:aws:iot:eu-north-1:123456789012:cert/0"},
     "ResourceNotFoundException"),
    ("update_certificate", {"certificateId": "0" * 64, "newStatus": "ACTIVE"}, "ResourceNotFoundException"),
    ("list_jobs", {}, "NotImplementedException")])
def test_what_it_refuses_has_awss_name(iot: Any, operation: str, arguments: dict[str, Any], code: str) -> None:
    assert refused(getattr(iot, operation), **arguments) == code


def test_limits_and_unknown_values_are_no_missing_resources(iot: Any) -> None:
    made = iot.create_certificate_from_csr(certificateSigningRequest=CSR)
    assert refused(iot.update_certificate, certificateId=made["certificateId"],
                   newStatus="SLEEPING") == "InvalidRequestException"
    for number in range(11):
        iot.create_policy(policyName=f"p{number}", policyDocument=POLICY)
    for number in range(10):
        iot.attach_policy(policyName=f"p{number}", target=made["certificateArn"])
    assert refused(iot.attach_policy, policyName="p10", target=made["certificateArn"]) == "LimitExceededException"


@pytest.mark.parametrize("body", (b"{", b"[]", b"\xff", b"{}"))
def test_a_body_that_is_none_is_refused(services: RecordedServices, body: bytes) -> None:
    api = IotApi(services.registry, lambda: "localhost:1", services.pki, services.rules)
    answer = api.handle(Request("POST", "/policies/p", [], body))
    assert answer.status == 400 and dict(answer.headers)["x-amzn-ErrorType"] == "InvalidRequestException"
