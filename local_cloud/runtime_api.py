"""The Lambda Runtime API for one worker process: invocations come from function_worker.py and leave by long poll to
awslambdaric; its results come back as Outcome."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from local_cloud.http_wire import Request, Response, Server

MAX_RESPONSE_BYTES = 6_291_556
_PREFIX = "/2018-06-01/runtime/"


@dataclass(slots=True)
class Outcome:
    """What an invocation came to: its payload, and the parsed error when it failed."""

    payload: bytes
    error: dict[str, Any] | None = None

    @classmethod
    def failed(cls, error_type: str, text: str) -> Outcome:
        """An error that the service itself states, in the shape Lambda gives it."""
        error = {"errorType": error_type, "errorMessage": text}
        return cls(json.dumps(error).encode(), error)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation came to. `error` is None on success, else Lambda's error object; log_tail ≤ 4 KB."""

    request_id: str
    payload: bytes
    error: dict[str, Any] | None
    duration_ms: float
    log_tail: str


@dataclass(slots=True)
class Call:
    """One invocation on its way through a worker; `taken` once the worker has it, `outcome` when it is done."""

    request_id: str
    event: bytes
    function_arn: str
    timeout_s: float
    trace_id: str
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    taken_at_s: float = 0.0
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: Outcome) -> None:
        """State the outcome; the first statement holds."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class RuntimeApi:
    """Serves one worker on a port of its own. `init_error` is what the worker reported before its first next."""

    def __init__(self) -> None:
        self.init_error: Outcome | None = None
        self._server = Server(self._handle)
        self._offered: asyncio.Queue[Call] = asyncio.Queue()
        self._calls: dict[str, Call] = {}

    async def start(self) -> str:
        """Listen on the loopback and return "host:port"."""
        await self._server.start("127.0.0.1", 0)
        return f"127.0.0.1:{self._server.port}"

    async def close(self) -> None:
        """End the worker's connection, upon which awslambdaric ends its process."""
        await self._server.close()

    def offer(self, call: Call) -> None:
        """Give the worker a call with its next poll."""
        self._calls[call.request_id] = call
        self._offered.put_nowait(call)

    def forget(self, call: Call) -> None:
        """The call is over, whatever the worker still says about it."""
        self._calls.pop(call.request_id, None)

    async def _handle(self, request: Request) -> Response:
        path = request.target.removeprefix(_PREFIX)
        if request.method == "GET" and path == "invocation/next":
            return await self._next()
        if request.method == "POST" and path == "init/error":
            self.init_error = _error_outcome(request.body)
            return _accepted()
        verb, _, rest = path.partition("/")
        request_id, _, kind = rest.partition("/")
        if request.method != "POST" or verb != "invocation" or kind not in ("response", "error"):
            return _refused(404, "UnknownPath", f"{request.method} {request.target} is not of the Runtime API")
        call = self._calls.get(request_id)
        if call is None:
            return _refused(400, "InvalidRequestID", f"no invocation {request_id} is running")
        return _result(call, request.body) if kind == "response" else _error(call, request.body)

    async def _next(self) -> Response:
        call = await self._offered.get()
        call.taken_at_s = time.monotonic()
        call.taken.set()
        deadline_ms = int((time.time() + call.timeout_s) * 1000)
        return Response(200, call.event, [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", call.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", call.function_arn),
            ("Lambda-Runtime-Trace-Id", call.trace_id)])


def _result(call: Call, body: bytes) -> Response:
    if len(body) > MAX_RESPONSE_BYTES:
        text = (f"Response payload size ({len(body)} bytes) exceeded maximum allowed payload size "
                f"({MAX_RESPONSE_BYTES} bytes).")
        call.settle(Outcome.failed("Function.ResponseSizeTooLarge", text))
        return _refused(413, "RequestEntityTooLarge", text)
    call.settle(Outcome(body))
    return _accepted()


def _error(call: Call, body: bytes) -> Response:
    call.settle(_error_outcome(body))
    return _accepted()


def _error_outcome(body: bytes) -> Outcome:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return Outcome.failed("Runtime.Unknown", body.decode("utf-8", "replace"))
    return Outcome(body, found)


def _accepted() -> Response:
    return Response(202, b'{"status":"OK"}\n', [("Content-Type", "application/json")])


def _refused(status: int, error_type: str, text: str) -> Response:
    body = json.dumps({"errorType": error_type, "errorMessage": text}).encode()
    return Response(status, body, [("Content-Type", "application/json")])
