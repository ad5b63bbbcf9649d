"""What the tests of both pollers need: a function that records its batches, and a story with a deadline."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from local_cloud.runtime_api import Invocation

ACCOUNT, REGION = "123456789012", "eu-north-1"
PARTIAL = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
Handler = Callable[[list[dict[str, Any]]], Any]


class RecordingFunction:
    """Takes a Function's place: keeps every batch, answers what `handler(records)` returns or raises."""

    def __init__(self, handler: Handler = lambda records: None, concurrency: int = 1) -> None:
        self.name = "recording"
        self.arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:recording"
        self.concurrency = concurrency
        self.settings = SimpleNamespace(timeout_s=1)
        self.batches: list[list[dict[str, Any]]] = []
        self.iterator_ages_ms: list[float] = []
        self.released = asyncio.Event()
        self.released.set()
        self._handler = handler

    async def invoke(self, event: bytes) -> Invocation:
        records = json.loads(event)["Records"]
        self.batches.append(records)
        await self.released.wait()
        try:
            answer = self._handler(records)
        except Exception as error:
            stated = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return Invocation("id", json.dumps(stated).encode(), stated, 1.0, "")
        return Invocation("id", json.dumps(answer).encode(), None, 1.0, "")

    def bodies(self) -> list[list[str]]:
        return [[record["body"] for record in batch] for batch in self.batches]


def flat(batches: list[list[Any]]) -> list[Any]:
    return [record for batch in batches for record in batch]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The story's end, or TimeoutError."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))
