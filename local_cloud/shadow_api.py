"""The HTTPS data API of AWS IoT for shadows: GetThingShadow, UpdateThingShadow, DeleteThingShadow and
ListNamedShadowsForThing of the AWS endpoint in, gateway/shadows.py out. Changes are told over MQTT, refusals not."""

import re
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud.aws_answers import json_answer
from local_cloud.gateway.shadow_document import ShadowFault
from local_cloud.gateway.shadows import DELETE, GET, UPDATE, Asked, Shadows
from local_cloud.http_wire import Request, Response

_SHADOW = re.compile("/things/([^/]+)/shadow")
_LIST = re.compile("/api/things/shadow/ListNamedShadowsForThing/([^/]+)")
_OPERATIONS = {"GET": GET, "POST": UPDATE, "DELETE": DELETE}
_KINDS = {400: "InvalidRequestException", 404: "ResourceNotFoundException", 405: "MethodNotAllowedException",
          409: "ConflictException", 413: "RequestEntityTooLargeException",
          415: "UnsupportedDocumentEncodingException", 429: "ThrottlingException"}
MOST_LISTED = 100


def handle(shadows: Shadows, request: Request) -> Response | None:
    """Answer a request about shadows; None for one about something else."""
    parts = urlsplit(request.target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    try:
        if found := _LIST.fullmatch(parts.path):
            return json_answer(200, _listed(shadows.names(unquote(found.group(1))), query))
        if found := _SHADOW.fullmatch(parts.path):
            operation = _OPERATIONS.get(request.method)
            if operation is None:
                raise ShadowFault(405, f"{request.method} is not for a shadow; GET, POST and DELETE are")
            asked = Asked(unquote(found.group(1)), query.get("name"), operation)
            return json_answer(200, shadows.do(asked, request.body))
    except ShadowFault as fault:
        body: dict[str, Any] = {"message": str(fault), "traceId": str(uuid.uuid4())}
        if fault.client_token is not None:
            body["clientToken"] = fault.client_token
        return json_answer(fault.code, body, ("x-amzn-ErrorType", _KINDS[fault.code]))
    return None


def _listed(names: list[str], query: dict[str, str]) -> dict[str, Any]:
    try:
        most = int(query.get("pageSize", MOST_LISTED))
    except ValueError:
        most = 0
    if not 1 <= most <= MOST_LISTED:
        raise ShadowFault(400, f"pageSize must be a number from 1 to {MOST_LISTED}")
    later = [name for name in names if name > query.get("nextToken", "")]
    page: dict[str, Any] = {"results": later[:most], "timestamp": int(time.time())}
    return {**page, "nextToken": page["results"][-1]} if len(later) > most else page
