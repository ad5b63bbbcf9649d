"""JWT authorizers of HTTP APIs: a request's bearer token in, its claims out once signature, issuer, audience and time
hold."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import JoseError

from local_cloud.errors import Unsupported
from local_cloud.properties import refuse_unknown

log = logging.getLogger(__name__)

FetchKeys = Callable[[str], Any]
REFETCH_AFTER_S = 10.0
_ALGORITHMS = ["RS256", "RS384", "RS512"]
_SOURCES = {"$request.header.": "header", "$request.querystring.": "query"}


class JwtAuthorizer:
    """One AWS::ApiGatewayV2::Authorizer of type JWT. `fetch_keys(issuer)` returns the issuer's JWKS as a dict; it is
    a blocking call, made when a token names a key that is not known yet."""

    def __init__(self, properties: Mapping[str, Any], fetch_keys: FetchKeys | None) -> None:
        refuse_unknown("AWS::ApiGatewayV2::Authorizer", properties,
                       {"ApiId", "AuthorizerType", "IdentitySource", "JwtConfiguration", "Name"})
        if properties.get("AuthorizerType") != "JWT":
            raise Unsupported(f"AuthorizerType: {properties.get('AuthorizerType')} is not emulated, only JWT is")
        if fetch_keys is None:
            raise Unsupported("JwtConfiguration: this local cloud was given no way to fetch an issuer's keys")
        configuration = properties["JwtConfiguration"]
        refuse_unknown("JwtConfiguration", configuration, {"Audience", "Issuer"})
        self.issuer = str(configuration["Issuer"])
        self.audience = set(configuration.get("Audience", []))
        self._sources = list(properties.get("IdentitySource", ["$request.header.Authorization"]))
        if any(not source.startswith(tuple(_SOURCES)) for source in self._sources):
            raise Unsupported(f"IdentitySource: {self._sources} holds more than headers and query strings")
        self._fetch_keys = fetch_keys
        self._keys: jwk.KeySet | None = None
        self._fetched_at_s = -REFETCH_AFTER_S

    async def claims(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any] | None:
        """{"claims": …, "scopes": None} of the request's token, None when it has none or it does not hold."""
        token = self._token(headers, query)
        if token is None:
            return None
        try:
            claims = await self._decode(token)
            self._check(claims)
        except (JoseError, ValueError, TypeError) as fault:
            log.info("a token was refused: %s: %s", type(fault).__name__, fault)
            return None
        return {"claims": {name: _claim(value) for name, value in claims.items()}, "scopes": None}

    def _token(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        for source in self._sources:
            name = source.rpartition(".")[2]
            found = headers.get(name.lower()) if source.startswith("$request.header.") else query.get(name)
            if found:
                return found.removeprefix("Bearer ").removeprefix("bearer ").strip()
        return None

    async def _decode(self, token: str) -> dict[str, Any]:
        if self._keys is None:
            await self._fetch()
        assert self._keys is not None
        try:
            return _claims(token, self._keys)
        except (JoseError, ValueError):
            if time.monotonic() - self._fetched_at_s < REFETCH_AFTER_S:
                raise
        await self._fetch()  # the issuer may have new keys
        return _claims(token, self._keys)

    async def _fetch(self) -> None:
        try:
            published = await asyncio.to_thread(self._fetch_keys, self.issuer)
        except (OSError, KeyError) as fault:  # no answer, or one without what OpenID discovery promises
            log.warning("the keys of %s cannot be had: %s: %s", self.issuer, type(fault).__name__, fault)
            raise ValueError("its issuer's keys cannot be had") from fault
        self._keys = jwk.KeySet.import_key_set(published)
        self._fetched_at_s = time.monotonic()

    def _check(self, claims: Mapping[str, Any]) -> None:
        now_s = time.time()
        if claims.get("iss") != self.issuer:
            raise ValueError(f"issuer {claims.get('iss')!r}, expected {self.issuer!r}")
        stated = claims.get("aud", claims.get("client_id"))
        audience = set(stated) if isinstance(stated, list) else {stated}
        if not audience & self.audience:
            raise ValueError(f"audience {stated!r}, expected one of {sorted(self.audience)}")
        if not isinstance(claims.get("exp"), int | float) or claims["exp"] <= now_s:
            raise ValueError(f"it expired at {claims.get('exp')!r}")
        if claims.get("nbf", 0) > now_s or claims.get("iat", 0) > now_s + 60:
            raise ValueError("it is not valid yet")


def _claims(token: str, keys: jwk.KeySet) -> dict[str, Any]:
    """The claims of a token that one of these keys signed. Raises JoseError or ValueError."""
    decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
    if not decoded.header.get("kid"):
        raise ValueError("it names no key (kid)")
    return dict(decoded.claims)


def _claim(value: Any) -> str:
    """Claims reach the function as text; lists in API Gateway's form."""
    if isinstance(value, list):
        return "[" + " ".join(str(each) for each in value) + "]"
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
