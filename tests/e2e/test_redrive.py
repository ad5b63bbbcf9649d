"""`make redrive`: what landed in a dead-letter queue or with the error action is applied, once, however often."""
import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract import batch, numbers
from deploy import redrive
from deploy.pipeline import Pipeline, Plan
from deploy.processes import ROOT
from deploy.synth import synthesize

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def sealed(device: str) -> bytes:
    row = batch.Row(1, 1_763_800_000_000, Decimal("1763800000.123"), 1_763_800_000_123, None, None,
                    {"sensor2": Decimal("0.30000000000000004")}, {}, None, None)
    return batch.seal_series("readings", "ob", [batch.pack(device, [row])])[1]


def with_site(raw: bytes) -> str:
    return numbers.dumps({**numbers.loads(raw), "site": "EdgeCloudAWS"})


def put_error(s3: Any, bucket: str, key: str, payload: bytes, action: str, resource: str) -> None:
    s3.put_object(Bucket=bucket, Key=f"errors/edgecloud_readings/{key}.json", Body=json.dumps({
        "ruleName": "edgecloud_readings", "topic": "EdgeCloudAWS", "clientId": "EdgeCloudAWS",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [{"failedAction": action, "failedResource": resource, "errorMessage": "x"}]}).encode())


def test_dead_letters_and_error_objects_are_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline(Plan(directory=tmp_path, assembly=ROOT / ".demo" / "cdk.out"))
    synthesize(pipeline.plan.assembly, pipeline.plan.context_json)
    try:
        pipeline.start_local_cloud()
        deployment = redrive.Deployment("edgecloud", pipeline.ready["region"], pipeline.ready["endpoints"]["aws"])
        sqs, s3, bucket = deployment.client("sqs"), deployment.client("s3"), pipeline.archive_bucket()
        sqs.send_message(QueueUrl=deployment.parameter("readings-dead-letters"), MessageBody=with_site(sealed("a")))
        put_error(s3, bucket, "1", sealed("b"), "SqsAction", deployment.parameter("readings-queue"))
        stream = deployment.client("firehose").list_delivery_streams()["DeliveryStreamNames"]
        archive = next(name for name in stream if "Readings" in name)
        put_error(s3, bucket, "2", sealed("c"), "FirehoseAction", archive)
        put_error(s3, bucket, "3", b"\xff", "SqsAction", "q")
        assert redrive.redrive(deployment) == 1, "one object could not be read"
        assert "readings: 1 dead letters moved back, 2 error objects handed on, 1 left" in capsys.readouterr().out
        pipeline.control("/flush")
        items = {item["pk"]: item for item in pipeline.table("readings").scan()["Items"]}
        assert set(items) == {"EdgeCloudAWS#a", "EdgeCloudAWS#b"}
        (row,) = batch.unpack(items["EdgeCloudAWS#b"]["series"])
        assert row.values == {"sensor2": Decimal("0.30000000000000004")}
        objects = s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert [o["Key"] for o in objects if o["Key"].startswith("errors/")] == ["errors/edgecloud_readings/3.json"]
        assert len([o for o in objects if o["Key"].startswith("archive/readings/")]) == 1
        redrive.redrive(deployment)
        pipeline.control("/flush")
        assert {item["pk"]: item for item in pipeline.table("readings").scan()["Items"]} == items
    finally:
        pipeline.close()
