"""Who signed a request of the AWS endpoint, and for which service: Signature Version 4's credential in, both out.

A function's worker signs with the function's name as its access key: so its calls are told from those of a person's
tools (reconciling, verifying, the console). Signatures themselves are not checked.
"""

from __future__ import annotations

import re
from dataclasses import replace

from local_cloud.functions import ACCESS_KEY
from local_cloud.http_wire import Request

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/aws4_request")


def service_of(request: Request) -> str:
    """The service that the request was signed for, "" when it is not signed."""
    found = _CREDENTIAL.search(request.headers.get("authorization", ""))
    return found[2] if found else ""


def function_of(request: Request) -> str | None:
    """The name of the function that signed the request, None for anybody else."""
    found = _CREDENTIAL.search(request.headers.get("authorization", ""))
    return found[1].removeprefix(ACCESS_KEY) if found and found[1].startswith(ACCESS_KEY) else None


def as_the_account(request: Request) -> Request:
    """The request signed as everybody's are: an engine may keep the data of each access key apart."""
    return replace(request, raw_headers=[
        (name, re.sub("Credential=[^/]+", "Credential=local", value) if name.lower() == "authorization" else value)
        for name, value in request.raw_headers])
