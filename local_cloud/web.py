"""Web pages as CloudFront serves them: objects of a distribution's S3 origin, with the headers of its policy, on a port
of this machine; beside them the sign-in pages of user pools (sign_in_page.py)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_cloud.asgi_server import AsgiServer

log = logging.getLogger(__name__)

Call = Callable[..., Awaitable[dict[str, Any]]]
_EMPTY = "Nothing lies here. If this is the first start, the page is still to be put there: make web\n"


class Addresses:
    """Which local address takes the place of which one of AWS: `https://abc.cloudfront.net` and the like."""

    def __init__(self) -> None:
        self._local: dict[str, Callable[[], str]] = {}

    def put(self, aws: str, local: Callable[[], str]) -> None:
        """From now on `aws` is written as what `local()` gives."""
        self._local[aws] = local

    def drop(self, aws: str) -> None:
        """It is AWS's again."""
        self._local.pop(aws, None)

    def localized(self, text: str) -> str:
        """A text with every address that is known replaced."""
        for aws, local in self._local.items():
            if aws in text:
                text = text.replace(aws, local())
        return text


class WebSite:
    """One distribution. bucket: its origin; root: object for "/"; headers: those that its policy adds."""

    def __init__(self, bucket: str, root: str, headers: Mapping[str, str], call: Call, addresses: Addresses) -> None:
        self._bucket, self._root, self._headers = bucket, root, headers
        self._call, self._addresses = call, addresses
        self.server = AsgiServer(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of this site."""
        request = Request(scope, receive)
        response = await self._answer(request)
        for name, value in self._headers.items():
            response.headers[name] = self._addresses.localized(value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response("This distribution is not configured to allow the HTTP request method.\n", 403)
        key = unquote(request.scope["raw_path"].decode("ascii")).lstrip("/") or self._root
        try:
            found = await self._call("s3", "get_object", Bucket=self._bucket, Key=key)
        except ClientError as fault:
            if fault.response["Error"]["Code"] not in ("NoSuchKey", "NoSuchBucket"):
                raise
            # CloudFront may not list the bucket, so S3 does not tell what is not there from what is not allowed.
            return Response(_EMPTY, 403, media_type="text/plain")
        body: bytes = found["Body"].read()
        headers = {"etag": found["ETag"]}
        if "CacheControl" in found:
            headers["cache-control"] = found["CacheControl"]
        if request.headers.get("if-none-match") == found["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, "content-type": found["ContentType"]})
