"""An HTTP API (API Gateway v2) on a port of this machine: requests come from browsers and curl, go as payload format
2.0 events to Lambda functions, and their results go back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local_cloud.asgi_server import AsgiServer
from local_cloud.auto_login import AutoLogin
from local_cloud.cors import cors_from
from local_cloud.errors import DeployError, Unsupported
from local_cloud.functions import FunctionService
from local_cloud.http_events import MalformedResult, Origin, event_from, raw_path, response_from
from local_cloud.http_routes import Route, find_route, parse_route
from local_cloud.jwt_authorizer import FetchKeys, JwtAuthorizer
from local_cloud.properties import flag, integer, refuse_unknown

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024


class HttpApi:
    """One API; add_integration(), add_authorizer(), add_route() and add_stage() may be called before or after start().

    `functions` finds integrations by ARN; `fetch_keys(issuer)` gives a JWT issuer's key set (see jwt_authorizer);
    `auto_login` may add a token to requests of this machine's owner (None: every request brings its own)."""

    def __init__(self, api_id: str, properties: Mapping[str, Any], functions: FunctionService, *,
                 fetch_keys: FetchKeys | None = None, auto_login: AutoLogin | None = None) -> None:
        if properties.get("ProtocolType") != "HTTP":
            raise Unsupported(f"ProtocolType: {properties.get('ProtocolType')} is not emulated, only HTTP is")
        self.api_id = api_id
        self.name = str(properties.get("Name", api_id))
        self.counters = {"requests": 0, "metered_512kb": 0, "status_2xx": 0, "status_4xx": 0, "status_5xx": 0,
                         "preflights": 0}
        self._functions = functions
        self._fetch_keys = fetch_keys
        self._auto_login = auto_login
        self._cors = cors_from(properties.get("CorsConfiguration"))
        self._integrations: dict[str, tuple[str, float]] = {}
        self._authorizers: dict[str, JwtAuthorizer] = {}
        self._routes: dict[str, Route] = {}
        self._stage: str | None = None
        self._stage_variables: dict[str, str] = {}
        self._server = AsgiServer(self)

    def add_integration(self, integration_id: str, properties: Mapping[str, Any]) -> None:
        """Add a Lambda proxy integration (AWS::ApiGatewayV2::Integration)."""
        if properties.get("IntegrationType") != "AWS_PROXY" or ":lambda:" not in str(properties.get("IntegrationUri")):
            raise Unsupported("IntegrationType: only AWS_PROXY to a Lambda function is emulated")
        if properties.get("PayloadFormatVersion") != "2.0":
            got = properties.get("PayloadFormatVersion")
            raise Unsupported(f"PayloadFormatVersion: {got} is not emulated; use 2.0")
        timeout_ms = integer("TimeoutInMillis", properties.get("TimeoutInMillis", 30_000), 50, 30_000)
        self._integrations[integration_id] = (_function_arn(properties["IntegrationUri"]), timeout_ms / 1000)

    def add_authorizer(self, authorizer_id: str, properties: Mapping[str, Any]) -> None:
        """Add a JWT authorizer (AWS::ApiGatewayV2::Authorizer)."""
        self._authorizers[authorizer_id] = JwtAuthorizer(properties, self._fetch_keys)

    def add_route(self, route_id: str, properties: Mapping[str, Any]) -> None:
        """Add a route (AWS::ApiGatewayV2::Route) to an integration of this API."""
        kind = properties.get("AuthorizationType", "NONE")
        if kind not in ("NONE", "JWT"):
            raise Unsupported(f"AuthorizationType: {kind} is not emulated; NONE and JWT are")
        if properties.get("AuthorizationScopes"):
            raise Unsupported("AuthorizationScopes: scopes are not checked locally; leave them out")
        authorizer_id = properties.get("AuthorizerId") if kind == "JWT" else None
        if kind == "JWT" and authorizer_id not in self._authorizers:
            raise DeployError(f"AuthorizerId: {authorizer_id!r} is not an authorizer of this API")
        integration_id = str(properties.get("Target", "")).removeprefix("integrations/")
        if integration_id not in self._integrations:
            raise DeployError(f"Target: {properties.get('Target')!r} is not an integration of this API")
        route = parse_route(properties["RouteKey"], integration_id, authorizer_id)
        if route.key in self.routes():
            raise DeployError(f"RouteKey: the route {route.key} exists already")
        self._routes[route_id] = route

    def add_stage(self, properties: Mapping[str, Any]) -> str:
        """Add the stage (AWS::ApiGatewayV2::Stage): $default with AutoDeploy; returns its name."""
        name = properties.get("StageName")
        if name != "$default" or not flag("AutoDeploy", properties.get("AutoDeploy", False)):
            raise Unsupported(f"StageName: {name} is not emulated; use $default with AutoDeploy true")
        refuse_unknown("DefaultRouteSettings", properties.get("DefaultRouteSettings", {}),
                       {"ThrottlingBurstLimit", "ThrottlingRateLimit", "DetailedMetricsEnabled"})
        self._stage = name
        self._stage_variables = dict(properties.get("StageVariables", {}))
        return str(name)

    def routes(self) -> list[str]:
        """The route keys, most specific first."""
        return [route.key for route in sorted(self._routes.values(), key=Route.specificity)]

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Answer on a port (0: any free one, then in `port`); OSError when it is taken."""
        await self._server.start(port, host)

    @property
    def port(self) -> int:
        """0 before start()."""
        return self._server.port

    @property
    def endpoint(self) -> str:
        """http://host:port, from start() on."""
        return self._server.endpoint

    async def close(self) -> None:
        """Stop answering and free the port."""
        await self._server.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of this API."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        response.headers["apigw-requestid"] = f"{time.time_ns():x}"
        self.counters["requests"] += 1
        self.counters[f"status_{min(5, max(2, response.status_code // 100))}xx".replace("3xx", "2xx")] += 1
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        origin = request.headers.get("origin")
        preflight = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        if self._cors is not None and origin and preflight:
            self.counters["preflights"] += 1
            return Response(status_code=204, headers=self._cors.preflight_headers(origin))
        response = await self._route(request)
        if self._cors is not None:
            for name in [name for name in response.headers if name.startswith("access-control-")]:
                del response.headers[name]  # API Gateway's own take the place of the function's
            response.headers.update(self._cors.response_headers(origin))
        return response

    async def _route(self, request: Request) -> Response:
        found = find_route(list(self._routes.values()), request.method, raw_path(request)) if self._stage else None
        if found is None:
            return _message(404, "Not Found")
        route, parameters = found
        claims = None
        if route.authorizer_id is not None:
            authorizer = self._authorizers[route.authorizer_id]
            request = await self._signed_in(request, authorizer)
            claims = await authorizer.claims(request.headers, request.query_params)
            if claims is None:
                return JSONResponse({"message": "Unauthorized"}, 401, {"www-authenticate": "Bearer"})
        body = await _body(request)
        if body is None:
            return _message(413, "Request Entity Too Large")
        self.counters["metered_512kb"] += max(1, -(-len(body) // 524_288))
        origin = Origin(self._functions.account_id, self.api_id, self._functions.region, "$default",
                        self._stage_variables)
        event = event_from(request, body, route, parameters, origin, claims)
        return await self._invoke(route, event)

    async def _signed_in(self, request: Request, authorizer: JwtAuthorizer) -> Request:
        """The request, with the token that this machine's owner need not send."""
        if self._auto_login is None:
            return request
        token = await self._auto_login.token_for(request, authorizer.issuer, authorizer.audience)
        if token is None:
            return request
        authorization = (b"authorization", f"Bearer {token}".encode())
        return Request({**request.scope, "headers": [*request.scope["headers"], authorization]}, request.receive)

    async def _invoke(self, route: Route, event: dict[str, Any]) -> Response:
        arn, timeout_s = self._integrations[route.integration_id]
        function = self._functions.by_name(arn)
        if function is None:
            log.error("route %s: there is no function %s", route.key, arn)
            return _message(500, "Internal Server Error")
        # The function goes on after the gateway's time-out, as on AWS: hence a task that is not cancelled.
        call = asyncio.ensure_future(function.invoke(event))
        done, _ = await asyncio.wait({call}, timeout=timeout_s)
        if not done:
            return _message(503, "Service Unavailable")
        invocation = call.result()
        if invocation.error is not None:
            too_large = invocation.error.get("errorType") == "RequestEntityTooLarge"
            return _message(413, "Request Entity Too Large") if too_large else _message(500, "Internal Server Error")
        try:
            return response_from(invocation.payload)
        except MalformedResult as fault:
            log.error("route %s: %s", route.key, fault)
            return _message(500, "Internal Server Error")


def _message(status: int, text: str) -> Response:
    return JSONResponse({"message": text}, status)


async def _body(request: Request) -> bytes | None:
    """The request's body, None when it is larger than API Gateway takes."""
    parts: list[bytes] = []
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _function_arn(uri: str) -> str:
    """The function's ARN, which may be wrapped in API Gateway's invocation path."""
    _, marker, rest = uri.partition("/functions/")
    return rest.removesuffix("/invocations") if marker else uri
