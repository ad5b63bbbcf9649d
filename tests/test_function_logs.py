"""What functions print, between Lambda's own lines: as text, as JSON, and in a log that does not grow for ever."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from local_cloud import function_worker
from local_cloud.functions import Function, FunctionService
from tests.functions_rig import run


def test_json_logs_are_json_lines(tmp_path: Path):
    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("log", LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN"})
        invocation = await function.invoke({})
        lines = [json.loads(line) for line in invocation.log_tail.splitlines() if line.startswith("{")]
        assert [line["type"] for line in lines if "type" in line] == ["platform.start", "platform.report"]
        assert [line["message"] for line in lines if line.get("level") == "WARNING"] == ["a warning"]

    run(tmp_path, story)


def test_a_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(function_worker, "MAX_LOG_BYTES", 300)

    async def story(service: FunctionService, create: Callable[..., Function]) -> None:
        function = create("echo")
        for number in range(4):
            assert f"handling {number}" in (await function.invoke(str(number).encode())).log_tail
        assert function.log_path.stat().st_size < 1000
        assert "REPORT RequestId" in function.log_path.with_suffix(".log.1").read_text()

    run(tmp_path, story)
