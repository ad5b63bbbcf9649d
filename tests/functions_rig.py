"""Real functions for tests: handlers in a directory, a service that runs them, and a story with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from local_cloud.functions import Function, FunctionService

ACCOUNT, REGION = "123456789012", "eu-north-1"
Story = Callable[[FunctionService, Callable[..., Function]], Awaitable[None]]
HANDLERS = '''
import logging, os, sys, time
print("module imported")
calls = 0

def echo(event, context):
    global calls
    calls += 1
    print("handling", event)
    return {"event": event, "calls": calls, "arn": context.invoked_function_arn, "id": context.aws_request_id,
            "left_ms": context.get_remaining_time_in_millis(), "name": context.function_name, "pid": os.getpid()}

def environment(event, context):
    return {"environment": dict(os.environ), "cwd": os.getcwd(), "path": sys.path,
            "client": sys.modules["runtime_client"].__file__}

def fail(event, context):
    raise KeyError("no such thing")

def leave(event, context):
    os._exit(3)

def sleep(event, context):
    print("asleep for", event, flush=True)
    time.sleep(event)
    return os.getpid()

def unserialisable(event, context):
    return object()

def large(event, context):
    return "x" * event

def flaky(event, context):
    with open(event, "a") as tries:
        tries.write("x")
    if os.path.getsize(event) < 3:
        raise RuntimeError("not yet")

def spawn(event, context):
    import subprocess
    return subprocess.Popen(["sleep", "60"]).pid

def log(event, context):
    logging.getLogger().warning("a warning")
'''


def run(tmp_path: Path, story: Story, **options: Any) -> None:
    """Run a story with a service whose functions are the handlers above."""
    code_dir = tmp_path / "code"
    code_dir.mkdir(exist_ok=True)
    (code_dir / "handlers.py").write_text(HANDLERS)
    (code_dir / "broken.py").write_text("import nothing_of_that_name\n")

    async def main() -> None:
        service = FunctionService(ACCOUNT, REGION, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
                                  tmp_path / "logs", **options)

        def create(handler: str, **properties: Any) -> Function:
            name = properties.pop("name", handler)
            return service.create(name, {"Runtime": "python3.13", "Timeout": 10, "Code": {"S3Key": "x.zip"},
                                         "Handler": handler if "." in handler else f"handlers.{handler}",
                                         **properties}, code_dir)

        try:
            await asyncio.wait_for(story(service, create), 60)
        finally:
            await service.close()

    asyncio.run(main())
