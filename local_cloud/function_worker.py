"""One process that runs one Lambda function: calls come from functions.py and go through runtime_api.py to AWS's own
runtime client; what the function prints goes to the function's log file."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cloud.runtime_api import Call, Outcome, RuntimeApi

log = logging.getLogger(__name__)

INIT_LIMIT_S = 60.0  # AWS gives 10 s and then starts again; a laptop that starts six workers at once needs longer
STOP_GRACE_S = 2.0
MAX_LOG_BYTES = 32 * 1024 * 1024
STANDIN_DIR = Path(__file__).parent / "runtime_standin"


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs: handler "module.function", its directory, its whole environment and its log file."""

    name: str
    handler: str
    code_dir: Path
    environment: Mapping[str, str]
    log_path: Path


def append_log(log_path: Path, text: str) -> None:
    """Append to a function's log; its worker appends to the same file, so that the order is kept."""
    with log_path.open("ab") as output:
        output.write(text.encode("utf-8", "replace"))


def bound_log(log_path: Path) -> int:
    """The log's size in bytes; above MAX_LOG_BYTES it is first set aside as <name>.log.1 (workers append)."""
    size_bytes = log_path.stat().st_size if log_path.exists() else 0
    if size_bytes <= MAX_LOG_BYTES:
        return size_bytes
    shutil.copyfile(log_path, log_path.with_suffix(".log.1"))
    os.truncate(log_path, 0)
    return 0


def uses_standin() -> bool:
    """Whether workers get the pure Python runtime_client: when asked to, or when the native one is missing."""
    asked = os.environ.get("LOCAL_CLOUD_RUNTIME_CLIENT") == "standin"
    return asked or importlib.util.find_spec("runtime_client") is None


def base_environment(code_dir: Path) -> dict[str, str]:
    """What every worker needs and nothing of the parent's: no credentials, no configuration files, no proxy."""
    path = [str(code_dir)] + ([str(STANDIN_DIR)] if uses_standin() else [])
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1", "LANG": "en_US.UTF-8", "PYTHONUTF8": "1", "TZ": ":UTC",
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1,localhost",
            "LAMBDA_TASK_ROOT": str(code_dir), "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}


class Worker:
    """A started process. After run() look at `alive`: a dead worker is to be closed and replaced."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._api = RuntimeApi()
        self._process: asyncio.subprocess.Process | None = None
        self._exit: asyncio.Task[int] | None = None
        self._running = False
        self.warm = False

    @property
    def alive(self) -> bool:
        """Started, not killed, and not ended by itself as far as is known."""
        return self._running and self._exit is not None and not self._exit.done()

    async def start(self) -> None:
        """Start the process; it imports the handler by itself and then waits for calls."""
        environment = dict(self._program.environment, AWS_LAMBDA_RUNTIME_API=await self._api.start())
        with self._program.log_path.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal must not end workers that still have to drain.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "awslambdaric", self._program.handler, cwd=self._program.code_dir,
                env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
        self._exit = asyncio.create_task(self._process.wait())
        self._running = True

    async def run(self, call: Call) -> Outcome:
        """Have the worker do one call: its result, its error, its death or its time-out."""
        assert self._exit is not None
        self._api.offer(call)
        try:
            taken = asyncio.create_task(call.taken.wait())
            try:
                first: set[asyncio.Future[Any]] = {taken, self._exit}
                await asyncio.wait(first, timeout=INIT_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                taken.cancel()
            if not call.taken.is_set():
                return self._never_taken(call)
            remaining_s = call.taken_at_s + call.timeout_s - time.monotonic()
            ends: set[asyncio.Future[Any]] = {call.outcome, self._exit}
            await asyncio.wait(ends, timeout=max(0.0, remaining_s), return_when=asyncio.FIRST_COMPLETED)
            self.warm = True
            return call.outcome.result() if call.outcome.done() else self._cut_short(call)
        finally:
            self._api.forget(call)
            if self._exit.done() or not call.outcome.done():
                self.kill()

    def _never_taken(self, call: Call) -> Outcome:
        if self._api.init_error is not None:
            outcome = self._api.init_error
        elif self._exit is not None and self._exit.done():
            outcome = Outcome.failed("Runtime.ExitError", f"RequestId: {call.request_id} Error: Runtime exited "
                                     f"before it was ready: {_ending(self._exit.result())}")
        else:
            outcome = Outcome.failed("Sandbox.Timedout", f"RequestId: {call.request_id} Error: the function was not "
                                     f"ready within {INIT_LIMIT_S:.0f} seconds")
        self.kill()
        return outcome

    def _cut_short(self, call: Call) -> Outcome:
        """The process ended, or had to be ended, in the middle of the call."""
        if self._exit is not None and self._exit.done():
            outcome = Outcome.failed("Runtime.ExitError", f"RequestId: {call.request_id} Error: Runtime exited with "
                                     f"error: {_ending(self._exit.result())}")
        else:
            text = f"Task timed out after {call.timeout_s:.2f} seconds"
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            append_log(self._program.log_path, f"{at} {call.request_id} {text}\n")
            outcome = Outcome.failed("Sandbox.Timedout", f"RequestId: {call.request_id} Error: {text}")
        call.settle(outcome)
        self.kill()
        return outcome

    def kill(self) -> None:
        """End the process and its children at once."""
        self._signal(signal.SIGKILL)
        self._running = False

    async def close(self) -> None:
        """End the process (politely, then not) and its Runtime API."""
        self._running = False
        if self._exit is not None and not self._exit.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait({self._exit}, timeout=STOP_GRACE_S)
            if not self._exit.done():
                self._signal(signal.SIGKILL)
                await self._exit
        await self._api.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in this moment
                os.killpg(self._process.pid, number)


def _ending(return_code: int) -> str:
    if return_code < 0:
        return f"signal: {signal.Signals(-return_code).name}"
    return f"exit status {return_code}"
