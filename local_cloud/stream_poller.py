"""Feeds a Lambda function from a DynamoDB stream: finds its shards, and stream_shard.py takes each one's records to
the function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from local_cloud.async_events import SendTo
from local_cloud.event_source_mapping import MappingSettings, stream_settings
from local_cloud.functions import Function
from local_cloud.stream_shard import FAULT_PAUSE_S, Shard

log = logging.getLogger(__name__)


class StreamPoller:
    """One AWS::Lambda::EventSourceMapping on a stream. `streams_client` is boto3's "dynamodbstreams" client (its calls
    run in threads); `send_to(arn, body)` delivers on-failure records; an idle stream is polled every idle_poll_s
    (shortest, longest; every poll of moto costs it memory, so let writers nudge() rather than poll often)."""

    def __init__(self, streams_client: Any, function: Function, properties: Mapping[str, Any], *,
                 send_to: SendTo | None = None, idle_poll_s: tuple[float, float] = (0.05, 1.0)) -> None:
        self.settings: MappingSettings = stream_settings(properties)
        self.counters = {"polls": 0, "records": 0, "batches": 0, "failed_batches": 0, "unchanged": 0,
                         "filtered": 0, "given_up": 0}
        self._client = streams_client
        self._function = function
        self._send_to = send_to
        self._idle_poll_s = idle_poll_s
        self._task: asyncio.Task[None] | None = None
        self._found = asyncio.Event()
        self._shards: dict[str, Shard] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin to follow every shard of the stream; nothing when not Enabled."""
        if self.settings.enabled and self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop; the position is forgotten: a new poller starts where StartingPosition says."""
        tasks = [task for task in (self._task, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None
        self._running.clear()

    def feeds(self, function: Function) -> bool:
        """Whether this function gets the batches."""
        return self._function is function

    def idle(self) -> bool:
        """Nothing was waiting at the last poll and no batch is in hand; flush() first to be sure of the present."""
        running = [self._shards[shard_id] for shard_id in self._running]
        return self._task is None or (self._found.is_set() and all(shard.idle() for shard in running))

    async def flush(self) -> None:
        """Fetch and deliver at once all that the stream holds; returns when every shard is empty or its batch was
        tried and failed. Give it a deadline: it waits for a stream that cannot be read."""
        if self._task is None:
            return
        await self._found.wait()
        await asyncio.gather(*(self._shards[shard_id].flush() for shard_id in self._running))

    def nudge(self) -> None:
        """Poll now: something was written (spares the wait of an idle stream)."""
        for shard_id in self._running:
            self._shards[shard_id].nudge()

    async def _follow(self) -> None:
        """Run a Shard for every shard as it appears: a child only after its parent, and from its beginning."""
        position = self.settings.starting_position
        while True:
            try:
                parents = await asyncio.to_thread(self._describe)
            except Exception as fault:
                log.warning("stream %s cannot be described (%s: %s); trying again", self.settings.source_arn,
                            type(fault).__name__, fault)
                await asyncio.sleep(FAULT_PAUSE_S)
                continue
            for shard_id, parent_id in parents.items():
                parent_ended = parent_id not in parents or (
                    parent_id in self._shards and parent_id not in self._running)
                if parent_ended and shard_id not in self._shards:
                    self._begin(shard_id, position)
            position = "TRIM_HORIZON"
            self._found.set()
            await self._until_one_ends()

    def _begin(self, shard_id: str, position: str) -> None:
        shard = Shard(shard_id, position, self._client, self._function, self.settings, self.counters,
                      self._idle_poll_s, self._send_to)
        self._shards[shard_id] = shard
        self._running[shard_id] = asyncio.create_task(shard.run())

    async def _until_one_ends(self) -> None:
        if not self._running:
            await asyncio.sleep(FAULT_PAUSE_S)
            return
        await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
        for shard_id in [key for key, task in self._running.items() if task.done()]:
            task = self._running.pop(shard_id)
            if task.exception() is not None:
                log.error("stream %s: shard %s stopped by a fault; it starts again from its beginning",
                          self.settings.source_arn, shard_id, exc_info=task.exception())
                del self._shards[shard_id]

    def _describe(self) -> dict[str, str | None]:
        """Shard ids with their parents', all pages."""
        found: dict[str, str | None] = {}
        start: dict[str, str] = {}
        while True:
            answer = self._client.describe_stream(StreamArn=self.settings.source_arn, **start)["StreamDescription"]
            found.update((shard["ShardId"], shard.get("ParentShardId")) for shard in answer["Shards"])
            if not answer.get("LastEvaluatedShardId"):
                return found
            start = {"ExclusiveStartShardId": answer["LastEvaluatedShardId"]}
