"""Feeds a Lambda function from a queue: batches of messages in, invocations out; what the function took is deleted,
what it did not take reappears after its visibility time-out."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.event_source_mapping import (
    MAX_PAYLOAD_BYTES,
    MappingSettings,
    event_of,
    failed_identifiers,
    queue_settings,
)
from local_cloud.functions import Function
from local_cloud.queue_messages import Message, QueueError
from local_cloud.queues import METERED_BYTES, Queue

log = logging.getLogger(__name__)

WAIT_S = 20.0
FAULT_PAUSE_S = 1.0
MESSAGES_A_REQUEST = 10  # received or deleted


class QueuePoller:
    """One AWS::Lambda::EventSourceMapping on a queue. `failure_visibility_s` shortens how long a message that failed
    stays hidden (None: the queue's visibility time-out, as on AWS)."""

    def __init__(self, queue: Queue, function: Function, properties: Mapping[str, Any], *,
                 failure_visibility_s: float | None = None) -> None:
        self.settings: MappingSettings = queue_settings(properties)
        if function.settings.timeout_s > queue.settings.visibility_s:
            raise DeployError(
                f"VisibilityTimeout: queue {queue.name} hides messages for {queue.settings.visibility_s} s, function "
                f"{function.name} may take {function.settings.timeout_s} s; AWS wants more, best six times that")
        self.counters = {"batches": 0, "messages": 0, "requests": 0, "failed_batches": 0, "failed_messages": 0,
                         "filtered": 0}
        self._queue = queue
        self._function = function
        self._region = queue.arn.split(":")[3]
        self._failure_visibility_s = failure_visibility_s
        self._tasks: list[asyncio.Task[None]] = []
        self._in_hand = 0
        self._flushing = asyncio.Event()
        self._settled = asyncio.Condition()

    async def start(self) -> None:
        """Begin to poll, with as many batches at a time as the function has workers; nothing when not Enabled."""
        if self.settings.enabled and not self._tasks:
            count = min(self._function.concurrency, self.settings.max_concurrency)
            self._tasks = [asyncio.create_task(self._poll()) for _ in range(count)]

    async def close(self) -> None:
        """Stop; a batch in hand is not deleted and reappears in its queue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._notify()

    @property
    def source_url(self) -> str:
        """The queue's URL."""
        return self._queue.url

    def feeds(self, function: Function) -> bool:
        """Whether this function gets the batches."""
        return self._function is function

    def idle(self) -> bool:
        """Nothing waits in the queue, is hidden in it, or is in hand."""
        return not self._in_hand and not any(self._queue.depth())

    async def flush(self) -> None:
        """Deliver at once what the batching window holds and what is visible; returns when that was tried."""
        self._flushing.set()
        try:
            async with self._settled:
                await self._settled.wait_for(
                    lambda: not self._tasks or not (self._in_hand or self._queue.depth()[0]))
        finally:
            self._flushing.clear()

    async def _poll(self) -> None:
        while True:
            try:
                await self._cycle()
            except Exception:
                log.exception("poller of %s: a batch was not handled; its messages reappear", self._queue.name)
                await asyncio.sleep(FAULT_PAUSE_S)
            await self._notify()

    async def _notify(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    async def _cycle(self) -> None:
        batch = await self._queue.receive(self.settings.batch_size, WAIT_S)
        if not batch:
            return
        self._in_hand += 1
        try:
            if self.settings.window_s:
                await self._fill(batch)
            for part in self._parts(self._filter(batch)):
                await self._deliver(part)
        finally:
            self._in_hand -= 1

    async def _fill(self, batch: list[Message]) -> None:
        """Add to the batch until it is full, the window is over, or a flush wants it."""
        size = self.settings.batch_size
        until_s = time.monotonic() + self.settings.window_s
        flush = asyncio.create_task(self._flushing.wait())
        try:
            while len(batch) < size and not flush.done() and time.monotonic() < until_s:
                batch += await self._receive_until(flush, size - len(batch), until_s - time.monotonic())
        finally:
            flush.cancel()
        batch += await self._queue.receive(size - len(batch), 0)

    async def _receive_until(self, flush: asyncio.Task[Any], max_messages: int, wait_s: float) -> list[Message]:
        more = asyncio.create_task(self._queue.receive(max_messages, wait_s))
        try:
            await asyncio.wait({more, flush}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            more.cancel()  # a receive that is cancelled takes nothing
        await asyncio.wait({more})
        return [] if more.cancelled() else more.result()

    def _filter(self, batch: list[Message]) -> list[Message]:
        """Drop (delete, as AWS does) what the filter criteria do not want."""
        keep = self.settings.keep
        if keep is None:
            return batch
        wanted = []
        for message in batch:
            if keep(_filter_view(message)):
                wanted.append(message)
            else:
                self.counters["filtered"] += 1
                self._queue.delete(message.receipt_handle)
        return wanted

    def _parts(self, batch: list[Message]) -> list[list[tuple[Message, bytes]]]:
        """The batch in pieces that fit an invocation's payload."""
        parts: list[list[tuple[Message, bytes]]] = []
        size_bytes = MAX_PAYLOAD_BYTES
        for message in batch:
            record = json.dumps(self._record(message)).encode()
            size_bytes += len(record) + 1
            if size_bytes > MAX_PAYLOAD_BYTES:
                parts.append([])
                size_bytes = len(record)
            parts[-1].append((message, record))
        return parts

    async def _deliver(self, part: list[tuple[Message, bytes]]) -> None:
        self.counters["batches"] += 1
        self.counters["messages"] += len(part)
        self.counters["requests"] += _receives(part)
        known = {message.message_id for message, _ in part}
        invocation = await self._function.invoke(event_of([record for _, record in part]))
        failed: set[str] | None = None if invocation.error is not None else set()
        if failed is not None and self.settings.partial_failures:
            failed = failed_identifiers(invocation.payload, known)
            if failed is None:
                log.error("function %s answered batchItemFailures that do not fit its batch (%r): all %d messages "
                          "count as failed", self._function.name, invocation.payload[:200], len(part))
        if failed is None:
            self.counters["failed_batches"] += 1
            failed = known
        self.counters["failed_messages"] += len(failed)
        self.counters["requests"] += -(-(len(part) - len(failed)) // MESSAGES_A_REQUEST)
        for message, _ in part:
            self._settle(message, message.message_id in failed)

    def _settle(self, message: Message, failed: bool) -> None:
        if not failed:
            self._queue.delete(message.receipt_handle)
        elif self._failure_visibility_s is not None:
            try:
                self._queue.change_visibility(message.receipt_handle, self._failure_visibility_s)
            except QueueError as error:
                log.info("queue %s: a failed message is visible again already (%s)", self._queue.name, error)

    def _record(self, message: Message) -> dict[str, Any]:
        return {"messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
                "attributes": message.system_attributes(),
                "messageAttributes": {name: _attribute(value) for name, value in message.attributes.items()},
                "md5OfBody": message.md5, "eventSource": "aws:sqs", "eventSourceARN": self._queue.arn,
                "awsRegion": self._region}


def _receives(part: list[tuple[Message, bytes]]) -> int:
    """Requests by which Lambda would receive these messages: ten in each, billed in steps of 64 KB."""
    size_bytes = sum(len(message.body.encode()) for message, _ in part)
    return max(-(-len(part) // MESSAGES_A_REQUEST), -(-size_bytes // METERED_BYTES))


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value.get("DataType")}
    if "StringValue" in value:
        found["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        binary = value["BinaryValue"]
        found["binaryValue"] = base64.b64encode(binary).decode() if isinstance(binary, bytes) else binary
    return found


def _filter_view(message: Message) -> dict[str, Any]:
    """What a filter pattern sees: the body is JSON when it parses as such."""
    try:
        body = json.loads(message.body)
    except ValueError:
        body = message.body
    return {"messageId": message.message_id, "body": body, "attributes": message.system_attributes()}
