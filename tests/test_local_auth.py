"""Who gets past an HTTP API's JWT authorizer: over real sockets and with real signatures; who is spared the log-in."""
import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import httpx
import pytest
from botocore.exceptions import ClientError
from joserfc import jwk, jwt
from starlette.requests import Request

from local_cloud import options
from local_cloud.auto_login import USER, AutoLogin
from local_cloud.cloud import LocalCloud
from local_cloud.http_api import HttpApi
from tests.compose_model import model
from tests.http_api_rig import FakeFunctions, make, serve
from tests.local_cloud_rig import write_members_assembly

REGION, POOL = "eu-north-1", "eu-north-1_abc"
ISSUER = f"https://cognito-idp.{REGION}.amazonaws.com/{POOL}"
KEY = jwk.RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"})
OTHER = jwk.RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"})
ORIGIN = "http://localhost:8080"
CORS = {"CorsConfiguration": {"AllowOrigins": [ORIGIN], "AllowMethods": ["GET", "POST"],
                              "AllowHeaders": ["authorization", "content-type"]}}
Story = Callable[[httpx.AsyncClient, FakeFunctions], Awaitable[None]]


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a Cognito access token of the client `tools`; None takes one away."""
    now_s = int(time.time())
    given = {"iss": ISSUER, "client_id": "tools", "token_use": "access", "sub": "u1", "iat": now_s - 1,
             "exp": now_s + 600, "scope": "aws.cognito.signin.user.admin", **changed}
    return {name: value for name, value in given.items() if value is not None}


def token(key: Any = KEY, header: dict[str, Any] | None = None, **changed: Any) -> str:
    return jwt.encode(header or {"alg": "RS256", "kid": "k1"}, claims(**changed), key)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned() -> str:
    return f'{part({"alg": "none", "typ": "JWT", "kid": "k1"})}.{part(claims())}.'


def signed_with_the_public_key() -> str:
    """The old trick: HS256, with the RSA public key as its secret."""
    head = f'{part({"alg": "HS256", "kid": "k1"})}.{part(claims())}'
    mac = hmac.new(KEY.as_pem(private=False), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def tampered() -> str:
    header, _, signature = token().split(".")
    return f"{header}.{part(claims(sub='admin'))}.{signature}"


class Cognito:
    """Takes the place of the user pool behind `call`: one user, two clients; notes each operation."""

    def __init__(self, flows: tuple[str, ...] = ("ALLOW_ADMIN_USER_PASSWORD_AUTH",), life_s: float = 3600) -> None:
        self.flows, self.life_s = flows, life_s
        self.users: dict[str, str] = {}
        self.operations: list[str] = []
        self.fails = False

    async def __call__(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        assert service == "cognito-idp" and given["UserPoolId"] == POOL
        self.operations.append(operation)
        if self.fails:
            raise ClientError({"Error": {"Code": "InternalErrorException", "Message": "on purpose"}}, operation)
        if operation == "describe_user_pool_client":
            flows = self.flows if given["ClientId"] == "tools" else ("ALLOW_USER_SRP_AUTH",)
            return {"UserPoolClient": {"ExplicitAuthFlows": list(flows)}}
        if operation == "list_users":
            return {"Users": [{"Username": name} for name in self.users]}
        if operation == "admin_create_user":
            self.users[given["Username"]] = ""
        elif operation == "admin_set_user_password":
            self.users[given["Username"]] = given["Password"]
        elif operation == "admin_initiate_auth":
            assert given["AuthParameters"] == {"USERNAME": USER, "PASSWORD": self.users[USER]}
            life = {"client_id": given["ClientId"], "exp": int(time.time() + self.life_s)}
            return {"AuthenticationResult": {"AccessToken": token(sub="demo", **life)}}
        return {}


def keys(issuer: str) -> dict[str, Any]:
    """The issuer's, as it publishes them."""
    return {"keys": [KEY.as_dict(private=False)]}


def guarded(functions: FakeFunctions, auto_login: AutoLogin | None = None, issuer: str = ISSUER,
            fetch_keys: Callable[[str], Any] = keys) -> HttpApi:
    """An API with an open route, and one for the clients `tools` and `dashboard`."""
    api = make(functions, "GET /health", properties=CORS, auto_login=auto_login, fetch_keys=fetch_keys)
    api.add_authorizer("a", {"ApiId": "abc123defg", "AuthorizerType": "JWT", "Name": "users",
                             "IdentitySource": ["$request.header.Authorization"],
                             "JwtConfiguration": {"Audience": ["tools", "dashboard"], "Issuer": issuer}})
    for number, key in enumerate(("GET /data", "POST /data")):
        api.add_route(f"g{number}", {"RouteKey": key, "Target": "integrations/i", "AuthorizationType": "JWT",
                                     "AuthorizerId": "a"})
    return api


def run(story: Story, cognito: Cognito | None = None, **options: Any) -> FakeFunctions:
    functions = FakeFunctions(lambda event: {"statusCode": 200})
    auto_login = AutoLogin(cognito, REGION, **options) if cognito else None
    serve(guarded(functions, auto_login), functions, story)
    return functions


