"""From the HTTP API (payload format 2.0) to answers in JSON: each route's answer is in a module api_*.py beside this.

API Gateway has checked the bearer token; that it is an access token is checked here. Every number is answered exactly
as it was sent. Errors are application/problem+json and say what to do. A list that may go on has `next`: the cursor to
ask for the rest with, or null.
"""
import json
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from contract import numbers, routes
from contract.errors import BadPayload
from lambdas import table
from lambdas.api_alerts import get_alerts
from lambdas.api_data import get_data
from lambdas.api_incidents import get_incidents
from lambdas.api_live import post_live
from lambdas.api_post import post_data
from lambdas.api_readings import get_devices, get_readings
from lambdas.api_request import Answer, Problem, Request, request_of
from lambdas.api_rollups import get_rollups
from lambdas.api_status import get_health, get_status

ANSWERS: dict[tuple[str, str], Callable[[Request], Answer]] = {
    ("GET", "/data"): get_data,
    ("POST", "/data"): post_data,
    ("GET", "/devices"): get_devices,
    ("GET", "/sites/{site}/devices/{device}/readings"): get_readings,
    ("GET", "/sites/{site}/devices/{device}/rollups"): get_rollups,
    ("GET", "/alerts"): get_alerts,
    ("GET", "/incidents"): get_incidents,
    ("GET", "/status"): get_status,
    ("POST", "/sites/{site}/live"): post_live,
    ("GET", "/health"): get_health,
}
_BUSY = {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "InternalServerError",
         "ServiceUnavailableException"}
log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one HTTP request."""
    try:
        route, request = _route(event), request_of(event)
        _check_token(route, request)
        status, answer = ANSWERS[route](request)
        return _response(status, numbers.dumps(answer), "application/json", {})
    except Problem as problem:
        return _problem(problem.status, problem.detail, problem.headers)
    except BadPayload as error:
        return _problem(413 if error.reason == "message too large" else 400, str(error), {})
    except Exception as error:  # whatever it was: the log has it, the answer says nothing of it
        log.exception("failed", extra={"route": event.get("routeKey")})
        if _is_busy(error):
            return _problem(503, "The tables are busy; try again in a second.", {"retry-after": "1"})
    request_id = getattr(context, "aws_request_id", "unknown")
    return _problem(500, f"This is our fault, not yours; the log of the function has more under {request_id}.", {})


def _check_token(route: tuple[str, str], request: Request) -> None:
    """API Gateway also takes the ID token of a client it knows; that names a person, and grants nothing."""
    if route not in routes.OPEN and request.claims.get("token_use") != "access":
        raise Problem(401, "This route wants an access token: Authorization: Bearer <token>; `make token` gives one.",
                      **{"www-authenticate": 'Bearer error="invalid_token"'})


def _is_busy(error: Exception) -> bool:
    """Whether the same request may succeed soon: throttled, unreachable for a moment, or not all stored."""
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _BUSY
    return isinstance(error, BotoCoreError | table.NotStored)


def _response(status: int, text: str, content_type: str, headers: dict[str, str]) -> dict[str, Any]:
    return {"statusCode": status, "body": text,
            "headers": {"content-type": content_type, "cache-control": "no-store", **headers}}


def _problem(status: int, detail: str, headers: dict[str, str]) -> dict[str, Any]:
    text = json.dumps({"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail})
    return _response(status, text, "application/problem+json", headers)


def _route(event: dict[str, Any]) -> tuple[str, str]:
    """(method, path) of contract.routes.API; 405 or 404 where a catch-all route lets anything through."""
    method, _, path = event.get("routeKey", "").partition(" ")
    if (method, path) in ANSWERS:
        return method, path
    asked, asked_path = event["requestContext"]["http"]["method"], event.get("rawPath", "")
    allowed = sorted(m for m, p in routes.API if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), asked_path))
    if allowed:
        raise Problem(405, f"{asked} is not possible here; use {' or '.join(allowed)}.", allow=", ".join(allowed))
    raise Problem(404, "There is nothing at this path. Paths: " + ", ".join(sorted({p for _, p in routes.API})) + ".")
