"""Spares the owner of this machine the log-in: to requests from this machine that name no user, an HTTP API adds the
access token of a user that the local cloud makes for it; the JWT authorizer then checks that token like any other.

A page that the owner has open in a browser must not profit: what a page sends carries `Origin`, or, when its name was
rebound to 127.0.0.1, that name as `Host`; what it only embeds (an image, a script) says so in `Sec-Fetch-Site`. What a
proxy passes on does not come from this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from starlette.requests import Request

from local_cloud.peers import is_this_machine

log = logging.getLogger(__name__)

USER = "demo@local.example"
HOSTS = ("localhost", "127.0.0.1")
FLOW = "ADMIN_USER_PASSWORD_AUTH"
RENEW_S = 300.0  # before a token expires
NAMED = ("authorization", "origin", "forwarded", "x-forwarded-for")
Call = Callable[..., Awaitable[dict[str, Any]]]


class AutoLogin:
    """Tokens of the user demo@local.example, one per user pool, made at the first request that may have one.

    call: one AWS API call, `await call("cognito-idp", operation, **parameters)`. trust_published_port: what comes from
    a private network counts as this machine (peers.py).
    """

    def __init__(self, call: Call, region: str, *, trust_published_port: bool = False) -> None:
        self._call = call
        self._issuers = f"https://cognito-idp.{region}.amazonaws.com/"
        self._trust_published_port = trust_published_port
        self._tokens: dict[str, tuple[str, float]] = {}
        self._signing_in = asyncio.Lock()

    async def token_for(self, request: Request, issuer: str, audience: set[str]) -> str | None:
        """The token to add to a request, None when it must bring its own. issuer, audience: the authorizer's."""
        if not self.may_have(request) or not issuer.startswith(self._issuers):
            return None
        pool = issuer.removeprefix(self._issuers)
        async with self._signing_in:
            token, expires_s = self._tokens.get(pool, ("", 0.0))
            if expires_s - RENEW_S < time.time():
                try:
                    token, expires_s = self._tokens[pool] = await self._sign_in(pool, audience)
                except (ClientError, BotoCoreError) as fault:
                    log.error("no auto-login at user pool %s: %s", pool, fault)
                    return None
        return token or None

    def may_have(self, request: Request) -> bool:
        """Whether the request comes from this machine's owner, as far as can be told."""
        headers = request.headers
        host, _, port = headers.get("host", "").lower().partition(":")
        return (host in HOSTS and (port.isdigit() or not port) and not any(name in headers for name in NAMED)
                and headers.get("sec-fetch-site", "none") in ("none", "same-origin")
                and request.client is not None
                and is_this_machine(request.client.host, trust_private=self._trust_published_port))

    async def _sign_in(self, pool: str, audience: set[str]) -> tuple[str, float]:
        """(access token, when it expires); ("", for ever) for a pool none of whose clients lets an administrator in."""
        client = await self._client_of(pool, audience)
        if client is None:
            log.warning("no auto-login: no client of user pool %s that its authorizer takes has ALLOW_%s", pool, FLOW)
            return "", float("inf")
        password = await demo_password(self._call, pool)
        answer = await self._call("cognito-idp", "admin_initiate_auth", UserPoolId=pool, ClientId=client, AuthFlow=FLOW,
                                  AuthParameters={"USERNAME": USER, "PASSWORD": password})
        token = answer["AuthenticationResult"]["AccessToken"]
        log.info("requests from this machine without a token are those of %s in user pool %s", USER, pool)
        return token, _expiry_s(token)

    async def _client_of(self, pool: str, audience: set[str]) -> str | None:
        for client in sorted(audience):
            described = (await self._call("cognito-idp", "describe_user_pool_client", UserPoolId=pool,
                                          ClientId=client))["UserPoolClient"]
            if f"ALLOW_{FLOW}" in described.get("ExplicitAuthFlows", ()) and "ClientSecret" not in described:
                return client
        return None


async def demo_password(call: Call, pool: str) -> str:
    """A new password of the pool's user for demonstrations, who is made when he is not there."""
    password = secrets.token_urlsafe(24) + "aA1!"  # satisfies any password policy
    found = await call("cognito-idp", "list_users", UserPoolId=pool, Filter=f'email = "{USER}"')
    if not found["Users"]:
        await call("cognito-idp", "admin_create_user", UserPoolId=pool, Username=USER, MessageAction="SUPPRESS",
                   UserAttributes=[{"Name": "email", "Value": USER}, {"Name": "email_verified", "Value": "true"}])
    await call("cognito-idp", "admin_set_user_password", UserPoolId=pool, Username=USER, Password=password,
               Permanent=True)
    return password


def _expiry_s(token: str) -> float:
    payload = token.split(".")[1]
    claims: Mapping[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return float(claims["exp"])
