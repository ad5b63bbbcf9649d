"""A pytest plug-in: every SDK call that a Lambda handler makes under the tests goes to the file $RECORD_CALLS.

`pytest -p tests.recorded_calls tests/test_lambda_*.py`; one JSON line a distinct call: the function, the request's
parameters that name a resource, and the environment variable that each of them came from.
"""
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from botocore.client import BaseClient

from tests.synthesized import ROOT

VARIABLE = "RECORD_CALLS"


class Recorded(NamedTuple):
    """function: persist; service and operation: dynamodb, PutItem; resource: the name that the request gave, or the
    variable ($READINGS_TABLE) that holds it; index: of a table."""

    function: str
    service: str
    operation: str
    resource: str
    index: str | None


def _function(frame: FrameType | None) -> str | None:
    """The function that made the call, `lambdas.<function>.handler`; None when a test made it, within one or not."""
    while frame is not None:
        package, _, name = frame.f_globals.get("__name__", "").rpartition(".")
        if package == "lambdas" and frame.f_code.co_name == "handler":
            return str(name)
        if package == "tests" and name != "recorded_calls":
            return None
        frame = frame.f_back
    return None


def _named(value: str) -> str:
    return next((f"${name}" for name, held in sorted(os.environ.items()) if held == value), value)


def _resources(given: dict[str, Any]) -> list[tuple[str, str | None]]:
    """(name, index) of each resource that a request names."""
    if "RequestItems" in given:
        return [(table, None) for table in given["RequestItems"]]
    for key in ("TableName", "TopicArn", "DeliveryStreamName", "topic"):
        if key in given:
            return [(str(given[key]), given.get("IndexName"))]
    return [("*", None)]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Any:
    """Record while the tests run."""
    calls: set[Recorded] = set()
    plain = BaseClient._make_api_call

    def recording(self: BaseClient, operation: str, given: dict[str, Any]) -> Any:
        function = _function(sys._getframe())
        if function is not None:
            for name, index in _resources(given):
                calls.add(Recorded(function, self.meta.service_model.service_name, operation, _named(name), index))
        return plain(self, operation, given)

    BaseClient._make_api_call = recording
    try:
        return (yield)
    finally:
        BaseClient._make_api_call = plain
        Path(os.environ[VARIABLE]).write_text("".join(json.dumps(one) + "\n" for one in sorted(calls, key=str)))


def record(tests: Iterable[str], path: Path) -> set[Recorded]:
    """Run these tests in a process of their own; what their handlers called. That they pass is not asked here."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.recorded_calls", "-p", "no:cacheprovider", *tests],
        cwd=ROOT, env={**os.environ, VARIABLE: str(path)}, capture_output=True, text=True)
    assert done.returncode in (0, 1), f"the handlers' own tests did not run:\n{done.stdout[-2000:]}"
    return {Recorded(*json.loads(line)) for line in path.read_text().splitlines()}
