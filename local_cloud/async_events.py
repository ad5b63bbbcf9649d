"""Asynchronous invocations of one function: events are queued here, tried again after an error, and what fails for good
goes to the function's dead-letter queue and on-failure destination."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from local_cloud.properties import integer, refuse_unknown
from local_cloud.runtime_api import Invocation
from local_cloud.timestamps import utc_text

log = logging.getLogger(__name__)

SendTo = Callable[[str, str], Awaitable[None]]
WHERE = "AWS::Lambda::EventInvokeConfig"


class AsyncEvents:
    """The events of one function that wait for a try; `counters` are the function's (async_failed is ours)."""

    def __init__(self, name: str, arn: str, invoke: Callable[[bytes], Awaitable[Invocation]], send_to: SendTo | None,
                 retry_delays_s: tuple[float, ...], dead_letter_arn: str | None, counters: dict[str, float]) -> None:
        self._name = name
        self._arn = arn
        self._invoke = invoke
        self._send_to = send_to
        self._retry_delays_s = retry_delays_s
        self._dead_letter_arn = dead_letter_arn
        self._counters = counters
        self._retries = len(retry_delays_s)
        self._max_age_s = 21_600
        self._on_failure_arn: str | None = None
        self._on_success_arn: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, properties: Mapping[str, Any]) -> None:
        """Apply AWS::Lambda::EventInvokeConfig properties."""
        self._retries = integer(f"{WHERE}.MaximumRetryAttempts", properties.get("MaximumRetryAttempts", 2), 0, 2)
        self._max_age_s = integer(f"{WHERE}.MaximumEventAgeInSeconds",
                                  properties.get("MaximumEventAgeInSeconds", 21_600), 60, 21_600)
        destinations = properties.get("DestinationConfig", {})
        refuse_unknown(f"{WHERE}.DestinationConfig", destinations, {"OnFailure", "OnSuccess"})
        self._on_failure_arn = destinations.get("OnFailure", {}).get("Destination")
        self._on_success_arn = destinations.get("OnSuccess", {}).get("Destination")

    def submit(self, body: bytes) -> str:
        """Queue one event (JSON bytes); returns its id."""
        event_id = str(uuid.uuid4())
        task = asyncio.create_task(self._run(body, event_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return event_id

    def waiting(self) -> int:
        """How many events are not done yet."""
        return len(self._tasks)

    async def drain(self) -> None:
        """Wait until every event has been done or given up."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def close(self) -> None:
        """Drop the events that wait."""
        if self._tasks:
            log.warning("function %s: %d asynchronous events are dropped", self._name, len(self._tasks))
        for task in list(self._tasks):
            task.cancel()

    async def _run(self, body: bytes, event_id: str) -> None:
        queued_at_s = time.monotonic()
        attempts = 0
        condition = "RetriesExhausted"
        while True:
            attempts += 1
            invocation = await self._invoke(body)
            if invocation.error is None:
                await self._report(self._on_success_arn, body, invocation, "Success", attempts)
                return
            if attempts > self._retries:
                break
            await asyncio.sleep(self._retry_delays_s[attempts - 1])
            if time.monotonic() - queued_at_s > self._max_age_s:
                condition = "EventAgeExceeded"
                break
        await self._give_up(body, event_id, invocation, condition, attempts)

    async def _give_up(self, body: bytes, event_id: str, invocation: Invocation, condition: str, attempts: int) -> None:
        self._counters["async_failed"] += 1
        targets = [arn for arn in (self._dead_letter_arn, self._on_failure_arn) if arn]
        log.error("function %s: event %s failed %d times; %s", self._name, event_id, attempts,
                  f"it goes to {', '.join(targets)}" if targets else "it has no destination and is lost")
        if self._dead_letter_arn:
            await self._send(self._dead_letter_arn, body.decode("utf-8", "replace"))
        await self._report(self._on_failure_arn, body, invocation, condition, attempts)

    async def _report(self, arn: str | None, body: bytes, invocation: Invocation, condition: str,
                      attempts: int) -> None:
        if arn is None:
            return
        response: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if invocation.error is not None:
            response["functionError"] = "Unhandled"
        await self._send(arn, json.dumps({
            "version": "1.0",
            "timestamp": utc_text(time.time()),
            "requestContext": {"requestId": invocation.request_id, "functionArn": f"{self._arn}:$LATEST",
                               "condition": condition, "approximateInvokeCount": attempts},
            "requestPayload": json.loads(body), "responseContext": response,
            "responsePayload": json.loads(invocation.payload or b"null")}))

    async def _send(self, arn: str, text: str) -> None:
        if self._send_to is None:
            log.error("function %s: nothing is there to send to %s; %d bytes are lost", self._name, arn, len(text))
            return
        try:
            await self._send_to(arn, text)
        except Exception:
            log.exception("function %s: its destination %s did not take %d bytes", self._name, arn, len(text))
