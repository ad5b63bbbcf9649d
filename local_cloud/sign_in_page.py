"""A user pool's own sign-in page (OAuth 2.0 authorization code with PKCE), on a port of this machine: browsers come
from a page with a request for a code, people sign in, and the page exchanges the code for the pool's tokens.

Who is at this machine may sign in as the user of auto_login.py with one click; others with e-mail and password.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from botocore.exceptions import ClientError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from local_cloud.asgi_server import AsgiServer
from local_cloud.auto_login import FLOW, HOSTS, USER, Call, demo_password
from local_cloud.web import Addresses

CODE_LIFE_S = 300.0
MOST_FORM_BYTES = 32_768
ASKED = ("client_id", "redirect_uri", "response_type", "state", "scope", "code_challenge", "code_challenge_method")
_NO_ENTRY = ("NotAuthorizedException", "UserNotFoundException", "InvalidPasswordException",
             "PasswordResetRequiredException")
_WRONG = "Incorrect username or password."


class Granted(NamedTuple):
    """What a code stands for, until `ends` (monotonic, s)."""

    client: str
    redirect_uri: str
    challenge: str
    tokens: dict[str, Any]
    ends: float


class Refused(Exception):
    """Why a request is not served, for the one who sent it."""


class SignInPage:
    """The page of one user pool. call: one AWS API call; addresses: which callbacks are served here."""

    def __init__(self, pool: str, call: Call, addresses: Addresses) -> None:
        self._pool, self._call, self._addresses = pool, call, addresses
        self._codes: dict[str, Granted] = {}
        self.server = AsgiServer(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of this page."""
        request = Request(scope, receive)
        response = await self._answer(request)
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        routes = {("GET", "/oauth2/authorize"): self._ask, ("GET", "/login"): self._ask,
                  ("POST", "/login"): self._enter, ("POST", "/oauth2/token"): self._exchange,
                  ("GET", "/logout"): self._leave}
        serve = routes.get((request.method, request.url.path))
        if serve is None or request.headers.get("host", "").partition(":")[0].lower() not in HOSTS:
            return Response("There is nothing here.\n", 404, media_type="text/plain")
        try:
            return await serve(request)
        except Refused as refusal:
            return Response(f"{refusal}\n", 400, media_type="text/plain")

    # --- the page

    async def _ask(self, request: Request) -> Response:
        asked = await self._checked(request.query_params)
        return self._page(asked, "")

    async def _enter(self, request: Request) -> Response:
        """Somebody has filled in the form; only this page's own form counts."""
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            raise Refused("This form was not sent by the sign-in page itself.")
        form = await _form(request)
        asked = await self._checked(form)
        try:
            answer = await self._signed_in(asked["client_id"], form)
        except ClientError as fault:
            if fault.response["Error"]["Code"] not in _NO_ENTRY:
                raise
            # Cognito does not say which of the two it is, either.
            told = fault.response["Error"]["Message"] if "Password" in fault.response["Error"]["Code"] else _WRONG
            return self._page(asked, told, form.get("username", ""))
        if "AuthenticationResult" not in answer:
            if answer["ChallengeName"] != "NEW_PASSWORD_REQUIRED":
                raise Refused(f"The pool asks for {answer['ChallengeName']}, which is not emulated here.")
            return self._page(asked, "Choose a password of your own.", form.get("username", ""), answer["Session"])
        code = secrets.token_urlsafe(24)
        now = time.monotonic()
        self._codes = {key: one for key, one in self._codes.items() if one.ends > now}
        self._codes[code] = Granted(asked["client_id"], asked["redirect_uri"], asked.get("code_challenge", ""),
                                    answer["AuthenticationResult"], now + CODE_LIFE_S)
        return _to(asked["redirect_uri"], code=code, state=asked.get("state"))

    async def _signed_in(self, client: str, form: Mapping[str, str]) -> dict[str, Any]:
        name, password = form.get("username", ""), form.get("password", "")
        if form.get("session"):
            given = {"USERNAME": name, "NEW_PASSWORD": password}
            return await self._call("cognito-idp", "admin_respond_to_auth_challenge", UserPoolId=self._pool,
                                    ClientId=client, ChallengeName="NEW_PASSWORD_REQUIRED", Session=form["session"],
                                    ChallengeResponses=given)
        if form.get("demo"):
            name, password = USER, await demo_password(self._call, self._pool)
        return await self._call("cognito-idp", "admin_initiate_auth", UserPoolId=self._pool, ClientId=client,
                                AuthFlow=FLOW,
                                AuthParameters={"USERNAME": name, "PASSWORD": password})

    def _page(self, asked: Mapping[str, str], told: str, username: str = "", session: str = "") -> Response:
        nonce = secrets.token_urlsafe(12)
        hidden = "".join(f'<input type="hidden" name="{name}" value="{html.escape(asked[name])}">'
                         for name in ASKED if name in asked)
        where = urlsplit(asked["redirect_uri"])
        policy = (f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'; "
                  f"form-action 'self' {where.scheme}://{where.netloc}")
        text = _PAGE.format(nonce=nonce, hidden=hidden, told=html.escape(told), user=USER,
                            username=html.escape(username, quote=True), session=html.escape(session, quote=True),
                            password="New password" if session else "Password")
        return HTMLResponse(text, headers={"content-security-policy": policy, "referrer-policy": "same-origin",
                                           "x-content-type-options": "nosniff"})

    # --- what the page's clients ask

    async def _exchange(self, request: Request) -> Response:
        """A code, once, or a refresh token, for tokens."""
        form = await _form(request)
        kind = form.get("grant_type")
        if kind == "authorization_code":
            found = self._redeemed(form)
        elif kind == "refresh_token":
            found = await self._refreshed(form)
        else:
            return _token_answer({"error": "unsupported_grant_type"})
        if found is None:
            return _token_answer({"error": "invalid_grant"})
        names = {"AccessToken": "access_token", "IdToken": "id_token", "RefreshToken": "refresh_token",
                 "ExpiresIn": "expires_in", "TokenType": "token_type"}
        return _token_answer({to: found[name] for name, to in names.items() if name in found})

    def _redeemed(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        granted = self._codes.pop(form.get("code", ""), None)
        if granted is None or granted.ends < time.monotonic():
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proof = urlsafe_b64encode(digest).rstrip(b"=").decode()
        proven = not granted.challenge or hmac.compare_digest(proof, granted.challenge)
        same = (form.get("client_id"), form.get("redirect_uri")) == (granted.client, granted.redirect_uri)
        return granted.tokens if proven and same else None

    async def _refreshed(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        try:
            answer = await self._call(
                "cognito-idp", "initiate_auth", ClientId=form.get("client_id", ""), AuthFlow="REFRESH_TOKEN_AUTH",
                AuthParameters={"REFRESH_TOKEN": form.get("refresh_token", "")})
        except ClientError:
            return None  # whatever it was: the client has to sign in again
        return dict(answer["AuthenticationResult"])

    async def _leave(self, request: Request) -> Response:
        query = request.query_params
        client = await self._client(query.get("client_id", ""))
        if query.get("logout_uri") not in self._allowed(client, "LogoutURLs"):
            raise Refused("logout_uri is none of the client's.")
        return _to(query["logout_uri"])

    async def _checked(self, given: Mapping[str, str]) -> dict[str, str]:
        """The parameters of a request for a code. Refused: nobody is sent to an address not known."""
        asked = {name: given[name] for name in ASKED if name in given}
        client = await self._client(asked.get("client_id", ""))
        if asked.get("redirect_uri") not in self._allowed(client, "CallbackURLs"):
            raise Refused("redirect_uri is none of the client's.")
        if asked.get("response_type") != "code" or "code" not in client.get("AllowedOAuthFlows", ()):
            raise Refused("response_type: only code is emulated, for clients that may have one.")
        if "code_challenge" in asked and asked.get("code_challenge_method") != "S256":
            raise Refused("code_challenge_method: only S256 is known.")
        unknown = set(asked.get("scope", "").split()) - set(client.get("AllowedOAuthScopes", ()))
        if unknown:
            raise Refused(f"scope: the client may not ask for {', '.join(sorted(unknown))}.")
        return asked

    async def _client(self, client_id: str) -> dict[str, Any]:
        try:
            found = await self._call("cognito-idp", "describe_user_pool_client", UserPoolId=self._pool,
                                     ClientId=client_id or "none")
        except ClientError:
            raise Refused("client_id is none of this pool's.") from None
        return dict(found["UserPoolClient"])

    def _allowed(self, client: Mapping[str, Any], which: str) -> list[str]:
        return [self._addresses.localized(url) for url in client.get(which, ())]


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; Refused when it is none, or longer than any of this page's."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise Refused("This is too long.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        raise Refused("This is no form.") from None


def _to(address: str, **query: str | None) -> Response:
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return RedirectResponse(f"{address}?{given}" if given else address, 303)


def _token_answer(body: dict[str, Any]) -> Response:
    """Any page may ask, as at Cognito's: who has the code and its verifier is the one whom it was made for."""
    return JSONResponse(body, 400 if "error" in body else 200, {"access-control-allow-origin": "*"})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Sign in</title>
<style nonce="{nonce}">
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 10vh auto; padding: 0 1rem; }}
form {{ display: grid; gap: .5rem; margin: 1.5rem 0; }} button, input {{ font: inherit; padding: .5rem; }}
hr {{ border: 0; border-top: 1px solid #8888; }}
</style></head><body><main>
<h1>Sign in</h1>
<p>This stands in for the user pool's own page, on this machine only.</p>
<p role="alert">{told}</p>
<form method="post" action="/login">{hidden}<button name="demo" value="1">Go on as {user}</button></form>
<hr>
<form method="post" action="/login">{hidden}<input type="hidden" name="session" value="{session}">
<label for="username">E-mail</label>
<input id="username" name="username" type="email" autocomplete="username" required value="{username}">
<label for="password">{password}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button></form>
</main></body></html>
"""
