"""HTTP APIs for tests: one function that answers what a test wants, and a story with a client of the started API."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from local_cloud.http_api import HttpApi
from local_cloud.runtime_api import Invocation

ARN = "arn:aws:lambda:eu-north-1:123456789012:function:api"
HTTP = {"Name": "edge", "ProtocolType": "HTTP"}
Answer = Callable[[dict[str, Any]], Any]
Story = Callable[[httpx.AsyncClient, "FakeFunctions"], Awaitable[None]]


class FakeFunctions:
    """Takes the FunctionService's place: one function that answers what `answer(event)` returns or raises."""

    account_id = "123456789012"
    region = "eu-north-1"

    def __init__(self, answer: Answer) -> None:
        self.events: list[dict[str, Any]] = []
        self.delay_s = 0.0
        self._answer = answer

    def by_name(self, name: str) -> Any:
        return self if name == ARN else None

    async def invoke(self, event: dict[str, Any]) -> Invocation:
        self.events.append(json.loads(json.dumps(event)))
        await asyncio.sleep(self.delay_s)
        try:
            answer = self._answer(event)
        except RuntimeError as error:
            return Invocation("id", b"{}", {"errorType": "RuntimeError", "errorMessage": str(error)}, 1.0, "")
        return Invocation("id", answer if isinstance(answer, bytes) else json.dumps(answer).encode(), None, 1.0, "")


def make(functions: Any, *routes: str, properties: dict[str, Any] | None = None, **options: Any) -> HttpApi:
    """An API whose routes all lead to the one function."""
    api = HttpApi("abc123defg", {**HTTP, **(properties or {})}, functions, **options)
    api.add_integration("i", {"ApiId": "abc123defg", "IntegrationType": "AWS_PROXY", "IntegrationUri": ARN,
                              "PayloadFormatVersion": "2.0"})
    for number, route in enumerate(routes):
        api.add_route(f"r{number}", {"ApiId": "abc123defg", "RouteKey": route, "Target": "integrations/i"})
    api.add_stage({"ApiId": "abc123defg", "StageName": "$default", "AutoDeploy": True,
                   "DefaultRouteSettings": {"ThrottlingBurstLimit": 50, "ThrottlingRateLimit": 100}})
    return api


def serve(api: HttpApi, functions: Any, story: Story, host: str = "127.0.0.1") -> None:
    """Run a story with a client of the started API."""

    async def main() -> None:
        await api.start(0, host)
        try:
            async with httpx.AsyncClient(base_url=api.endpoint, timeout=20) as client:
                await asyncio.wait_for(story(client, functions), 30)
        finally:
            await api.close()

    asyncio.run(main())


def run(answer: Answer, story: Story, *routes: str, **properties: Any) -> None:
    """A story with an API of these routes, all of them if none is named."""
    functions = FakeFunctions(answer)
    serve(make(functions, *(routes or ("$default",)), properties=properties), functions, story)
