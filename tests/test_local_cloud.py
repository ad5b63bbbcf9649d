"""A foreign assembly, run as a user runs it: `python -m local_cloud`, MQTT, HTTP, boto3, control port."""

import asyncio
import gzip
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_cloud.cloud import LocalCloud
from local_cloud.options import Options
from tests.local_cloud_rig import Running, http, started, write_members_assembly
from tests.waiting import eventually


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One local cloud for the tests that leave it usable."""
    with started(tmp_path_factory.mktemp("cloud")) as running:
        yield running


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
    cloud = LocalCloud(Options(write_members_assembly(tmp_path), gateway_port=0, api_port=0, web_port=0))

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
