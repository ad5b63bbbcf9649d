"""`make redrive`: what landed in a dead-letter queue or with the error action is applied, once, however often.
`make rebuild`: emptied tables become what they were."""
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from contract import alerts, batch, numbers
from deploy import redrive
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT, clean_environment, python_module
from deploy.synth import synthesize

NOW_MS = int(time.time() * 1000)
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def sealed(device: str, received_ms: int = 1_763_800_000_000) -> bytes:
    at_ms = received_ms + 123
    row = batch.Row(1, received_ms, Decimal(at_ms) / 1000, at_ms, None, None,
                    {"sensor2": Decimal("0.30000000000000004")}, {}, None, None)
    return batch.seal_series("readings", "ob", [batch.pack(device, [row])])[1]


def with_site(raw: bytes) -> str:
    return numbers.dumps({**numbers.loads(raw), "site": "EdgeCloudAWS"})


def put_error(s3: Any, bucket: str, key: str, payload: bytes, action: str, resource: str) -> None:
    s3.put_object(Bucket=bucket, Key=f"errors/edgecloud_readings/{key}.json", Body=json.dumps({
        "ruleName": "edgecloud_readings", "topic": "EdgeCloudAWS", "clientId": "EdgeCloudAWS",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [{"failedAction": action, "failedResource": resource, "errorMessage": "x"}]}).encode())


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A local cloud, alone."""
    pipeline = Pipeline(Plan(directory=tmp_path_factory.mktemp("cloud"), assembly=ROOT / ".demo" / "cdk.out"))
    synthesize(pipeline.plan.assembly, pipeline.plan.context_json)
    try:
        pipeline.start_local_cloud()
        yield pipeline
    finally:
        pipeline.close()


def test_dead_letters_and_error_objects_are_applied(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    place = pipeline.target
    sqs, s3, bucket = place.client("sqs"), place.client("s3"), pipeline.archive_bucket()
    sqs.send_message(QueueUrl=place.parameter("readings-dead-letters"), MessageBody=with_site(sealed("a")))
    put_error(s3, bucket, "1", sealed("b"), "SqsAction", place.parameter("readings-queue"))
    stream = place.client("firehose").list_delivery_streams()["DeliveryStreamNames"]
    archive = next(name for name in stream if "Readings" in name)
    put_error(s3, bucket, "2", sealed("c"), "FirehoseAction", archive)
    put_error(s3, bucket, "3", b"\xff", "SqsAction", "q")
    assert redrive.redrive(place) == 1, "one object could not be read"
    assert "readings: 1 dead letters moved back, 2 error objects handed on, 1 left" in capsys.readouterr().out
    pipeline.control("/flush")
    items = {item["pk"]: item for item in pipeline.table("readings").scan()["Items"]}
    assert set(items) == {"EdgeCloudAWS#a", "EdgeCloudAWS#b"}
    (row,) = batch.unpack(items["EdgeCloudAWS#b"]["series"])
    assert row.values == {"sensor2": Decimal("0.30000000000000004")}
    objects = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [o["Key"] for o in objects if o["Key"].startswith("errors/")] == ["errors/edgecloud_readings/3.json"]
    assert len([o for o in objects if o["Key"].startswith("archive/readings/")]) == 1
    redrive.redrive(place)
    pipeline.control("/flush")
    assert {item["pk"]: item for item in pipeline.table("readings").scan()["Items"]} == items


def everything(pipeline: Pipeline) -> dict[str, list[dict[str, Any]]]:
    """Every item of every table, in a fixed order."""
    return {name: sorted(pipeline.table(name).scan()["Items"], key=lambda item: (item["pk"], item["sk"]))
            for name in ("readings", "rollups", "alerts", "incidents")}


def test_emptied_tables_are_rebuilt_by_the_command(pipeline: Pipeline) -> None:
    place = pipeline.target
    sqs, firehose = place.client("sqs"), place.client("firehose")
    incident = alerts.incident("d", "sensor2", 1, alerts.OPENED, NOW_MS, 1, Decimal("3.5"), "spike")
    anomaly = alerts.Classified(1, NOW_MS, Decimal(NOW_MS) / 1000, NOW_MS, "sensor2", Decimal("3.5"), Decimal("3.5"),
                                True, Decimal("-0.6"), incident=incident)
    event = batch.Row(1, NOW_MS, "2026-11-22T07:24:00Z", NOW_MS, None, None, {"persons_detected": Decimal(2)},
                      {"zone": "gate"}, None, ("edge-data", 0, 7, NOW_MS))
    for route, raw in (("readings", sealed("d", NOW_MS)), ("readings", sealed("e", NOW_MS - 3 * 86_400_000)),
                       ("events", batch.seal_series("events", "ob", [batch.pack("camera-01", [event])])[1]),
                       ("alerts", alerts.seal("ob", "d", [anomaly])[1])):
        for _ in range(2):  # the rule hands each on to both, and the bridge may send it again
            sqs.send_message(QueueUrl=place.parameter(f"{route}-queue"), MessageBody=with_site(raw))
            firehose.put_record(DeliveryStreamName=place.parameter(f"{route}-archive"),
                                Record={"Data": with_site(raw).encode() + b"\n"})
    pipeline.control("/flush")
    before = everything(pipeline)
    assert {item["sk"][:2] for item in before["rollups"]} >= {"m#", "h#", "d#"}
    assert all(before[name] for name in before)
    archived = {"d", "e", "c", "camera-01"}  # "c" went to the archive alone, "a" and "b" to their queue alone
    for name, items in before.items():
        for item in items:
            pipeline.table(name).delete_item(Key={"pk": item["pk"], "sk": item["sk"]})
    command = python_module("deploy.rebuild", "--from", "2026-01-01", "--target", "local", "--cloud",
                            str(pipeline.plan.directory / "cloud.json"))
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean_environment())
        assert done.returncode == 0, done.stderr + done.stdout
        pipeline.control("/flush")  # and the functions find nothing to do
        after = everything(pipeline)
        for name, items in before.items():
            want = [item for item in items if device_of(item) in archived and device_of(item) != "c"]
            assert [item for item in after[name] if device_of(item) in archived - {"c"}] == want, name
    assert {device_of(item) for items in after.values() for item in items} - {None} == archived


def device_of(item: dict[str, Any]) -> str | None:
    """The device that an item is of; None for one of a site."""
    if item["pk"] == "devices":
        return str(item["device"])
    return str(item["pk"].partition("#")[2]) or None
