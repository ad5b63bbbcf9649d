"""Payload format 2.0 of HTTP APIs: a request in, a Lambda event out; a Lambda result in, a response out."""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response

from local_cloud.http_routes import Route

_TEXT_TYPES = ("text/", "application/json", "application/javascript", "application/xml")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Origin:
    """Which API and stage an event comes from."""

    account_id: str
    api_id: str
    region: str
    stage: str
    stage_variables: Mapping[str, str]


class MalformedResult(ValueError):
    """A Lambda result that API Gateway would answer with 500."""


def raw_path(request: Request) -> str:
    """The path as it was sent, still percent-encoded."""
    sent = request.scope.get("raw_path") or request.scope["path"].encode()
    return bytes(sent).decode("latin-1").partition("?")[0]


def event_from(request: Request, body: bytes, route: Route, parameters: Mapping[str, str], origin: Origin,
               claims: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The event of a request; `claims` are those of a JWT authorizer, {"claims": …, "scopes": …}."""
    headers, cookies = _headers(request)
    query = request.scope["query_string"].decode("latin-1")
    event: dict[str, Any] = {
        "version": "2.0", "routeKey": route.key, "rawPath": unquote(raw_path(request)), "rawQueryString": query,
        "headers": headers, "requestContext": _context(request, route, headers, origin), "isBase64Encoded": False}
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = _query(query)
    if parameters:
        event["pathParameters"] = dict(parameters)
    if origin.stage_variables:
        event["stageVariables"] = dict(origin.stage_variables)
    if claims is not None:
        event["requestContext"]["authorizer"] = {"jwt": dict(claims)}
    if body:
        text = _text(headers.get("content-type", ""), body)
        event["isBase64Encoded"] = text is None
        event["body"] = base64.b64encode(body).decode() if text is None else text
    return event


def _headers(request: Request) -> tuple[dict[str, str], list[str]]:
    """Headers in lower case, repeated ones joined by commas; cookies apart."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in request.headers.items():
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers, cookies


def _query(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _context(request: Request, route: Route, headers: Mapping[str, str], origin: Origin) -> dict[str, Any]:
    now_s = time.time()
    at = time.gmtime(now_s)
    return {
        "accountId": origin.account_id, "apiId": origin.api_id,
        "domainName": f"{origin.api_id}.execute-api.{origin.region}.amazonaws.com", "domainPrefix": origin.api_id,
        "http": {"method": request.method, "path": unquote(raw_path(request)),
                 "protocol": f"HTTP/{request.scope.get('http_version', '1.1')}",
                 "sourceIp": request.client.host if request.client else "127.0.0.1",
                 "userAgent": headers.get("user-agent", "")},
        "requestId": uuid.uuid4().hex[:15] + "=", "routeKey": route.key, "stage": origin.stage,
        "time": f"{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{time.strftime('%Y:%H:%M:%S +0000', at)}",
        "timeEpoch": int(now_s * 1000)}


def _text(content_type: str, body: bytes) -> str | None:
    """The body as text when its type says so and it is UTF-8; None: it travels as base64."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and not kind.startswith(_TEXT_TYPES) and not kind.endswith(("+json", "+xml")):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def response_from(payload: bytes) -> Response:
    """The HTTP response of a Lambda result: one with a statusCode is taken apart, anything else is the JSON body."""
    try:
        result = json.loads(payload or b"null")
    except ValueError as error:
        raise MalformedResult(f"the function returned no JSON: {payload[:100]!r}") from error
    if not isinstance(result, dict) or "statusCode" not in result:
        text = result if isinstance(result, str) else json.dumps(result)
        return Response(text, 200, {"content-type": "application/json"})
    try:
        status = int(result["statusCode"])
        body = _result_body(result)
        headers = {str(name).lower(): _header(value) for name, value in (result.get("headers") or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise MalformedResult(f"the function's response has not the form of payload format 2.0: {error}") from error
    if not 100 <= status <= 599:
        raise MalformedResult(f"statusCode {status} is no HTTP status")
    headers.setdefault("content-type", "text/plain;charset=UTF-8")
    headers.pop("content-length", None)
    response = Response(body, status, headers)
    for cookie in result.get("cookies") or []:
        response.raw_headers.append((b"set-cookie", str(cookie).encode("latin-1", "replace")))
    return response


def _result_body(result: Mapping[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise TypeError(f"body must be a string, got {type(body).__name__}")
    try:
        return base64.b64decode(body, validate=True) if result.get("isBase64Encoded") else body.encode()
    except binascii.Error as error:
        raise ValueError(f"body is no base64: {error}") from error


def _header(value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise TypeError(f"a header must be a string, number or boolean, got {type(value).__name__}")
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
