"""The control port (127.0.0.1 only, JSON): what the demo, tests and drills ask of a running local cloud.

`POST /flush`, `GET /state`, `GET /bill`, `GET /alarms`, `GET /notifications`, `POST /fire`, `GET /logs`,
`GET /endpoints`, `POST /destroy`, `POST /deploy`, `POST /faults`: see each one.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from local_cloud.errors import DeployError, Unsupported
from local_cloud.http_wire import Request, Response, Server

FLUSH_DEADLINE_S = 50.0


class Controlled(Protocol):
    """What the control port needs of the local cloud."""

    @property
    def running(self) -> bool: ...
    async def flush(self, deadline_s: float) -> dict[str, Any]: ...
    async def state(self) -> dict[str, Any]: ...
    async def alarms(self) -> list[dict[str, Any]]: ...
    def logs(self, text: str) -> list[dict[str, Any]]: ...
    def endpoints(self) -> dict[str, Any]: ...
    async def destroy(self) -> list[str]: ...
    async def deploy(self) -> None: ...
    async def bill(self) -> dict[str, Any]: ...
    def notifications(self) -> list[dict[str, Any]]: ...
    async def fire(self, rule: str) -> list[str]: ...
    async def faults(self, switches: dict[str, Any]) -> dict[str, Any]: ...


class ControlPort:
    """Answers control requests; `await start(port)` binds 127.0.0.1."""

    def __init__(self, cloud: Controlled) -> None:
        self._cloud = cloud
        self._server = Server(self.handle)
        self._routes: dict[tuple[str, str], Callable[[Request], Awaitable[tuple[int, Any]]]] = {
            ("POST", "/flush"): self._flush,
            ("GET", "/state"): self._state,
            ("GET", "/bill"): self._bill,
            ("GET", "/notifications"): self._notifications,
            ("POST", "/fire"): self._fire,
            ("GET", "/alarms"): self._alarms,
            ("GET", "/logs"): self._logs,
            ("GET", "/endpoints"): self._endpoints,
            ("POST", "/destroy"): self._destroy,
            ("POST", "/deploy"): self._deploy,
            ("POST", "/faults"): self._faults,
        }

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._server.port

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1; OSError when the port is taken."""
        await self._server.start("127.0.0.1", port)

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close()

    async def handle(self, request: Request) -> Response:
        """Answer one request; faults of the template or the request are 409 and 400 with their text."""
        if "origin" in request.headers:
            return _answer(403, {"error": "the control port is not for web pages"})
        if not self._cloud.running:
            return _answer(503, {"error": "the local cloud is starting or stopping"})
        path = urlsplit(request.target).path
        route = self._routes.get((request.method, path))
        if route is None:
            known = ", ".join(f"{method} {known_path}" for method, known_path in self._routes)
            return _answer(404, {"error": f"{request.method} {path}: unknown; known: {known}"})
        try:
            return _answer(*await route(request))
        except (DeployError, Unsupported) as fault:
            return _answer(409, {"error": str(fault)})
        except (ValueError, TypeError, KeyError) as fault:
            return _answer(400, {"error": f"{type(fault).__name__}: {fault}"})

    async def _flush(self, request: Request) -> tuple[int, Any]:
        """Deliver what is held and wait until nothing waits: 200, or 504 with what still does (`?deadline_s=`)."""
        query = parse_qs(urlsplit(request.target).query)
        result = await self._cloud.flush(float(query.get("deadline_s", [FLUSH_DEADLINE_S])[0]))
        return 200 if result["idle"] else 504, result

    async def _state(self, request: Request) -> tuple[int, Any]:
        """Counters, queue depths, and what is not idle."""
        return 200, await self._cloud.state()

    async def _bill(self, request: Request) -> tuple[int, Any]:
        """What AWS would have billed since the start."""
        return 200, await self._cloud.bill()

    async def _notifications(self, request: Request) -> tuple[int, Any]:
        """The latest messages of all SNS topics, newest last, and where each went or would have been sent."""
        return 200, self._cloud.notifications()

    async def _fire(self, request: Request) -> tuple[int, Any]:
        """Let a scheduled rule's time come now (`?rule=`, its physical name): the functions that it invoked."""
        (rule,) = parse_qs(urlsplit(request.target).query).get("rule", [""])
        if not rule:
            raise ValueError("POST /fire wants ?rule=NAME, the physical name of a scheduled rule")
        return 200, {"invoked": await self._cloud.fire(rule)}

    async def _alarms(self, request: Request) -> tuple[int, Any]:
        """Every alarm with its state, evaluated now."""
        return 200, await self._cloud.alarms()

    async def _logs(self, request: Request) -> tuple[int, Any]:
        """`?holding=TEXT`: lines of all functions' logs that hold it, a batch id for example, by time."""
        (text,) = parse_qs(urlsplit(request.target).query).get("holding", [""])
        if not text:
            raise ValueError("GET /logs wants ?holding=TEXT, for example a batch id")
        return 200, self._cloud.logs(text)

    async def _endpoints(self, request: Request) -> tuple[int, Any]:
        """What the ready file says."""
        return 200, self._cloud.endpoints()

    async def _destroy(self, request: Request) -> tuple[int, Any]:
        """Delete every resource in reverse order; names what is retained."""
        return 200, {"retained": await self._cloud.destroy()}

    async def _deploy(self, request: Request) -> tuple[int, Any]:
        """Deploy again after a destroy; answers the new endpoints."""
        await self._cloud.deploy()
        return 200, self._cloud.endpoints()

    async def _faults(self, request: Request) -> tuple[int, Any]:
        """Set switches, for example {"gateway": {"cut": {}}, "rules": {"name": false}}: see fault_switches.py."""
        body = json.loads(request.body or b"{}")
        if not isinstance(body, dict):
            raise ValueError(f"body is {type(body).__name__}, expected an object of switches")
        return 200, await self._cloud.faults(body)


def _answer(status: int, body: Any) -> Response:
    return Response(status, json.dumps(body, default=str).encode() + b"\n", [("Content-Type", "application/json")])
