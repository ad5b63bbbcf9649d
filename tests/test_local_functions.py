"""Functions as real processes under awslambdaric, once with its native client and once with our stand-in."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cloud.function_worker import uses_standin
from local_cloud.functions import Function, FunctionService
from tests.functions_rig import HANDLERS, run
from tests.waiting import eventually, until

NATIVE = importlib.util.find_spec("runtime_client") is not None
CLIENTS = [pytest.param("native", marks=pytest.mark.skipif(not NATIVE, reason="no native client on this platform")),
           "standin"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which runtime client the workers get; every test that uses it runs with both."""
    monkeypatch.setenv("LOCAL_CLOUD_RUNTIME_CLIENT", request.param)
    assert uses_standin() == (request.param == "standin")
    yield request.param


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_result_comes_back_and_the_worker_stays_warm(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        first = await function.invoke({"n": 1})
        second = await function.invoke(b'{"n": 2}')
        answer = json.loads(second.payload)
        assert first.error is None and second.error is None
        assert answer["event"] == {"n": 2}
        assert answer["calls"] == 2, "module state is kept between calls"
        assert answer["arn"] == function.arn == "arn:aws:lambda:eu-north-1:123456789012:function:echo"
        assert answer["id"] == second.request_id
        assert 0 < answer["left_ms"] <= 10_000
        assert (function.counters["invocations"], function.counters["cold_starts"]) == (2, 1)
        assert second.duration_ms > 0

    run(tmp_path, story)


def test_the_log_has_what_the_function_printed_between_lambdas_own_lines(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        await function.invoke({})
        invocation = await function.invoke({"n": 7})
        lines = invocation.log_tail.splitlines()
        assert lines[0] == f"START RequestId: {invocation.request_id} Version: $LATEST"
        assert lines[1] == "handling {'n': 7}"
        assert lines[2] == f"END RequestId: {invocation.request_id}"
        assert lines[3].startswith(f"REPORT RequestId: {invocation.request_id}\tDuration: ")
        assert "module imported" in function.log_path.read_text()

    run(tmp_path, story)


def test_the_workers_environment_is_the_templates(tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")

    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("environment", Environment={"Variables": {"TABLE": "readings", "LIMIT": 5}}, MemorySize="256")
        found = json.loads((await function.invoke({})).payload)
        environment = found["environment"]
        assert (environment["TABLE"], environment["LIMIT"]) == ("readings", "5")
        assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
        assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == "eu-north-1"
        assert environment["AWS_SECRET_ACCESS_KEY"] == "local"
        assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
        assert environment["AWS_ACCOUNT_ID_ENDPOINT_MODE"] == "disabled"
        assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
        assert "AWS_PROFILE" not in environment and "HOME" not in environment
        assert "/somewhere/else" not in found["path"]
        assert ("runtime_standin" in found["client"]) == (client == "standin")
        assert Path(found["cwd"]).resolve() == (tmp_path / "code").resolve()
        assert not list((tmp_path / "code").glob("**/__pycache__"))

    run(tmp_path, story)


@pytest.mark.parametrize(("handler", "event", "error_type", "text"), [
    ("fail", {}, "KeyError", "no such thing"),
    ("leave", {}, "Runtime.ExitError", "exit status 3"),
    ("unserialisable", {}, "Runtime.MarshalError", "not JSON serializable"),
    ("large", 6_400_000, "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size"),
    ("missing", {}, "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'handlers'"),
    ("broken.handler", {}, "Runtime.ImportModuleError", "nothing_of_that_name")])
def test_errors_are_those_of_lambda_and_the_next_call_is_served(tmp_path: Path, client: str, handler: str, event: Any,
                                                                error_type: str, text: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create(handler, name="f")
        for _ in range(2):
            invocation = await function.invoke(json.dumps(event).encode())
            assert invocation.error is not None
            assert invocation.error["errorType"] == error_type
            assert text in invocation.error["errorMessage"]
            assert json.loads(invocation.payload) == invocation.error == function.last_error
        assert function.counters["errors"] == 2

    run(tmp_path, story)


def test_a_time_out_kills_the_worker_and_the_next_call_gets_a_fresh_one(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("sleep", Timeout=1)
        warm = json.loads((await function.invoke(b"0")).payload)
        timed_out = await function.invoke(b"30")
        assert timed_out.error is not None
        assert timed_out.error["errorType"] == "Sandbox.Timedout"
        assert "Task timed out after 1.00 seconds" in timed_out.error["errorMessage"]
        assert "Task timed out after 1.00 seconds" in timed_out.log_tail
        assert timed_out.duration_ms > 900
        fresh = json.loads((await function.invoke(b"0")).payload)
        assert fresh != warm
        assert not alive(warm)
        assert function.counters["timeouts"] == 1

    run(tmp_path, story)


def test_a_killed_worker_fails_its_call_and_is_replaced(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("sleep")
        await function.invoke(b"0")
        running = asyncio.create_task(function.invoke(b"30"))
        await until(lambda: "asleep for 30" in function.log_path.read_text())
        function.kill()
        error = (await running).error
        assert error is not None and error["errorType"] == "Runtime.ExitError"
        assert "SIGKILL" in error["errorMessage"]
        assert (await function.invoke(b"0")).error is None
        function.kill()
        assert (await function.invoke(b"0")).error is None, "a worker killed while idle costs no call"

    run(tmp_path, story)


def test_a_worker_that_died_while_idle_costs_no_call(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        pid = json.loads((await function.invoke({})).payload)["pid"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not function.warm())
        assert json.loads((await function.invoke({})).payload)["calls"] == 1

    run(tmp_path, story)


def test_one_worker_by_default_and_more_when_concurrency_is_reserved(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        one, two = create("sleep"), create("sleep", name="two", ReservedConcurrentExecutions=2)
        assert (one.concurrency, two.concurrency) == (1, 2)
        for function, workers in ((one, 1), (two, 2)):
            results = await asyncio.gather(*(function.invoke(b"0.3") for _ in range(4)))
            assert len({invocation.payload for invocation in results}) == workers
            assert function.counters["cold_starts"] == workers

    run(tmp_path, story)


def test_a_large_event_and_result_pass(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        event = {"body": "ü" * 1_500_000}
        invocation = await create("echo").invoke(json.dumps(event, ensure_ascii=False).encode())
        assert json.loads(invocation.payload)["event"] == event
        refused = await service.by_name("echo").invoke(b"x" * 6_291_457)  # type: ignore[union-attr]
        assert refused.error is not None and refused.error["errorType"] == "RequestEntityTooLarge"

    run(tmp_path, story)


def test_a_warm_call_waits_for_no_delayed_acknowledgement(tmp_path: Path, client: str):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        await function.invoke({})
        found = [await function.invoke({}) for _ in range(100)]
        assert all(invocation.error is None for invocation in found)
        # Without TCP_NODELAY even the quickest takes the 40 ms that TCP may hold an acknowledgement back.
        assert min(invocation.duration_ms for invocation in found) < 35

    run(tmp_path, story)


def test_close_ends_the_worker_and_its_children(tmp_path: Path, client: str):
    pids: list[int] = []

    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        pids.append(json.loads((await create("echo").invoke({})).payload)["pid"])
        pids.append(json.loads((await create("spawn").invoke({})).payload))

    run(tmp_path, story)
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_workers_end_when_the_local_cloud_is_killed(tmp_path: Path, client: str):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    script = textwrap.dedent("""
        import asyncio, json, sys
        from pathlib import Path
        from local_cloud.functions import FunctionService

        async def main():
            service = FunctionService("123456789012", "eu-north-1", {}, Path(sys.argv[1]) / "logs")
            function = service.create("f", {"Handler": "handlers.echo", "Runtime": "python3.13"}, Path(sys.argv[1]))
            print(json.loads((await function.invoke({})).payload)["pid"], flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parent.parent) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    eventually(lambda: not alive(pid), "the worker to end with the local cloud")


def test_a_worker_that_cannot_start_is_an_error_of_the_call(tmp_path: Path):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        code_dir = tmp_path / "code"
        code_dir.rename(tmp_path / "moved")
        error = (await function.invoke({})).error
        assert error is not None and error["errorType"] == "Runtime.InvalidEntrypoint"
        (tmp_path / "moved").rename(code_dir)
        assert (await function.invoke({})).error is None

    run(tmp_path, story)
