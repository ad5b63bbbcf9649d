"""Firehose in memory: records come from rule actions and firehose_api.py, and leave as one S3 object per buffer.

At least once: a buffer that S3 does not take is kept and tried again. To be used from the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.firehose_keys import arrival, object_name
from local_cloud.firehose_settings import StreamSettings, settings_from

log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 1_024_000
MAX_BATCH_RECORDS = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
METERED_BYTES = 5120  # a record is billed in steps of this size
FIRST_RETRY_S = 0.2
LONGEST_RETRY_S = 30.0
S3Put = Callable[[str, str, bytes, Mapping[str, str]], object]


class FirehoseError(Exception):
    """A request that Firehose would answer with an error; `code` is its name there."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Batch:
    """A buffer on its way to S3: key and bytes stay the same for every try."""

    key: str
    body: bytes
    records: int


class DeliveryStream:
    """One stream: a buffer that is sealed by size, interval or flush(), and the sealed ones S3 has not taken yet."""

    def __init__(self, name: str, arn: str, settings: StreamSettings, s3_put: S3Put) -> None:
        self.name = name
        self.arn = arn
        self.settings = settings
        self.created_at_s = time.time()
        self.counters = {"records": 0, "record_bytes": 0, "metered_5kb": 0, "objects": 0, "object_bytes": 0,
                         "delivered": 0, "failed_puts": 0}
        self._s3_put = s3_put
        self._buffer: list[bytes] = []
        self._size_bytes = 0
        self._opened_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sealed: deque[_Batch] = deque()
        self._task: asyncio.Task[None] | None = None
        self._try_now = asyncio.Event()
        self._tried = asyncio.Condition()

    def put(self, records: list[bytes]) -> list[str]:
        """Take records (bytes as they are to stand in the object) and return their ids."""
        if len(records) > MAX_BATCH_RECORDS or sum(map(len, records)) > MAX_BATCH_BYTES:
            raise FirehoseError("InvalidArgumentException", f"{len(records)} records of {sum(map(len, records))} bytes "
                                f"exceed {MAX_BATCH_RECORDS} records or {MAX_BATCH_BYTES} bytes a batch")
        largest = max(map(len, records), default=0)
        if largest > MAX_RECORD_BYTES:
            raise FirehoseError("ValidationException", f"a record of {largest} bytes exceeds {MAX_RECORD_BYTES} bytes")
        for record in records:
            self._append(record)
        return [f"{uuid.uuid4().hex}{index:04d}" for index in range(len(records))]

    async def flush(self) -> int:
        """Seal and deliver what is held; returns the number of records that S3 has not taken after one more try."""
        self._seal()
        while self._sealed:
            failures = self.counters["failed_puts"]
            self._try_now.set()
            async with self._tried:
                while self._sealed and self.counters["failed_puts"] == failures:
                    await self._tried.wait()
            if self.counters["failed_puts"] > failures:
                break
        return self.waiting()

    def waiting(self) -> int:
        """Records that are not in S3 yet."""
        return len(self._buffer) + sum(batch.records for batch in self._sealed)

    async def close(self) -> None:
        """Stop delivering; what was not delivered is dropped with the stream."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.waiting():
            log.warning("delivery stream %s is closed with %d records that are not in S3", self.name, self.waiting())

    def _append(self, record: bytes) -> None:
        if self._buffer and self._size_bytes + len(record) > self.settings.size_bytes:
            self._seal()
        if not self._buffer:
            self._opened_at_s = time.time()
            self._timer = asyncio.get_running_loop().call_later(self.settings.interval_s, self._seal)
        self._buffer.append(record)
        self._size_bytes += len(record)
        self.counters["records"] += 1
        self.counters["record_bytes"] += len(record)
        self.counters["metered_5kb"] += -(-len(record) // METERED_BYTES)
        if self._size_bytes >= self.settings.size_bytes:
            self._seal()

    def _seal(self) -> None:
        """Give the buffer its key and queue it for S3."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._buffer:
            return
        at = arrival(self._opened_at_s, self.settings.zone)
        key = self.settings.prefix(at) + object_name(self.name, at, self.settings.extension)
        self._sealed.append(_Batch(key, b"".join(self._buffer), len(self._buffer)))
        self._buffer, self._size_bytes = [], 0
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._deliver())

    async def _deliver(self) -> None:
        delay_s = FIRST_RETRY_S
        while self._sealed:
            self._try_now.clear()
            batch = self._sealed[0]
            try:
                size_bytes = await asyncio.to_thread(self._write, batch)
            except Exception as error:
                log.warning("delivery stream %s: S3 did not take %s (%s: %s); %d records wait, next try in %.1f s",
                            self.name, batch.key, type(error).__name__, error, self.waiting(), delay_s)
                await self._count(failed_puts=1)
                await self._pause(random.uniform(0.5, 1.0) * delay_s)
                delay_s = min(2 * delay_s, LONGEST_RETRY_S)
                continue
            self._sealed.popleft()
            delay_s = FIRST_RETRY_S
            await self._count(objects=1, object_bytes=size_bytes, delivered=batch.records)

    def _write(self, batch: _Batch) -> int:
        body = gzip.compress(batch.body, 6) if self.settings.gzip else batch.body
        headers = {"ContentType": "application/octet-stream"}
        if self.settings.gzip:
            headers["ContentEncoding"] = "gzip"
        self._s3_put(self.settings.bucket, batch.key, body, headers)
        return len(body)

    async def _count(self, **more: int) -> None:
        async with self._tried:
            for name, value in more.items():
                self.counters[name] += value
            self._tried.notify_all()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless a flush wants the next try now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._try_now.wait()


