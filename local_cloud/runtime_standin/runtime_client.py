"""Stands in for awslambdaric's native module of this name where it has no build (macOS): awslambdaric imports it in
the worker, and it speaks HTTP with runtime_api.py over one connection that is kept open.

Standard library only: it shares the worker with the function's own code.
"""

import http.client
import os
import socket
from typing import Any

_VERSION_PATH = "/2018-06-01/runtime"
_DEADLINE = "Lambda-Runtime-Deadline-Ms"
_KEPT_HEADERS = (
    "Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Trace-Id", "Lambda-Runtime-Invoked-Function-Arn",
    "Lambda-Runtime-Client-Context", "Lambda-Runtime-Cognito-Identity", "Lambda-Runtime-Aws-Tenant-Id",
    "Lambda-Runtime-Invocation-Id", "Content-Type")

_state: dict[str, Any] = {"user_agent": "", "connection": None}


def initialize_client(user_agent):
    """Remember what to call ourselves; the connection is made by the first next()."""
    _state["user_agent"] = user_agent


def _connection():
    if _state["connection"] is None:
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _state["connection"] = connection
    return _state["connection"]


def _request(method, path, body=None, headers=None):
    connection = _connection()
    connection.request(method, _VERSION_PATH + path, body, dict(headers or {}, **{"User-Agent": _state["user_agent"]}))
    response = connection.getresponse()
    content = response.read()
    if response.status not in (200, 202):
        raise RuntimeError(f"Runtime API answered {response.status} to {method} {path}, "
                           f"expected 200 or 202: {content[:200]!r}")
    return content, response.headers


def next():
    """Wait for the next invocation: (body, headers); the deadline is an int, as the native module gives it."""
    body, found = _request("GET", "/invocation/next")
    headers = {name: found[name] for name in _KEPT_HEADERS if name in found}
    headers[_DEADLINE] = int(found[_DEADLINE])
    return body, headers


def post_invocation_result(invoke_id, result_data, content_type, invocation_id=None):
    """Hand back a result (bytes)."""
    _request("POST", "/invocation/" + invoke_id + "/response", result_data, {"Content-Type": content_type})


def post_error(invoke_id, error_response_data, xray_fault, invocation_id=None):
    """Hand back a function's error (JSON text) and its X-Ray cause (JSON text)."""
    _request("POST", "/invocation/" + invoke_id + "/error", error_response_data.encode("utf-8"),
             {"Content-Type": "application/json", "Lambda-Runtime-Function-XRay-Error-Cause": xray_fault})