# --- the authorizer: no auto-login here

def test_a_token_of_the_pool_for_a_known_client_passes() -> None:
    good = (token(), token(client_id="dashboard"), token(aud="tools", client_id=None),
            token(aud=["x", "tools"], client_id="x"), token(nbf=int(time.time()) - 5),
            # API Gateway looks at issuer, client and time alone: that it is an access token, the function must see.
            token(aud="tools", client_id=None, token_use="id"))

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        for one in good:
            for scheme in ("Bearer ", "bearer ", ""):  # it takes it bare, too
                assert (await client.get("/data", headers={"authorization": scheme + one})).status_code == 200
            given = functions.events[-1]["requestContext"]["authorizer"]["jwt"]["claims"]
            assert given["sub"] == "u1" and given["token_use"] in ("access", "id")

    run(story)


def refused_tokens() -> dict[str, str]:
    """Why API Gateway refuses it: the token."""
    now_s = int(time.time())
    return {
        "expired": token(exp=now_s - 1), "no expiry": token(exp=None), "odd expiry": token(exp="soon"),
        "not yet": token(nbf=now_s + 600), "from the future": token(iat=now_s + 600),
        "other pool": token(iss=f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_other"),
        "no issuer": token(iss=None), "other client": token(client_id="someone"), "no client": token(client_id=None),
        "other audience beside a known client": token(aud="someone"), "empty audience": token(aud=[]),
        "alg none": unsigned(), "HS256 with the public key": signed_with_the_public_key(), "tampered": tampered(),
        "other key": token(OTHER), "unknown key": token(header={"alg": "RS256", "kid": "k2"}),
        "no key id": token(header={"alg": "RS256"}), "cut off": token()[:-4], "no token": "x",
        "empty token": "e30.e30.e30", "five parts": f"{token()}.{token()}"}


def test_any_other_is_refused() -> None:
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        for why, bad in refused_tokens().items():
            answer = await client.get("/data", headers={"authorization": f"Bearer {bad}"})
            assert answer.status_code == 401, why
            assert answer.json() == {"message": "Unauthorized"}
            assert answer.headers["www-authenticate"].startswith("Bearer")

    assert run(story).events == []


def test_without_a_token_only_the_open_route_answers() -> None:
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert (await client.get("/data")).status_code == 401
        assert (await client.post("/data", json={})).status_code == 401
        assert (await client.get("/data", headers={"authorization": ""})).status_code == 401
        assert (await client.get("/health")).status_code == 200

    run(story)


def test_a_page_asks_before_it_sends_and_sees_why_it_was_refused() -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        preflight = await client.options("/data", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
        foreign = await client.options("/data", headers={**asked, "origin": "http://localhost:9999"})
        assert "access-control-allow-origin" not in foreign.headers
        refused = await client.get("/data", headers={"origin": ORIGIN})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == ORIGIN

    run(story, Cognito())


@pytest.mark.parametrize("fault", (URLError("no route to the issuer"), TimeoutError("too slow"), KeyError("jwks_uri")))
def test_an_issuer_whose_keys_cannot_be_had_lets_nobody_in(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    functions = FakeFunctions(lambda event: {"statusCode": 200})

    def fails(issuer: str) -> Any:
        raise fault

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert (await client.get("/data", headers={"authorization": f"Bearer {token()}"})).status_code == 401
        assert (await client.get("/health")).status_code == 200

    serve(guarded(functions, fetch_keys=fails), functions, story)
    assert f"the keys of {ISSUER} cannot be had" in caplog.text


# --- the auto-login

def test_this_machines_owner_is_spared_the_token_and_the_authorizer_sees_one() -> None:
    cognito = Cognito()

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        for host in ("localhost", "127.0.0.1", f"localhost:{client.base_url.port}", "LOCALHOST:1"):
            assert (await client.get("/data", headers={"host": host})).status_code == 200, host
        assert (await client.get("/data", headers={"sec-fetch-site": "none"})).status_code == 200, "typed by hand"
        assert (await client.post("/data", json={"a": 1})).status_code == 200

    events = run(story, cognito).events
    assert {event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] for event in events} == {"demo"}
    assert events[-1]["headers"]["authorization"].startswith("Bearer ") and json.loads(events[-1]["body"]) == {"a": 1}
    assert cognito.operations.count("admin_initiate_auth") == 1, "the token is kept"


FOREIGN = (
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": ORIGIN}, {"origin": ""},
    {"host": "evil.example"}, {"host": "evil.example:5000"}, {"host": "localhost.evil.example"},
    {"host": "127.0.0.1.evil.example"}, {"host": "localhost@evil.example"}, {"host": "192.168.1.5:5000"},
    {"host": "[::1]:5000"}, {"host": "localhost:x"}, {"host": "localhost:5000:1"}, {"host": ""},
    {"authorization": "Bearer x"}, {"authorization": ""}, {"x-forwarded-for": "203.0.113.9"}, {"forwarded": "for=x"},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"})


def test_what_a_page_or_a_proxy_sends_brings_its_own_token() -> None:
    cognito = Cognito()

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        for headers in FOREIGN:
            assert (await client.get("/data", headers=headers)).status_code == 401, headers
            with_one = {**headers, "authorization": f"Bearer {token()}"}
            assert (await client.get("/data", headers=with_one)).status_code == 200, headers

    run(story, cognito)
    assert cognito.operations == []


def request_from(peer: str | None) -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost:5000")],
                    "client": (peer, 50_000) if peer else None})


@pytest.mark.parametrize(("peer", "is_here", "in_a_container"), (
    ("127.0.0.1", True, True), ("127.8.9.1", True, True), ("::1", True, True), ("::ffff:127.0.0.1", True, True),
    ("::1%lo0", True, True), ("172.17.0.1", False, True), ("192.168.1.5", False, True), ("fd00::1", False, True),
    ("::ffff:172.17.0.1", False, True), ("8.8.8.8", False, False), ("2a00:1450:4001::5", False, False),
    ("::ffff:8.8.8.8", False, False), ("unix", False, False), (None, False, False)))
def test_what_counts_as_this_machine(peer: str | None, is_here: bool, in_a_container: bool) -> None:
    request = request_from(peer)
    assert AutoLogin(Cognito(), REGION).may_have(request) is is_here
    assert AutoLogin(Cognito(), REGION, trust_published_port=True).may_have(request) is in_a_container


def test_ipv6_loopback_is_this_machine() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as fault:
        pytest.skip(f"no IPv6 loopback on this machine: {fault}")
    functions = FakeFunctions(lambda event: {"statusCode": 200})

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        host = f"localhost:{client.base_url.port}"
        assert (await client.get("/data", headers={"host": host})).status_code == 200
        assert (await client.get("/data")).status_code == 401, "Host is [::1], which no one types"
        assert (await client.get("/data", headers={"host": host, "origin": "http://x"})).status_code == 401

    serve(guarded(functions, AutoLogin(Cognito(), REGION)), functions, story, host="::1")


def test_a_token_is_renewed_before_it_ends() -> None:
    cognito = Cognito(life_s=100)

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert [(await client.get("/data")).status_code for _ in range(2)] == [200, 200]

    run(story, cognito)
    assert cognito.operations.count("admin_initiate_auth") == 2 and cognito.operations.count("admin_create_user") == 1


@pytest.mark.parametrize("flows", (("ALLOW_USER_SRP_AUTH",), ()))
def test_without_a_client_for_administrators_nobody_is_spared(flows: tuple[str, ...]) -> None:
    cognito = Cognito(flows)

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert [(await client.get("/data")).status_code for _ in range(2)] == [401, 401]

    run(story, cognito)
    assert set(cognito.operations) == {"describe_user_pool_client"} and cognito.users == {}
    assert len(cognito.operations) == 2, "it is asked once"


def test_a_pool_that_fails_is_no_way_in_and_is_asked_again() -> None:
    cognito = Cognito()
    cognito.fails = True

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert (await client.get("/data")).status_code == 401
        cognito.fails = False
        assert (await client.get("/data")).status_code == 200

    run(story, cognito)


def test_other_issuers_have_no_auto_login() -> None:
    functions, cognito = FakeFunctions(lambda event: {"statusCode": 200}), Cognito()

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert (await client.get("/data")).status_code == 401

    serve(guarded(functions, AutoLogin(cognito, REGION), issuer="https://login.example"), functions, story)
    assert cognito.operations == []


@pytest.mark.parametrize(("flags", "status"), (((), 200), (("--no-auto-login",), 401)))
def test_an_assembly_of_someone_else_has_it_too_unless_it_is_turned_off(
        flags: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """A real cloud with a real pool, with the options of the command line."""
    template = write_members_assembly(tmp_path) / "members.json"
    text = template.read_text()
    assert text.count("ALLOW_USER_PASSWORD_AUTH") == 1
    template.write_text(text.replace("ALLOW_USER_PASSWORD_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH"))
    wanted = options.read([str(tmp_path), "--gateway-port", "0", "--api-port", "0", *flags]).options

    async def story() -> None:
        cloud = LocalCloud(wanted)
        await cloud.start()
        try:
            async with httpx.AsyncClient(base_url=cloud.endpoints()["endpoints"]["api"], timeout=30) as client:
                answer = await client.get("/me")
                assert answer.status_code == status
                assert status == 401 or answer.json()["token_use"] == "access"
                assert (await client.get("/me", headers={"origin": ORIGIN})).status_code == 401
        finally:
            await cloud.close()

    asyncio.run(story())


def test_a_container_says_that_its_port_is_published_on_this_machine_alone() -> None:
    assert options.read(["x", "--trust-published-port"]).options.trust_published_port is True
    assert options.read(["x"]).options.trust_published_port is False
    service = model()["services"]["local-cloud"]
    assert service["command"] == ["--", "--trust-published-port"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