class FirehoseService:
    """All delivery streams. `s3_put(bucket, key, body, extra)` is a blocking call (it runs in a thread); `extra` are
    further arguments of boto3's put_object, such as ContentEncoding."""

    def __init__(self, account_id: str, region: str, s3_put: S3Put) -> None:
        self.account_id = account_id
        self.region = region
        self._s3_put = s3_put
        self._streams: dict[str, DeliveryStream] = {}

    def create(self, name: str, properties: Mapping[str, Any]) -> DeliveryStream:
        """A stream from AWS::KinesisFirehose::DeliveryStream properties; DeployError when the name is taken."""
        if name in self._streams:
            raise DeployError(f"delivery stream {name} exists already; delete it, or take DeliveryStreamName out")
        arn = f"arn:aws:firehose:{self.region}:{self.account_id}:deliverystream/{name}"
        stream = self._streams[name] = DeliveryStream(name, arn, settings_from(properties), self._s3_put)
        return stream

    def by_name(self, name: str) -> DeliveryStream:
        """The stream of this name; FirehoseError ResourceNotFoundException."""
        stream = self._streams.get(name)
        if stream is None:
            raise FirehoseError("ResourceNotFoundException",
                                f"Firehose {name} under account {self.account_id} not found.")
        return stream

    def by_arn(self, arn: str) -> DeliveryStream:
        """The stream of this ARN."""
        return self.by_name(arn.rpartition("/")[2])

    def put(self, name: str, records: list[bytes]) -> list[str]:
        """Take records for a stream and return their ids."""
        return self.by_name(name).put(records)

    async def flush(self, name: str | None = None) -> int:
        """Deliver what one stream (or all) hold; returns the number of records that S3 did not take."""
        streams = [self.by_name(name)] if name is not None else list(self._streams.values())
        return sum(await asyncio.gather(*(stream.flush() for stream in streams)))

    def all(self) -> list[DeliveryStream]:
        """Every stream, by name."""
        return [self._streams[name] for name in self.names()]

    def names(self) -> list[str]:
        """The names of all streams, sorted."""
        return sorted(self._streams)

    async def delete(self, name: str) -> None:
        """Stop and forget a stream."""
        await self.by_name(name).close()
        del self._streams[name]

    async def close(self) -> None:
        """Stop every stream."""
        await asyncio.gather(*(stream.close() for stream in self._streams.values()))
