"""A foreign assembly, run as a user runs it: `python -m local_cloud`, MQTT, HTTP, boto3, control port."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import paho.mqtt.client as mqtt
import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from local_cloud.cloud import LocalCloud, Options

ROOT = Path(__file__).parent.parent
FOREIGN = Path(__file__).parent / "data" / "foreign_cdk_out"
DEADLINE_S = 60


def eventually(probe: Callable[[], Any], deadline_s: float = 15) -> Any:
    """The first truthy answer of `probe`; fails after the deadline."""
    until_s = time.monotonic() + deadline_s
    while not (found := probe()):
        assert time.monotonic() < until_s, f"{probe} had no result within {deadline_s} s"
        time.sleep(0.05)
    return found


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
    return [sys.executable, "-m", "local_cloud", str(directory), "--gateway-port", "0", "--api-port", "0", *options]


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


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One local cloud for the tests that leave it usable."""
    with started(tmp_path_factory.mktemp("cloud")) as running:
        yield running


def descendants(pid: int) -> set[int]:
    """Process ids below `pid` (ps is on every Linux and macOS)."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        if not more:
            return found
        found |= more


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still run (zombies of a dead parent aside)."""
    listed = subprocess.run(["ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    states = {int(pid): state for pid, state in (line.split() for line in listed.splitlines())}
    return {pid for pid in pids if not states.get(pid, "Z").startswith("Z")}


def bed(cloud: Running, name: str) -> list[dict[str, Any]]:
    return http("GET", cloud.ready["endpoints"]["api"] + f"/beds/{name}")[1]["items"]


def test_a_publish_over_mutual_tls_reaches_the_table_and_the_api(cloud: Running) -> None:
    cloud.publish(
        "greenhouse/soil-probe/soil",
        {"bed": "north", "at": 1, "moisture": 41.50},
        {"bed": "north", "at": 2, "moisture": 95},
        {"bed": "north", "at": 3, "moisture": 7},
    )
    items = eventually(lambda: (found := bed(cloud, "north")) and len(found) == 2 and found)
    assert [(float(item["at"]), float(item["moisture"])) for item in items] == [(1, 41.5), (3, 7)]
    assert items[0]["probe"] == "soil-probe"
    assert items[0]["label"] == "tomatoes in GreenhouseBeds ${kept}"
    assert items[0]["glass"] == "none"


def test_the_second_stack_got_the_name_through_ssm_both_ways(cloud: Running) -> None:
    status, body = http("GET", cloud.outputs("GreenhouseDoor")["Url"] + "beds/none")
    assert (status, body) == (200, {"items": [], "same": True})


def test_flush_brings_what_firehose_holds_to_the_bucket(cloud: Running) -> None:
    cloud.publish("greenhouse/soil-probe/soil", {"bed": "south", "at": 4, "moisture": 1})
    status, result = cloud.control("POST", "/flush")
    assert (status, result["idle"], result["waiting"]) == (200, True, {})
    store, bucket = cloud.client("s3"), cloud.outputs("GreenhouseBeds")["BarnName"]
    keys = [one["Key"] for one in store.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys and all(key.startswith("straw/20") for key in keys)
    lines = b"".join(gzip.decompress(store.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys)
    assert {"bed": "south", "at": 4, "moisture": 1, "probe": "soil-probe"} in [
        json.loads(line) for line in lines.splitlines()
    ]


def test_a_message_that_the_handler_reports_as_failed_stays_in_the_queue(cloud: Running) -> None:
    queue = cloud.client("sqs")
    url = cloud.outputs("GreenhouseBeds")["HarvestUrl"]
    queue.send_message(QueueUrl=url, MessageBody='{"at": 5}')
    attributes = eventually(
        lambda: (
            (found := queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])[
                "ApproximateNumberOfMessagesNotVisible"
            ]
            == "1"
            and found
        )
    )
    assert attributes["ApproximateNumberOfMessages"] == "0"
    status, result = cloud.control("POST", "/flush?deadline_s=0.5")
    assert (status, result["idle"]) == (504, False)
    queue.purge_queue(QueueUrl=url)


def test_the_aws_endpoint_publishes_to_rules_and_invokes_functions(cloud: Running) -> None:
    cloud.client("iot-data").publish(
        topic="greenhouse/any/soil", qos=1, payload=json.dumps({"bed": "west", "at": 9, "moisture": 3}).encode()
    )
    eventually(lambda: bed(cloud, "west"))
    name = cloud.ready["physical_names"]["GreenhouseDoor"]["Door"]
    answer = cloud.client("lambda").invoke(FunctionName=name, Payload=b'{"pathParameters": {"bed": "west"}}')
    assert json.loads(json.load(answer["Payload"])["body"])["items"][0]["bed"] == "west"
    failed = cloud.client("lambda").invoke(FunctionName=name, Payload=b"{}")
    assert failed["FunctionError"] == "Unhandled"


def test_the_iot_api_knows_the_registry_and_refuses_the_rest(cloud: Running) -> None:
    iot = cloud.client("iot")
    assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == (
        f"localhost:{cloud.ready['ports']['gateway']}"
    )
    principals = iot.list_thing_principals(thingName="soil-probe")["principals"]
    assert [arn.rpartition("/")[2] for arn in principals] == [cloud.outputs("GreenhouseBeds")["CertificateId"]]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        iot.describe_thing(thingName="nobody")
    with pytest.raises(ClientError, match="not emulated"):
        iot.list_jobs()


def test_objects_and_metadata_pass_the_endpoint_unchanged(cloud: Running) -> None:
    store, bucket = cloud.client("s3"), cloud.outputs("GreenhouseBeds")["BarnName"]
    body = os.urandom(300_000)
    store.put_object(Bucket=bucket, Key="a b/ä+%", Body=body, Metadata={"with_underscore": "1"})
    found = store.get_object(Bucket=bucket, Key="a b/ä+%")
    assert found["Body"].read() == body and found["Metadata"] == {"with_underscore": "1"}
    assert store.head_object(Bucket=bucket, Key="a b/ä+%")["ContentLength"] == 300_000
    with pytest.raises(ClientError, match="404"):
        store.head_object(Bucket=bucket, Key="missing")
    store.delete_object(Bucket=bucket, Key="a b/ä+%")


def test_switches_disable_a_rule_lift_quotas_and_cut_the_link(cloud: Running) -> None:
    assert (
        cloud.control("POST", "/faults", {"rules": {"greenhouse_soil": False}, "quotas": "lifted"})[1]["quotas"]
        is False
    )
    cloud.publish("greenhouse/soil-probe/soil", {"bed": "off", "at": 1, "moisture": 1})
    assert cloud.control("GET", "/state")[1]["rules"]["by_rule"]["greenhouse_soil"]["enabled"] is False
    cloud.control("POST", "/faults", {"gateway": {"cut": {}}})
    with pytest.raises(OSError):
        cloud.publish("greenhouse/soil-probe/soil", {"bed": "off", "at": 2, "moisture": 1})
    state = cloud.control(
        "POST", "/faults", {"gateway": {"clear": {}}, "rules": {"greenhouse_soil": True}, "quotas": "enforced"}
    )
    assert state[1]["quotas"] is True and state[1]["faults"]["link"] == "up"
    assert bed(cloud, "off") == []
    assert cloud.control("POST", "/faults", {"nonsense": 1})[0] == 400
    assert cloud.control("POST", "/faults", {"gateway": {"explode": {}}})[0] == 400
    assert cloud.control("GET", "/nothing")[0] == 404


def test_destroy_keeps_what_is_retained_and_deploy_works_again(cloud: Running) -> None:
    before = cloud.ready["outputs"]["GreenhouseBeds"]["Table"]
    status, result = cloud.control("POST", "/destroy")
    assert status == 200, result
    assert (
        len(result["retained"]) == 1 and [one for one in result["retained"] if "Probes" in one] == result["retained"]
    )
    assert before in cloud.client("dynamodb").list_tables()["TableNames"]
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    status, cloud.ready = cloud.control("POST", "/deploy")
    assert status == 200 and cloud.ready["outputs"]["GreenhouseBeds"]["Table"] != before
    cloud.publish("greenhouse/soil-probe/soil", {"bed": "again", "at": 1, "moisture": 1})
    eventually(lambda: bed(cloud, "again"))


def test_put_item_through_the_endpoint_is_kept_alive(cloud: Running) -> None:
    with socket.create_connection(("127.0.0.1", cloud.ready["ports"]["aws"])) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            head, _, body = head.partition(b"\r\n\r\n")
            assert b"200" in head.splitlines()[0] and b"keep-alive" in head
            length = int(
                next(line for line in head.splitlines() if line.lower().startswith(b"content-length")).split()[1]
            )
            while len(body) < length:
                body += connection.recv(65536)
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_tokens_open_a_route_topics_reach_queues_and_writes_reach_stream_handlers(tmp_path: Path) -> None:
    """In this process, on an assembly of its own: Cognito, SNS and DynamoDB streams behind the one endpoint."""
    cloud = LocalCloud(Options(write_members_assembly(tmp_path), gateway_port=0, api_port=0))

    def use(endpoints: dict[str, Any]) -> None:
        def client(service: str) -> Any:
            return boto3.client(service, endpoint_url=endpoints["endpoints"]["aws"], region_name="eu-north-1",
                                aws_access_key_id="test", aws_secret_access_key="test")

        outputs, url = endpoints["outputs"]["Members"], endpoints["endpoints"]["api"] + "/me"
        pool = client("cognito-idp")
        pool.admin_create_user(UserPoolId=outputs["Pool"], Username="ann")
        pool.admin_set_user_password(UserPoolId=outputs["Pool"], Username="ann", Password="Secret-123", Permanent=True)
        tokens = pool.initiate_auth(ClientId=outputs["Client"], AuthFlow="USER_PASSWORD_AUTH", AuthParameters={
            "USERNAME": "ann", "PASSWORD": "Secret-123"})["AuthenticationResult"]
        assert http("GET", url)[0] == 401
        assert http("GET", url, token="e30.e30.e30")[0] == 401
        status, claims = http("GET", url, token=tokens["IdToken"])
        assert status == 200 and claims["cognito:username"] == "ann"
        client("sns").publish(TopicArn=outputs["Topic"], Message="hello")
        received = client("sqs").receive_message(QueueUrl=outputs["Queue"], WaitTimeSeconds=5)["Messages"]
        assert json.loads(received[0]["Body"])["Message"] == "hello"
        with pytest.raises(ClientError, match="SNS Subscribe is not emulated"):
            client("sns").subscribe(TopicArn=outputs["Topic"], Protocol="email", Endpoint="a@example.com")
        client("dynamodb").put_item(TableName=outputs["Table"], Item={"pk": {"S": "1"}})

    async def run() -> None:
        await cloud.start()
        try:
            endpoints = cloud.endpoints()
            await asyncio.to_thread(use, endpoints)
            assert (await cloud.flush(20))["idle"]
            (poller,) = (await cloud.state())["pollers"].values()
            assert (poller["records"], poller["batches"]) == (1, 1)
            assert endpoints["not_emulated"] == {
                "AWS::Lambda::Function.Architectures": 1}
        finally:
            await cloud.close()
            await cloud.close()

    asyncio.run(run())


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
    for name, content in {
            "manifest": {"artifacts": {
                "Members": {"type": "aws:cloudformation:stack", "dependencies": ["assets"],
                            "properties": {"templateFile": "members.json"}},
                "assets": {"type": "cdk:asset-manifest", "properties": {"file": "assets.json"}}}},
            "assets": {"files": {"me": {"source": {"path": "code"}}}},
            "members": {"Resources": resources, "Outputs": outputs}}.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def test_taken_ports_are_moved_and_a_stop_leaves_no_process_and_no_ready_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start(tmp_path, "--gateway-port", str(port), "--api-port", str(port))
        assert running.ready["ports"]["gateway"] > port and running.ready["ports"]["api"] > port
        log = running.log.read_text()
        assert f"device gateway: port {port} is taken" in log and f"HTTP API: port {port} is taken" in log
    below = descendants(running.process.pid)
    assert len(below) >= 3, "moto and a worker for each function"
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0, running.log.read_text()
    eventually(lambda: not alive(below))
    assert not (tmp_path / "ready.json").exists()
    assert "Traceback" not in running.log.read_text()


def test_a_killed_local_cloud_leaves_no_process_either(tmp_path: Path) -> None:
    running = start(tmp_path)
    below = descendants(running.process.pid)
    running.process.kill()
    running.process.wait(10)
    eventually(lambda: not alive(below))


def refused(directory: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a local cloud that does not start."""
    done = subprocess.run(command(directory, *options), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip()


def test_a_missing_assembly_is_one_clear_line(tmp_path: Path) -> None:
    code, text = refused(tmp_path)
    assert code == 2 and "manifest.json is missing" in text and len(text.splitlines()) == 1


def test_a_control_port_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = refused(FOREIGN, "--control-port", str(taken.getsockname()[1]))
    assert code == 2 and "control: port" in text and "is taken" in text


def test_an_unknown_type_stops_the_start_with_its_logical_id(tmp_path: Path) -> None:
    template = {"Resources": {"Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "x"}}}}
    (tmp_path / "S.template.json").write_text(json.dumps(template))
    (tmp_path / "manifest.json").write_text(
        json.dumps(
            {
                "artifacts": {
                    "S": {"type": "aws:cloudformation:stack", "properties": {"templateFile": "S.template.json"}}
                }
            }
        )
    )
    code, text = refused(tmp_path)
    assert code == 2 and "stack S, resource Bus (AWS::Events::EventBus): unknown resource type" in text
