"""Lambda functions: events come from pollers, rule actions and the HTTP API and go to worker processes; results,
errors and on-failure records come back. The handlers are the real code, started from the assembly's asset directory."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_cloud.async_events import AsyncEvents, SendTo
from local_cloud.errors import DeployError
from local_cloud.function_settings import WHERE, FunctionSettings, settings_from
from local_cloud.function_worker import Program, Worker, append_log, base_environment, bound_log
from local_cloud.runtime_api import Call, Invocation, Outcome
from local_cloud.timestamps import utc_text

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 6_291_456
LOG_TAIL_BYTES = 4096
MAX_UNREAD = 10_000
ACCESS_KEY = "FUNCTION-"  # and the function's name: the AWS endpoint sees whose call it is


class Function:
    """One function and its workers; `concurrency` calls run at a time, further ones wait for their turn."""

    def __init__(self, service: FunctionService, name: str, settings: FunctionSettings, program: Program) -> None:
        self.name = name
        self.arn = f"arn:aws:lambda:{service.region}:{service.account_id}:function:{name}"
        self.settings = settings
        self.log_path = program.log_path
        self.concurrency = min(settings.reserved or 1, service.max_workers)
        self.last_error: dict[str, Any] | None = None
        self.counters: dict[str, float] = {"invocations": 0, "errors": 0, "timeouts": 0, "cold_starts": 0,
                                           "duration_ms": 0.0, "async_failed": 0,
                                           "event_bytes": 0}
        self.durations_ms: deque[float] = deque(maxlen=MAX_UNREAD)  # until metric_sources.py takes them
        self.iterator_ages_ms: deque[float] = deque(maxlen=MAX_UNREAD)
        self._program = program
        self._slots = asyncio.Semaphore(self.concurrency)
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._closed = False
        self._events = AsyncEvents(name, self.arn, self.invoke, service.send_to, service.async_retry_delays_s,
                                   settings.dead_letter_arn, self.counters)

    def configure_async(self, properties: Mapping[str, Any]) -> None:
        """Apply AWS::Lambda::EventInvokeConfig properties to invoke_async()."""
        self._events.configure(properties)

    async def start(self) -> None:
        """Start one worker ahead of the first call (it imports the handler now rather than then)."""
        if not self._workers:
            self._idle.append(await self._new_worker())

    async def invoke(self, event: dict[str, Any] | bytes) -> Invocation:
        """Run the handler on one event (or its JSON bytes); its errors are in the answer, never raised."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        request_id = str(uuid.uuid4())
        if len(body) > MAX_REQUEST_BYTES:
            outcome = Outcome.failed("RequestEntityTooLarge", f"Request must be smaller than {MAX_REQUEST_BYTES} "
                                     f"bytes for the InvokeFunction operation, got {len(body)}")
            return self._finish(request_id, outcome, 0.0, "")
        async with self._slots:
            call = Call(request_id, body, self.arn, self.settings.timeout_s, _trace_id())
            log_at = bound_log(self.log_path)
            self.counters["event_bytes"] += len(body)
            self._log_platform("start", f"START RequestId: {request_id} Version: $LATEST\n", request_id, {})
            outcome = await self._run(call)
            duration_ms = (time.monotonic() - call.taken_at_s) * 1000 if call.taken.is_set() else 0.0
            self._log_report(request_id, duration_ms)
            return self._finish(request_id, outcome, duration_ms, self._log_tail(log_at))

    async def _run(self, call: Call) -> Outcome:
        """Give the call to a worker; when a warm one turns out to have died meanwhile, to another."""
        while True:
            try:
                worker = await self._take_worker()
            except OSError as fault:
                return Outcome.failed("Runtime.InvalidEntrypoint", f"the worker process did not start: {fault}")
            was_warm = worker.warm
            try:
                outcome = await worker.run(call)
            finally:
                await self._release(worker)
            if call.taken.is_set() or not was_warm:
                return outcome

    async def invoke_async(self, event: dict[str, Any] | bytes) -> str:
        """Queue one event: retried after a function error, then sent to the on-failure destination. Returns its id."""
        return self._events.submit(event if isinstance(event, bytes) else json.dumps(event).encode())

    def idle(self) -> bool:
        """Nothing runs and no asynchronous event waits for its (next) try."""
        return not self._events.waiting() and len(self._idle) == len(self._workers)

    async def drain(self) -> None:
        """Wait until every asynchronous event has been done or given up."""
        await self._events.drain()

    def warm(self) -> int:
        """How many workers wait for a call."""
        return sum(worker.alive for worker in self._idle)

    def kill(self) -> None:
        """Kill every worker as it stands (fault switch): running calls fail, the next one starts a fresh worker."""
        for worker in self._workers:
            worker.kill()

    async def close(self) -> None:
        """End all workers and drop asynchronous events that still wait."""
        self._closed = True
        self._events.close()
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._workers.clear()
        self._idle.clear()

    async def _take_worker(self) -> Worker:
        """A warm worker that was not killed meanwhile, else a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await self._release(worker)
        return await self._new_worker()

    async def _new_worker(self) -> Worker:
        if self._closed:
            raise RuntimeError(f"function {self.name} is closed; nothing runs it any more")
        worker = Worker(self._program)
        self._workers.add(worker)
        try:
            await worker.start()
        except (OSError, asyncio.CancelledError):
            self._workers.discard(worker)
            await worker.close()
            raise
        self.counters["cold_starts"] += 1
        return worker

    async def _release(self, worker: Worker) -> None:
        if worker.alive:
            self._idle.append(worker)
            return
        self._workers.discard(worker)
        await worker.close()

    def _finish(self, request_id: str, outcome: Outcome, duration_ms: float, log_tail: str) -> Invocation:
        self.counters["invocations"] += 1
        self.counters["duration_ms"] += duration_ms
        self.durations_ms.append(duration_ms)
        if outcome.error is not None:
            self.last_error = outcome.error
            self.counters["errors"] += 1
            self.counters["timeouts"] += outcome.error.get("errorType") == "Sandbox.Timedout"
            log.warning("function %s failed: %s: %s (its log: %s)", self.name, outcome.error.get("errorType"),
                        outcome.error.get("errorMessage"), self.log_path)
        return Invocation(request_id, outcome.payload, outcome.error, duration_ms, log_tail)

    def _log_report(self, request_id: str, duration_ms: float) -> None:
        self._log_platform("report", (
            f"END RequestId: {request_id}\n"
            f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {int(duration_ms) + 1}"
            f" ms\tMemory Size: {self.settings.memory_mb} MB\n"), request_id,
            {"metrics": {"durationMs": round(duration_ms, 3), "billedDurationMs": int(duration_ms) + 1,
                         "memorySizeMB": self.settings.memory_mb}})

    def _log_platform(self, kind: str, text: str, request_id: str, record: dict[str, Any]) -> None:
        """Add a line of the platform's to the function's log, in order with what the function prints."""
        if self.settings.log_format == "JSON":
            text = json.dumps({"time": utc_text(time.time()), "type": f"platform.{kind}",
                               "record": {"requestId": request_id, **record}}) + "\n"
        append_log(self.log_path, text)

    def _log_tail(self, log_at: int) -> str:
        with self.log_path.open("rb") as written:
            size = written.seek(0, 2)
            written.seek(max(log_at, size - LOG_TAIL_BYTES))
            return written.read(LOG_TAIL_BYTES).decode("utf-8", "replace")


def _trace_id() -> str:
    return f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"


class FunctionService:
    """All functions. `worker_environment` is added to every worker's clean environment (AWS_ENDPOINT_URL …);
    `send_to(arn, body)` delivers dead letters and on-failure records; logs go to log_dir/<function>.log."""

    def __init__(self, account_id: str, region: str, worker_environment: Mapping[str, str], log_dir: Path,
                 send_to: SendTo | None = None, max_workers: int = 4,
                 async_retry_delays_s: tuple[float, float] = (1.0, 2.0)) -> None:
        self.account_id = account_id
        self.region = region
        self.worker_environment = dict(worker_environment)
        self.log_dir = log_dir
        self.send_to = send_to
        self.max_workers = max_workers
        self.async_retry_delays_s = async_retry_delays_s  # AWS waits 1 and 2 minutes
        self._functions: dict[str, Function] = {}

    def create(self, name: str, properties: Mapping[str, Any], code_dir: Path) -> Function:
        """A function from AWS::Lambda::Function properties and the directory its zip was made from."""
        if name in self._functions:
            raise DeployError(f"{WHERE}: a function named {name} exists; delete it or choose another name")
        if not code_dir.is_dir():
            raise DeployError(f"{WHERE}.Code: {code_dir} is no directory; synthesize the assembly again")
        settings = settings_from(properties)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log_path = self.log_dir / f"{name}.log"
        log_path.touch()
        program = Program(name, settings.handler, code_dir, self._environment(name, settings, code_dir), log_path)
        function = self._functions[name] = Function(self, name, settings, program)
        return function

    def _environment(self, name: str, settings: FunctionSettings, code_dir: Path) -> dict[str, str]:
        environment = base_environment(code_dir) | {
            "_HANDLER": settings.handler, "AWS_EXECUTION_ENV": f"AWS_Lambda_{settings.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}", "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_LAMBDA_LOG_FORMAT": settings.log_format, "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region, "AWS_ACCESS_KEY_ID": ACCESS_KEY + name,
            "AWS_SECRET_ACCESS_KEY": "local", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled"}
        if settings.log_level:
            environment["AWS_LAMBDA_LOG_LEVEL"] = settings.log_level
        return environment | self.worker_environment | dict(settings.variables)

    def by_name(self, name: str) -> Function | None:
        """The function of this name, ARN, or ARN with a version or alias; None when there is none."""
        parts = name.split(":")
        return self._functions.get(parts[6] if len(parts) > 6 else parts[0])

    def existing(self, where: str, name: str) -> Function:
        """As by_name(); DeployError, naming the property `where`, when there is none."""
        function = self.by_name(name)
        if function is None:
            raise DeployError(f"{where}: {name} is no function of this deployment; "
                              f"there are {', '.join(self.names()) or 'none'}")
        return function

    def all(self) -> list[Function]:
        """Every function, by name."""
        return [self._functions[name] for name in self.names()]

    def names(self) -> list[str]:
        """The names of all functions, sorted."""
        return sorted(self._functions)

    async def delete(self, name: str) -> None:
        """End a function's workers and forget it."""
        function = self._functions.pop(name, None)
        if function is None:
            raise DeployError(f"{WHERE}: there is no function named {name}")
        await function.close()

    async def close(self) -> None:
        """End every worker of every function."""
        await asyncio.gather(*(function.close() for function in self._functions.values()))
