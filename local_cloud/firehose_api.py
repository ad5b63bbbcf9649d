"""The Firehose API (AWS JSON 1.1) on top of firehose.py: requests come from the AWS endpoint, answers go back to it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from local_cloud.firehose import FirehoseError, FirehoseService


async def handle(service: FirehoseService, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer one request: (HTTP status, answer). `target` is X-Amz-Target ("Firehose_20150804.PutRecord")."""
    try:
        return 200, _answer(service, target.rpartition(".")[2], body)
    except FirehoseError as error:
        return 400, {"__type": error.code, "message": str(error)}


def _answer(service: FirehoseService, operation: str, body: dict[str, Any]) -> dict[str, Any]:
    if operation == "ListDeliveryStreams":
        return {"DeliveryStreamNames": service.names(), "HasMoreDeliveryStreams": False}
    stream = service.by_name(str(body.get("DeliveryStreamName")))
    if operation == "PutRecord":
        return {"RecordId": stream.put([_data(body["Record"])])[0], "Encrypted": False}
    if operation == "PutRecordBatch":
        ids = stream.put([_data(record) for record in body["Records"]])
        return {"FailedPutCount": 0, "Encrypted": False, "RequestResponses": [{"RecordId": each} for each in ids]}
    if operation == "DescribeDeliveryStream":
        return {"DeliveryStreamDescription": {
            "DeliveryStreamName": stream.name, "DeliveryStreamARN": stream.arn, "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamType": "DirectPut", "VersionId": "1", "CreateTimestamp": stream.created_at_s,
            "HasMoreDestinations": False, "Destinations": [{
                "DestinationId": "destinationId-000000000001",
                "ExtendedS3DestinationDescription": stream.settings.described}]}}
    raise FirehoseError("UnknownOperationException", f"Firehose {operation} is not emulated (streams are made from the "
                        "template); PutRecord, PutRecordBatch, DescribeDeliveryStream, ListDeliveryStreams are")


def _data(record: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(record["Data"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise FirehoseError("SerializationException", f"a record's Data must be base64: {error}") from error
