"""Answers in the forms that AWS's SDKs read: bodies and errors of our services in, the AWS endpoint's responses out."""

import json
import uuid
from typing import Any
from xml.sax.saxutils import escape

from local_cloud.http_wire import Response


def json_answer(status: int, body: Any, *headers: tuple[str, str], content_type: str = "application/json") -> Response:
    """A JSON body with a request id of its own."""
    named = [("Content-Type", content_type), ("x-amzn-RequestId", str(uuid.uuid4())), *headers]
    return Response(status, json.dumps(body).encode(), named)


def json_error(status: int, kind: str, text: str) -> Response:
    """An error of the REST-JSON protocol; `kind` is the exception's name."""
    return json_answer(status, {"message": text}, ("x-amzn-ErrorType", kind))


def xml_error(status: int, code: str, text: str) -> Response:
    """An error of the query protocol."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    return Response(status, f"<ErrorResponse>{error}</ErrorResponse>".encode(), [("Content-Type", "text/xml")])
