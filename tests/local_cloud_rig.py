"""Local clouds for tests: a foreign assembly run as a user runs it (`python -m local_cloud`), and small assemblies.

The foreign assembly (tests/data/foreign_cdk_out) is none of EdgeCloud's: a greenhouse with beds and a door.
"""

import contextlib
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
FOREIGN = Path(__file__).parent / "data" / "foreign_cdk_out"
DEADLINE_S = 120
ANY_PORT = ("--gateway-port", "0", "--api-port", "0", "--web-port", "0")


def make_request(directory: Path) -> Path:
    """A private key and a certificate signing request in `directory`; the request's path."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "soil-probe")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (directory / "probe.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (directory / "probe.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    return directory / "probe.csr"


@dataclass
class Running:
    """A local cloud as a process; `ready` is its ready file."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    directory: Path
    log: Path

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.ready["endpoints"]["aws"],
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return http(method, self.ready["endpoints"]["control"] + path, body)

    def outputs(self, stack: str) -> dict[str, str]:
        return self.ready["outputs"][stack]

    def publish(self, topic: str, *payloads: dict[str, Any]) -> None:
        """Publish as the probe, over mutual TLS, QoS 1, each acknowledged."""
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "soil-probe", protocol=mqtt.MQTTv5)
        certificate = self.directory / "probe.crt"
        described = self.client("iot").describe_certificate(
            certificateId=self.outputs("GreenhouseBeds")["CertificateId"]
        )
        certificate.write_text(described["certificateDescription"]["certificatePem"])
        client.tls_set(
            self.ready["ca_file"],
            str(certificate),
            str(self.directory / "probe.key"),
            tls_version=ssl.PROTOCOL_TLS_CLIENT,
        )
        gateway = self.ready["endpoints"]["gateway"]
        client.connect(gateway["host"], gateway["port"])
        client.loop_start()
        try:
            eventually(client.is_connected)  # a second CONNECT within a second is refused, as on AWS, and tried again
            for payload in payloads:
                client.publish(topic, json.dumps(payload), qos=1).wait_for_publish(10)
        finally:
            client.disconnect()
            client.loop_stop()


def http(method: str, url: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
    """(status, JSON body) of one request."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.loads(fault.read())


def command(directory: Path, *options: str) -> list[str]:
    """The command line; ports are any free ones unless `options` name them."""
    return [sys.executable, "-m", "local_cloud", str(directory), *ANY_PORT, *options]


def start(directory: Path, *options: str) -> Running:
    """Run the foreign assembly; the caller stops it."""
    ready, log = directory / "ready.json", directory / "cloud.log"
    line = command(
        FOREIGN,
        "--parameter",
        f"GreenhouseBeds:Request=@{make_request(directory)}",
        "--state",
        str(directory / "state"),
        "--ready-file",
        str(ready),
        *options,
    )
    with log.open("wb") as output:
        process = subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    eventually(lambda: ready.exists() or process.poll() is not None, DEADLINE_S)
    assert process.poll() is None, log.read_text()
    return Running(process, json.loads(ready.read_text()), directory, log)


@contextlib.contextmanager
def started(directory: Path, *options: str) -> Iterator[Running]:
    """As start(), stopped by SIGTERM in the end."""
    running = start(directory, *options)
    try:
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.wait(20)
        finally:
            running.process.kill()


def write_assembly(directory: Path, name: str, template: dict[str, Any], **assets: Path) -> Path:
    """A cloud assembly of one stack in `directory`, which is returned: `<name in lower case>.json` is its
    template, `<asset>.zip` stands for the directory given for it."""
    sources = {key: {"source": {"path": str(path.relative_to(directory))}} for key, path in assets.items()}
    for file, content in {
            "manifest": {"artifacts": {
                name: {"type": "aws:cloudformation:stack", "dependencies": ["assets"],
                       "properties": {"templateFile": f"{name.lower()}.json"}},
                "assets": {"type": "cdk:asset-manifest", "properties": {"file": "assets.json"}}}},
            "assets": {"files": sources}, name.lower(): template}.items():
        (directory / f"{file}.json").write_text(json.dumps(content))
    return directory


def write_members_assembly(directory: Path) -> Path:
    """A user pool, an API that only its members may read, a topic with a queue, and a table with a stream handler."""
    function = {"Handler": "me.handler", "Runtime": "python3.13", "Role": "arn:aws:iam::123456789012:role/any",
                "Timeout": 10, "Code": {"S3Bucket": "b", "S3Key": "me.zip"}, "Architectures": ["arm64"]}
    table = {"KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST",
             "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
             "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"}}
    issuer = {"Fn::Sub": "https://cognito-idp.${AWS::Region}.amazonaws.com/${Pool}"}
    api = {"ApiId": {"Ref": "Api"}}
    resources = {
        "Pool": {"Type": "AWS::Cognito::UserPool"},
        "Client": {"Type": "AWS::Cognito::UserPoolClient", "Properties": {
            "UserPoolId": {"Ref": "Pool"}, "ExplicitAuthFlows": ["ALLOW_USER_PASSWORD_AUTH"]}},
        "Me": {"Type": "AWS::Lambda::Function", "Properties": function},
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "me", "ProtocolType": "HTTP"}},
        "Stage": {"Type": "AWS::ApiGatewayV2::Stage", "Properties": {
            **api, "StageName": "$default", "AutoDeploy": True}},
        "Integration": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": {
            **api, "IntegrationType": "AWS_PROXY", "PayloadFormatVersion": "2.0",
            "IntegrationUri": {"Fn::GetAtt": ["Me", "Arn"]}}},
        "Authorizer": {"Type": "AWS::ApiGatewayV2::Authorizer", "Properties": {
            **api, "Name": "pool", "AuthorizerType": "JWT", "IdentitySource": ["$request.header.Authorization"],
            "JwtConfiguration": {"Audience": [{"Ref": "Client"}], "Issuer": issuer}}},
        "Route": {"Type": "AWS::ApiGatewayV2::Route", "Properties": {
            **api, "RouteKey": "GET /me", "AuthorizationType": "JWT", "AuthorizerId": {"Ref": "Authorizer"},
            "Target": {"Fn::Sub": "integrations/${Integration}"}}},
        "Topic": {"Type": "AWS::SNS::Topic"}, "Queue": {"Type": "AWS::SQS::Queue"},
        "Subscription": {"Type": "AWS::SNS::Subscription", "Properties": {
            "TopicArn": {"Ref": "Topic"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]}}},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": table},
        "Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {
            "EventSourceArn": {"Fn::GetAtt": ["Table", "StreamArn"]}, "FunctionName": {"Ref": "Me"},
            "StartingPosition": "TRIM_HORIZON"}}}
    outputs = {name: {"Value": {"Ref": name}} for name in ("Pool", "Client", "Topic", "Queue", "Table")}
    (directory / "code").mkdir()
    (directory / "code" / "me.py").write_text(
        "def handler(event, context):\n"
        "    return None if 'Records' in event else event['requestContext']['authorizer']['jwt']['claims']\n")
    return write_assembly(directory, "Members", {"Resources": resources, "Outputs": outputs}, me=directory / "code")
