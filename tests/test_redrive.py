"""`make redrive`: error objects go to the queue or stream that did not take them; a run that ends half-way is repeated;
what is no error object is named and left."""
import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from deploy import redrive_objects
from deploy.redrive import main, stream_letters
from deploy.redrive_objects import PRESENCE, TO_ARCHIVE, TO_QUEUE, Places
from lambdas import table_items
from tests.cloud_tables import REGION, cloud, failures, items, persisted
from tests.messages import SITE, by_rule, row, sealed

BUCKET = "archive"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Bucket and queues, and an archive that writes down what it gets."""
    with cloud(monkeypatch):
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("readings", "events", "status")}
        archived: list[tuple[str, bytes]] = []
        firehose = SimpleNamespace(put_record=lambda **given: archived.append(
            (given["DeliveryStreamName"], given["Record"]["Data"])))
        places = {name: Places(url, f"{name}-archive") for name, url in urls.items()}
        places[PRESENCE] = Places(urls["status"], None)
        yield SimpleNamespace(s3=s3, sqs=sqs, firehose=firehose, archived=archived, urls=urls, places=places)


def error(payload: bytes, *actions: str, site: Any = SITE) -> bytes:
    return json.dumps({
        "ruleName": "x", "topic": "t", "clientId": site, "cloudwatchTraceId": "1",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [{"failedAction": one, "failedResource": "r", "errorMessage": "no"} for one in actions]}).encode()


def put(place: Any, rule: str, name: str, body: bytes) -> str:
    key = f"errors/{rule}/{name}.json"
    place.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return key


def run(place: Any, **clients: Any) -> dict[str, tuple[int, int]]:
    use = {"s3": place.s3, "sqs": place.sqs, "firehose": place.firehose, **clients}
    return redrive_objects.redrive(use["s3"], BUCKET, "edgecloud", place.places, use["sqs"], use["firehose"])


def queued(place: Any, name: str) -> list[str]:
    found = []
    while got := place.sqs.receive_message(QueueUrl=place.urls[name], MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in got]
        for message in got:
            place.sqs.delete_message(QueueUrl=place.urls[name], ReceiptHandle=message["ReceiptHandle"])
    return found


def left(place: Any) -> list[str]:
    return [found["Key"] for found in place.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


def batch_of(*numbers_: int) -> bytes:
    return sealed("readings", {"pi-1": [row(n, {"sensor2": "0.30000000000000004"}) for n in numbers_]})


def test_what_an_action_did_not_take_goes_to_it_as_the_rule_would_have_handed_it_on(place: Any) -> None:
    put(place, "edgecloud_readings", "1", error(batch_of(1), TO_QUEUE))
    put(place, "edgecloud_readings", "2", error(batch_of(2), TO_ARCHIVE))
    put(place, "edgecloud_events", "3", error(batch_of(3), TO_QUEUE, TO_ARCHIVE))
    assert run(place) == {"readings": (2, 0), "events": (1, 0)}
    assert queued(place, "readings") == [by_rule(batch_of(1))] and queued(place, "events") == [by_rule(batch_of(3))]
    assert sorted(place.archived) == [("events-archive", by_rule(batch_of(3)).encode() + b"\n"),
                                      ("readings-archive", by_rule(batch_of(2)).encode() + b"\n")]
    assert left(place) == [] and run(place) == {}


def test_lifecycle_events_name_their_thing_themselves(place: Any) -> None:
    told = {"clientId": "EdgeCloudAWS", "eventType": "disconnected", "versionNumber": 3, "timestamp": 1795332240000}
    put(place, f"edgecloud_{PRESENCE}", "1", error(json.dumps(told).encode(), TO_QUEUE, site="N/A"))
    assert run(place) == {PRESENCE: (1, 0)}
    assert [json.loads(body) for body in queued(place, "status")] == [{**told, "site": "EdgeCloudAWS"}]


@pytest.mark.parametrize("body", (
    b"\xff", b"[]", b"{}", b"7", error(b"\xff", TO_QUEUE), error(b"[1]", TO_QUEUE), error(batch_of(1)),
    error(batch_of(1), "DynamoDBAction"), error(batch_of(1), TO_ARCHIVE, "S3Action"),
    error(batch_of(1), TO_QUEUE).replace(b'"failures": [', b'"failures": [7, '),
    error(batch_of(1), TO_QUEUE).replace(b"base64Original", b"original")))
def test_an_object_of_another_form_is_named_and_left_and_the_next_goes_on(
        body: bytes, place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = put(place, "edgecloud_readings", "1", body)
    put(place, "edgecloud_readings", "2", error(batch_of(2), TO_QUEUE))
    assert run(place) == {"readings": (1, 1)}
    assert queued(place, "readings") == [by_rule(batch_of(2))] and place.archived == []
    assert left(place) == [bad] and f"{BUCKET}/{bad} is left in place: it" in capsys.readouterr().err
    assert run(place) == {"readings": (0, 1)}


def test_what_no_rule_of_this_deployment_wrote_is_named_and_left(
        place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    keys = sorted([put(place, "archive/readings/format-conversion-failed/date=2026-11-22", "x", b"?"),
                   put(place, "second_readings", "1", error(batch_of(1), TO_QUEUE))])
    assert run(place) == {"": (0, 2)} and left(place) == keys
    assert capsys.readouterr().err.count("no rule of edgecloud writes there") == 2


def test_a_failure_in_the_middle_leaves_the_rest_for_the_next_run(place: Any) -> None:
    bodies = {by_rule(batch_of(n)) for n in range(4)}
    for n in range(4):
        put(place, "edgecloud_readings", str(n), error(batch_of(n), TO_ARCHIVE, TO_QUEUE))
    turns = iter((True, False, True, False))

    def send(**given: Any) -> Any:
        if not next(turns):
            raise ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "try again"}}, "SendMessage")
        return place.sqs.send_message(**given)

    assert run(place, sqs=SimpleNamespace(send_message=send)) == {"readings": (2, 2)}
    assert len(left(place)) == 2 and run(place) == {"readings": (2, 0)} and left(place) == []
    assert set(queued(place, "readings")) == bodies
    assert len(place.archived) == 6, "the archive has two of them twice: its readers count a batch once"


def test_a_message_that_is_handed_on_twice_is_stored_once(place: Any) -> None:
    """The run ended between the queue and the deletion of the object."""
    put(place, "edgecloud_readings", "1", error(batch_of(1, 2), TO_QUEUE))

    def away(**given: Any) -> Any:
        raise ConnectionError("the network is gone")

    cut = SimpleNamespace(get_paginator=place.s3.get_paginator, get_object=place.s3.get_object, delete_object=away)
    with pytest.raises(ConnectionError):
        run(place, s3=cut)
    assert run(place) == {"readings": (1, 0)}
    bodies = queued(place, "readings")
    assert len(bodies) == 2 and failures(persisted(*bodies)) == []
    assert [len(table_items.rows_of(item)) for item in items("readings")] == [2]


def test_places_in_a_stream_name_the_rebuild_that_applies_them(place: Any) -> None:
    url = place.sqs.create_queue(QueueName="stream-dead-letters")["QueueUrl"]
    target: Any = SimpleNamespace(client=lambda service: getattr(place, service), parameter=lambda what: url)
    assert stream_letters(target) == (0, "")
    for first, last in (("2026-11-22T07:24:00.000Z", "2026-11-22T07:30:10.000Z"), ("2026-11-20T10:00:00.000Z",) * 2):
        place.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"DDBStreamBatchInfo": {
            "approximateArrivalOfFirstRecord": first, "approximateArrivalOfLastRecord": last}}))
    assert stream_letters(target) == (2, "make rebuild FROM=2026-11-19T10:00Z TO=2026-11-22T07:31Z")


@pytest.mark.parametrize(("arguments", "said"), (
    (("--name", "Plant"), "name: got 'Plant'"), (("--region", "north"), "a region such as eu-north-1"),
    (("--endpoint", "http://127.0.0.1:9"), "no SSM parameter /edgecloud/readings-dead-letters")))
def test_the_command_says_what_stands_in_its_way(arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["redrive", *arguments])
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main() == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
