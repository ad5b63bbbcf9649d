"""The control port's manners: whom it answers, and what it says to a request that is wrong."""

import asyncio
import json
from typing import Any

import pytest

from local_cloud.control import ControlPort
from local_cloud.errors import DeployError
from local_cloud.http_wire import Request


class Cloud:
    """Stands where the local cloud is: answers with what it was asked."""

    def __init__(self, running: bool = True) -> None:
        self.running = running

    async def flush(self, deadline_s: float) -> dict[str, Any]:
        return {"idle": deadline_s > 1, "deadline_s": deadline_s}

    async def state(self) -> dict[str, Any]:
        return {"idle": True}

    async def alarms(self) -> list[dict[str, Any]]:
        return [{"state": "OK"}]

    def logs(self, text: str) -> list[dict[str, Any]]:
        return [{"line": text}]

    def endpoints(self) -> dict[str, Any]:
        return {"pid": 1}

    async def destroy(self) -> list[str]:
        raise DeployError("stack S, resource B: not empty")

    async def deploy(self) -> None:
        return None

    async def bill(self) -> dict[str, Any]:
        return {"total": 0}

    def notifications(self) -> list[dict[str, Any]]:
        return []

    async def fire(self, rule: str) -> list[str]:
        return [f"invoked by {rule}"]

    async def faults(self, switches: dict[str, Any]) -> dict[str, Any]:
        return switches


def ask(method: str, target: str, body: bytes = b"", cloud: Cloud | None = None, **headers: str) -> tuple[int, Any]:
    answer = asyncio.run(ControlPort(cloud or Cloud()).handle(Request(method, target, list(headers.items()), body)))
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(("method", "target", "body", "status", "answered"), [
    ("GET", "/state", b"", 200, {"idle": True}), ("GET", "/alarms", b"", 200, [{"state": "OK"}]),
    ("GET", "/bill", b"", 200, {"total": 0}), ("GET", "/notifications", b"", 200, []),
    ("GET", "/endpoints", b"", 200, {"pid": 1}), ("POST", "/deploy", b"", 200, {"pid": 1}),
    ("GET", "/logs?holding=ab%20c", b"", 200, [{"line": "ab c"}]),
    ("POST", "/fire?rule=nightly", b"", 200, {"invoked": ["invoked by nightly"]}),
    ("POST", "/flush", b"", 200, {"idle": True, "deadline_s": 50.0}),
    ("POST", "/flush?deadline_s=0.5", b"", 504, {"idle": False, "deadline_s": 0.5}),
    ("POST", "/faults", b'{"surface": true}', 200, {"surface": True})])
def test_every_request_has_its_answer(method: str, target: str, body: bytes, status: int, answered: Any) -> None:
    assert ask(method, target, body) == (status, answered)


@pytest.mark.parametrize(("method", "target", "body", "status", "told"), [
    ("GET", "/nothing", b"", 404, "GET /nothing: unknown; known: POST /flush"),
    ("GET", "/flush", b"", 404, "GET /flush: unknown"), ("POST", "/fire", b"", 400, "POST /fire wants ?rule=NAME"),
    ("GET", "/logs", b"", 400, "GET /logs wants ?holding=TEXT"), ("POST", "/flush?deadline_s=soon", b"", 400, "soon"),
    ("POST", "/faults", b"[]", 400, "body is list, expected an object of switches"),
    ("POST", "/faults", b"{", 400, "JSONDecodeError"), ("POST", "/destroy", b"", 409, "resource B: not empty")])
def test_a_wrong_request_is_told_why(method: str, target: str, body: bytes, status: int, told: str) -> None:
    answered, content = ask(method, target, body)
    assert answered == status and told in content["error"]


def test_web_pages_and_early_callers_are_turned_away() -> None:
    assert ask("POST", "/destroy", Origin="http://evil.example")[0] == 403
    assert ask("GET", "/state", cloud=Cloud(running=False))[0] == 503
