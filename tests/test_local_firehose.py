"""Firehose: buffers by size, interval and flush, object keys, GZIP, and S3 that fails."""

import asyncio
import base64
import gzip
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from local_cloud import firehose_api
from local_cloud.errors import DeployError, Unsupported
from local_cloud.firehose import FirehoseError, FirehoseService
from local_cloud.firehose_keys import compile_prefix, object_name

Objects = list[tuple[str, str, bytes, Mapping[str, str]]]


class Bucket:
    """Takes S3's place: keeps objects, and refuses as many puts as `faults` says."""

    def __init__(self) -> None:
        self.objects: Objects = []
        self.faults = 0
        self.changed = threading.Event()

    def put(self, bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        if self.faults:
            self.faults -= 1
            raise ConnectionError("S3 is away")
        self.objects.append((bucket, key, body, extra))
        self.changed.set()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def properties(**destination: Any) -> dict[str, Any]:
    return {"DeliveryStreamType": "DirectPut", "ExtendedS3DestinationConfiguration": {
        "BucketARN": "arn:aws:s3:::archive", "RoleARN": "arn:aws:iam::123456789012:role/r", **destination}}


def with_stream(story: Callable[[FirehoseService, Bucket], Coroutine[Any, Any, None]], **destination: Any) -> None:
    async def main() -> None:
        bucket = Bucket()
        service = FirehoseService("123456789012", "eu-north-1", bucket.put)
        service.create("s", properties(**destination))
        try:
            await story(service, bucket)
        finally:
            await service.close()

    run(main())


def test_a_flush_writes_one_object_of_all_records_as_they_came():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        ids = service.put("s", [b'{"a":1}\n', b"\x00\xff"]) + service.put("s", [b"end"])
        assert len(set(ids)) == 3
        assert bucket.objects == []
        assert await service.flush() == 0
        [(name, key, body, extra)] = bucket.objects
        assert (name, body) == ("archive", b'{"a":1}\n\x00\xffend')
        assert "ContentEncoding" not in extra
        assert re.fullmatch(r"\d{4}/\d\d/\d\d/\d\d/s-1-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9a-f-]{36}", key)
        assert await service.flush("s") == 0
        assert len(bucket.objects) == 1, "an empty buffer makes no object"

    with_stream(story)


def test_gzip_compresses_and_names_the_object_so():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        service.put("s", [b"x" * 1000])
        await service.flush()
        [(_, key, body, extra)] = bucket.objects
        assert gzip.decompress(body) == b"x" * 1000
        assert extra["ContentEncoding"] == "gzip"
        assert key.startswith("readings/year=") and key.endswith(".gz")

    with_stream(story, CompressionFormat="GZIP", Prefix="readings/year=!{timestamp:yyyy}/!{timestamp:MM/dd}/")


def test_a_file_extension_takes_the_place_of_gz():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        service.put("s", [b"x"])
        await service.flush()
        assert bucket.objects[0][1].endswith(".json.gz")

    with_stream(story, CompressionFormat="GZIP", FileExtension=".json.gz")


def test_the_interval_ends_a_buffer():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        service.put("s", [b"a"])
        service.put("s", [b"b"])
        assert await asyncio.to_thread(bucket.changed.wait, 10)
        assert [body for _, _, body, _ in bucket.objects] == [b"ab"]

    with_stream(story, BufferingHints={"IntervalInSeconds": 1, "SizeInMBs": 1})


def test_the_size_ends_a_buffer():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        record = b"x" * 400_000
        for _ in range(5):
            service.put("s", [record])
        await service.flush()
        assert [len(body) for _, _, body, _ in bucket.objects] == [800_000, 800_000, 400_000]

    with_stream(story, BufferingHints={"IntervalInSeconds": 900, "SizeInMBs": 1})


def test_what_s3_does_not_take_is_kept_and_tried_again():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        bucket.faults = 2
        service.put("s", [b"a", b"b"])
        assert await service.flush() == 2, "S3 is away: both records wait"
        assert service.by_name("s").waiting() == 2
        service.put("s", [b"c"])
        assert await asyncio.to_thread(bucket.changed.wait, 10), "it is tried again without being asked"
        assert await service.flush() == 0
        assert [body for _, _, body, _ in bucket.objects] == [b"ab", b"c"]
        counters = service.by_name("s").counters
        assert (counters["failed_puts"], counters["objects"], counters["delivered"]) == (2, 2, 3)

    with_stream(story)


def test_the_same_key_and_bytes_go_again():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        seen: Objects = []
        put = bucket.put

        def lose_the_answer(name: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
            seen.append((name, key, body, extra))
            if len(seen) == 1:
                raise TimeoutError("S3 took it, but its answer was lost")
            put(name, key, body, extra)

        service.by_name("s")._s3_put = lose_the_answer
        service.put("s", [b"a"])
        await service.flush()
        await service.flush()
        assert len(seen) == 2 and seen[0] == seen[1], "a repeat must overwrite, not double"

    with_stream(story)


def test_the_zone_of_the_template_names_the_folders():
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    prefix = compile_prefix("a/!{timestamp:yyyy/MM/dd/HH}/")
    assert prefix(at) == "a/2026/12/31/23/"

    async def story(service: FirehoseService, bucket: Bucket) -> None:
        zone = service.by_name("s").settings.zone
        assert prefix(at.astimezone(zone)) == "a/2027/01/01/08/"

    with_stream(story, CustomTimeZone="Asia/Tokyo")


@pytest.mark.parametrize(("prefix", "key"), [
    ("", "2026/01/02/03/"), ("data/", "data/2026/01/02/03/"), ("!{timestamp:yyyy-MM-dd}/", "2026-01-02/"),
    ("dt=!{timestamp:yyyy'T'HHmmss}", "dt=2026T030405"), ("!{timestamp:yy/DDD}", "26/002")])
def test_prefixes(prefix: str, key: str):
    assert compile_prefix(prefix)(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == key


def test_random_strings_and_error_types_in_prefixes():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert re.fullmatch("r/[A-Za-z0-9]{11}/", compile_prefix("r/!{firehose:random-string}/")(at))
    failed = compile_prefix("e/!{firehose:error-output-type}/!{timestamp:yyyy}/", error_type="processing-failed")
    assert failed(at) == "e/processing-failed/2026/"
    assert object_name("s", at, ".gz").startswith("s-1-2026-01-02-00-00-00-")


@pytest.mark.parametrize(("destination", "name"), [
    ({"Prefix": "!{timestamp:e}"}, "'e'"), ({"Prefix": "!{firehose:error-output-type}"}, "error-output-type"),
    ({"Prefix": "!{partitionKeyFromQuery:x}"}, "partitionKeyFromQuery"), ({"CompressionFormat": "Snappy"}, "Snappy"),
    ({"ProcessingConfiguration": {"Enabled": True}}, "ProcessingConfiguration"),
    ({"DataFormatConversionConfiguration": {"Enabled": "true"}}, "DataFormatConversion"),
    ({"S3BackupMode": "Enabled"}, "S3BackupMode"), ({"Nonsense": 1}, "Nonsense"),
    ({"BufferingHints": {"SizeInMBs": 129}}, "SizeInMBs")])
def test_a_property_that_is_not_honoured_is_named(destination: dict[str, Any], name: str):
    with pytest.raises(Unsupported, match=name):
        FirehoseService("1", "eu-north-1", Bucket().put).create("s", properties(**destination))


def test_accepted_properties_and_refused_kinds():
    service = FirehoseService("1", "eu-north-1", Bucket().put)
    service.create("s", properties(ProcessingConfiguration={"Enabled": False},
                                   CloudWatchLoggingOptions={"Enabled": True}, EncryptionConfiguration={},
                                   ErrorOutputPrefix="e/!{firehose:error-output-type}/"))
    with pytest.raises(DeployError, match="delivery stream s exists already"):
        service.create("s", properties())
    with pytest.raises(Unsupported, match="KinesisStreamAsSource"):
        service.create("t", {**properties(), "DeliveryStreamType": "KinesisStreamAsSource"})
    with pytest.raises(DeployError, match="Mars"):
        service.create("t", properties(CustomTimeZone="Mars/Base"))


def test_the_limits_of_a_put():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        for records in ([b"x"] * 501, [b"x" * 1_024_001], [b"x" * 900_000] * 5):
            with pytest.raises(FirehoseError):
                service.put("s", records)
        assert service.by_name("s").waiting() == 0
        service.put("s", [b"x" * 5121, b"x"])
        assert service.by_name("s").counters["metered_5kb"] == 3, "AWS rounds each record up to 5 KB"

    with_stream(story)


def test_the_api_takes_records_and_describes_streams():
    async def story(service: FirehoseService, bucket: Bucket) -> None:
        async def ask(operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            return await firehose_api.handle(service, f"Firehose_20150804.{operation}", body)

        data = base64.b64encode(b"abc").decode()
        status, answer = await ask("PutRecord", {"DeliveryStreamName": "s", "Record": {"Data": data}})
        assert (status, answer["Encrypted"]) == (200, False)
        status, answer = await ask("PutRecordBatch", {"DeliveryStreamName": "s", "Records": [{"Data": data}] * 2})
        assert (status, answer["FailedPutCount"], len(answer["RequestResponses"])) == (200, 0, 2)
        assert (await ask("ListDeliveryStreams", {}))[1]["DeliveryStreamNames"] == ["s"]
        described = (await ask("DescribeDeliveryStream", {"DeliveryStreamName": "s"}))[1]["DeliveryStreamDescription"]
        assert (described["DeliveryStreamStatus"], described["DeliveryStreamARN"]) == (
            "ACTIVE", "arn:aws:firehose:eu-north-1:123456789012:deliverystream/s")
        assert (await ask("PutRecord", {"DeliveryStreamName": "t", "Record": {"Data": data}}))[1]["__type"] == (
            "ResourceNotFoundException")
        assert (await ask("PutRecord", {"DeliveryStreamName": "s", "Record": {"Data": "?"}}))[0] == 400
        assert (await ask("CreateDeliveryStream", {"DeliveryStreamName": "s"}))[0] == 400
        await service.flush()
        assert bucket.objects[0][2] == b"abcabcabc"

    with_stream(story)
