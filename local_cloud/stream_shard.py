"""One shard of a DynamoDB stream on its way to a Lambda function: fetches from the stream's API, delivers in order;
a batch that fails holds the shard up until it succeeds or is given up, as on AWS. Driven by stream_poller.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import deque
from typing import Any

from local_cloud.async_events import SendTo
from local_cloud.event_source_mapping import MAX_PAYLOAD_BYTES, MappingSettings, event_of, failed_identifiers
from local_cloud.functions import Function
from local_cloud.runtime_api import Invocation
from local_cloud.stream_records import StreamRecord, changes_nothing, convert
from local_cloud.timestamps import utc_text

log = logging.getLogger(__name__)

FETCH_LIMIT = 1000
FAULT_PAUSE_S = 1.0
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0


class Shard:
    """Follows one shard from `position` (TRIM_HORIZON or LATEST) to its end; `counters` are its poller's."""

    def __init__(self, shard_id: str, position: str, client: Any, function: Function, settings: MappingSettings,
                 counters: dict[str, int], idle_poll_s: tuple[float, float], send_to: SendTo | None) -> None:
        self.shard_id = shard_id
        self._position = position
        self._client = client
        self._function = function
        self._settings = settings
        self._counters = counters
        self._idle_poll_s = idle_poll_s
        self._send_to = send_to
        self._iterator: str | None = None
        self._last_sequence = ""
        self._ended = False
        self._pending: deque[StreamRecord] = deque()
        self._in_hand = True  # until the first poll has shown that nothing waits
        self._wake = asyncio.Event()
        self._flushes_asked = 0
        self._flushes_done = 0
        self._settled = asyncio.Condition()

    async def run(self) -> None:
        """Fetch and deliver until the shard is closed."""
        pause_s = self._idle_poll_s[0]
        while True:
            asked = self._flushes_asked
            self._wake.clear()
            if not await self._fetch():
                continue
            if self._pending:
                await self._fill()
                await self._deliver_pending()
                pause_s = self._idle_poll_s[0]
                continue
            self._in_hand = False
            await self._settle(asked)
            if self._ended:
                return
            await self._pause(pause_s)
            pause_s = min(pause_s * 1.5, self._idle_poll_s[1])

    def idle(self) -> bool:
        """Nothing was waiting at the last poll and nothing is in hand."""
        return not self._in_hand and not self._wake.is_set()

    def nudge(self) -> None:
        """Poll now."""
        self._wake.set()

    async def flush(self) -> None:
        """Fetch and deliver all that the shard holds; returns when it is empty or its batch was tried and failed."""
        self._flushes_asked += 1
        wanted = self._flushes_asked
        self._wake.set()
        async with self._settled:
            await self._settled.wait_for(lambda: self._ended or self._flushes_done >= wanted)

    async def _settle(self, flushes: int) -> None:
        async with self._settled:
            self._flushes_done = max(self._flushes_done, flushes)
            self._settled.notify_all()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless nudged."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _fetch(self) -> bool:
        """Add what the stream has next to the pending records; False (after a pause) when it cannot be read."""
        try:
            if self._iterator is None:
                self._iterator = await asyncio.to_thread(self._new_iterator)
            answer = await asyncio.to_thread(self._client.get_records, ShardIterator=self._iterator,
                                             Limit=FETCH_LIMIT)
        except Exception as fault:
            log.warning("stream %s: shard %s cannot be read (%s: %s); trying again", self._settings.source_arn,
                        self.shard_id, type(fault).__name__, fault)
            self._iterator = None
            await asyncio.sleep(FAULT_PAUSE_S)
            return False
        self._counters["polls"] += 1
        self._iterator = answer.get("NextShardIterator")
        self._ended = self._iterator is None
        for record in answer["Records"]:
            self._in_hand = True
            self._last_sequence = record["dynamodb"]["SequenceNumber"]
            self._accept(record)
        return True

    def _new_iterator(self) -> str:
        where = {"ShardIteratorType": self._position}
        if self._last_sequence:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": self._last_sequence}
        answer = self._client.get_shard_iterator(StreamArn=self._settings.source_arn, ShardId=self.shard_id, **where)
        return str(answer["ShardIterator"])

    def _accept(self, record: dict[str, Any]) -> None:
        self._counters["records"] += 1
        if changes_nothing(record):
            self._counters["unchanged"] += 1
            return
        wanted = convert(record, self._settings.source_arn, self._settings.keep)
        if wanted is None:
            self._counters["filtered"] += 1
        else:
            self._pending.append(wanted)

    async def _fill(self) -> None:
        """Gather until a batch is full, the window is over, or a flush wants it."""
        until_s = time.monotonic() + self._settings.window_s
        while (len(self._pending) < self._settings.batch_size and self._flushes_done == self._flushes_asked
               and not self._ended and time.monotonic() < until_s):
            await self._pause(min(self._idle_poll_s[1], until_s - time.monotonic()))
            self._wake.clear()
            await self._fetch()

    async def _deliver_pending(self) -> None:
        while self._pending:
            batch: list[StreamRecord] = []
            size_bytes = 0
            while self._pending and len(batch) < self._settings.batch_size:
                size_bytes += len(self._pending[0].body) + 1
                if batch and size_bytes > MAX_PAYLOAD_BYTES:
                    break
                batch.append(self._pending.popleft())
            await self._deliver(batch)

    async def _deliver(self, batch: list[StreamRecord]) -> None:
        """Have the function take every record of the batch, in order, or give records up as the mapping allows."""
        attempts = 0
        while batch := await self._drop_aged(batch, attempts):
            attempts += 1
            self._function.iterator_ages_ms.append((time.time() - batch[0].created_at_s) * 1000)
            invocation = await self._function.invoke(event_of([record.body for record in batch]))
            first_failed = self._first_failed(batch, invocation)
            if first_failed == len(batch):
                return
            await self._settle(self._flushes_asked)
            if first_failed > 0:
                batch, attempts = batch[first_failed:], 1
            elif self._settings.bisect and len(batch) > 1:
                await self._deliver(batch[:len(batch) // 2])
                batch, attempts = batch[len(batch) // 2:], 0
                continue
            if 0 <= self._settings.max_retries < attempts:
                await self._give_up(batch, "RetryAttemptsExhausted", attempts, invocation)
                return
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** attempts))

    def _first_failed(self, batch: list[StreamRecord], invocation: Invocation) -> int:
        """The place of the first record to try again; len(batch) when the function took them all."""
        self._counters["batches"] += 1
        failed: set[str] | None = None if invocation.error is not None else set()
        places = {record.sequence_number: place for place, record in enumerate(batch)}
        if failed is not None and self._settings.partial_failures:
            failed = failed_identifiers(invocation.payload, places)
        if failed is None:
            self._counters["failed_batches"] += 1
            return 0
        return min((places[number] for number in failed), default=len(batch))

    async def _drop_aged(self, batch: list[StreamRecord], attempts: int) -> list[StreamRecord]:
        """The batch without the records that became older than the mapping's MaximumRecordAgeInSeconds."""
        if self._settings.max_record_age_s < 0:
            return batch
        oldest_s = time.time() - self._settings.max_record_age_s
        aged = [record for record in batch if record.created_at_s < oldest_s]
        if aged:
            await self._give_up(aged, "RecordAgeExceeded", attempts, None)
        return batch[len(aged):]

    async def _give_up(self, batch: list[StreamRecord], condition: str, attempts: int,
                       invocation: Invocation | None) -> None:
        self._counters["given_up"] += len(batch)
        arn = self._settings.on_failure_arn
        log.error("stream %s: %d records given up after %d tries (%s); %s", self._settings.source_arn, len(batch),
                  attempts, condition, f"their place goes to {arn}" if arn else "they have no destination")
        if arn is None or self._send_to is None:
            return
        record = {
            "requestContext": {"requestId": invocation.request_id if invocation else "", "condition": condition,
                               "functionArn": self._function.arn, "approximateInvokeCount": attempts},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0", "timestamp": utc_text(time.time()),
            "DDBStreamBatchInfo": {
                "shardId": self.shard_id, "startSequenceNumber": batch[0].sequence_number,
                "endSequenceNumber": batch[-1].sequence_number, "batchSize": len(batch),
                "approximateArrivalOfFirstRecord": utc_text(batch[0].created_at_s),
                "approximateArrivalOfLastRecord": utc_text(batch[-1].created_at_s),
                "streamArn": self._settings.source_arn}}
        try:
            await self._send_to(arn, json.dumps(record))
        except Exception:
            log.exception("stream %s: %s did not take the on-failure record", self._settings.source_arn, arn)
