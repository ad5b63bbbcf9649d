"""HTTP APIs over real sockets: payload format 2.0 both ways, CORS, JWT, and API Gateway's own errors."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwk, jwt

from local_cloud.errors import DeployError, Unsupported
from local_cloud.functions import Function, FunctionService
from local_cloud.http_api import HttpApi
from tests.http_api_rig import ARN, HTTP, FakeFunctions, make, run, serve


def test_a_request_becomes_a_format_2_event():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        response = await client.get("/devices/pi%20one/readings?limit=5&field=a&field=b&empty=", headers=[
            ("X-Custom", "one"), ("X-Custom", "two"), ("Cookie", "a=1; b=2"), ("User-Agent", "curl/8")])
        assert response.status_code == 200
        [event] = functions.events
        context = event.pop("requestContext")
        assert event["headers"]["x-custom"] in ("one,two", "one, two")
        assert event["headers"]["host"] == f"127.0.0.1:{client.base_url.port}"
        del event["headers"]
        assert event == {
            "version": "2.0", "routeKey": "GET /devices/{device}/readings", "rawPath": "/devices/pi one/readings",
            "rawQueryString": "limit=5&field=a&field=b&empty=", "cookies": ["a=1", "b=2"], "isBase64Encoded": False,
            "queryStringParameters": {"limit": "5", "field": "a,b", "empty": ""},
            "pathParameters": {"device": "pi one"}}
        assert context["http"] == {"method": "GET", "path": "/devices/pi one/readings", "protocol": "HTTP/1.1",
                                   "sourceIp": "127.0.0.1", "userAgent": "curl/8"}
        assert (context["accountId"], context["apiId"], context["stage"]) == ("123456789012", "abc123defg", "$default")
        assert context["routeKey"] == "GET /devices/{device}/readings"
        assert abs(context["timeEpoch"] / 1000 - time.time()) < 30
        assert context["time"].endswith("+0000") and context["requestId"]

    run(lambda event: {}, story, "GET /devices/{device}/readings")


def test_a_text_body_is_text_and_any_other_is_base64():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        await client.post("/data", json={"persons_detected": 5})
        await client.post("/data", content=b"\x00\xff", headers={"content-type": "application/octet-stream"})
        await client.post("/data", content="a=1", headers={"content-type": "application/x-www-form-urlencoded"})
        await client.post("/data", content=b"\xff", headers={"content-type": "text/plain"})
        bodies = [(event["body"], event["isBase64Encoded"]) for event in functions.events]
        assert json.loads(bodies[0][0]) == {"persons_detected": 5} and bodies[0][1] is False
        assert bodies[1:] == [("AP8=", True), (base64.b64encode(b"a=1").decode(), True), ("/w==", True)]

    run(lambda event: {}, story, "POST /data")


@pytest.mark.parametrize(("answer", "status", "body", "content_type"), [
    ([{"device_id": "camera-01"}], 200, '[{"device_id": "camera-01"}]', "application/json"),
    ({"any": "object"}, 200, '{"any": "object"}', "application/json"), ("plain", 200, "plain", "application/json"),
    ({"statusCode": 201, "body": "made"}, 201, "made", "text/plain;charset=UTF-8"),
    ({"statusCode": "202"}, 202, "", "text/plain;charset=UTF-8"),
    ({"statusCode": 200, "body": "{}", "headers": {"Content-Type": "application/json"}}, 200, "{}", "application/json"),
    ({"statusCode": 200, "body": base64.b64encode(b"bin").decode(), "isBase64Encoded": True}, 200, "bin",
     "text/plain;charset=UTF-8")])
def test_what_a_function_returns_becomes_a_response(answer: Any, status: int, body: str, content_type: str):
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        response = await client.get("/")
        assert (response.status_code, response.text, response.headers["content-type"]) == (status, body, content_type)
        assert response.headers["apigw-requestid"]

    run(lambda event: answer, story)


def test_headers_and_cookies_of_a_response():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        response = await client.get("/")
        assert (response.headers["x-count"], response.headers["x-flag"]) == ("5", "true")
        assert response.headers.get_list("set-cookie") == ["a=1; Secure", "b=2"]

    run(lambda event: {"statusCode": 200, "headers": {"X-Count": 5, "X-Flag": True}, "cookies": ["a=1; Secure", "b=2"]},
        story)


@pytest.mark.parametrize("answer", [
    {"statusCode": "many"}, {"statusCode": 200, "body": {"not": "text"}}, {"statusCode": 7},
    {"statusCode": 200, "headers": ["x"]}, {"statusCode": 200, "body": "?", "isBase64Encoded": True},
    {"statusCode": 200, "headers": {"a": ["b"]}}, b"no json"])
def test_a_malformed_answer_is_a_500(answer: Any):
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        response = await client.get("/")
        assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})

    run(lambda event: answer, story)


def test_a_failing_function_is_a_500_and_an_unknown_route_a_404():
    def fail(event: dict[str, Any]) -> None:
        raise RuntimeError("broken")

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        assert (await client.get("/data")).json() == {"message": "Internal Server Error"}
        missing = await client.get("/nothing")
        assert (missing.status_code, missing.json()) == (404, {"message": "Not Found"})
        assert (await client.post("/data")).status_code == 404, "the method is part of the route"
        assert len(functions.events) == 1

    run(fail, story, "GET /data")


def test_a_slow_function_is_a_503_and_a_large_body_a_413():
    functions = FakeFunctions(lambda event: "late")
    functions.delay_s = 0.5
    api = HttpApi("abc", HTTP, functions)  # type: ignore[arg-type]
    api.add_integration("i", {"IntegrationType": "AWS_PROXY", "IntegrationUri": ARN, "PayloadFormatVersion": "2.0",
                              "TimeoutInMillis": 50})
    api.add_route("r", {"RouteKey": "POST /", "Target": "integrations/i"})
    api.add_stage({"StageName": "$default", "AutoDeploy": True})

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        slow = await client.post("/", content="x")
        assert (slow.status_code, slow.json()) == (503, {"message": "Service Unavailable"})
        large = await client.post("/", content=b"x" * (10 * 1024 * 1024 + 1))
        assert (large.status_code, large.json()) == (413, {"message": "Request Entity Too Large"})
        assert api.counters["status_4xx"] == api.counters["status_5xx"] == 1

    serve(api, functions, story)


CORS = {"CorsConfiguration": {"AllowOrigins": ["http://localhost:8080", "https://*"], "AllowMethods": ["GET", "POST"],
                              "AllowHeaders": ["authorization"], "ExposeHeaders": ["x-total"], "MaxAge": 600}}


def test_the_gateway_answers_preflights_itself():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        asked = {"origin": "http://localhost:8080", "access-control-request-method": "POST"}
        answer = await client.options("/data", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "http://localhost:8080"
        assert answer.headers["access-control-allow-methods"] == "GET,POST"
        assert answer.headers["access-control-allow-headers"] == "authorization"
        assert answer.headers["access-control-max-age"] == "600"
        foreign = await client.options("/data", headers={**asked, "origin": "http://evil"})
        assert foreign.status_code == 204 and "access-control-allow-origin" not in foreign.headers
        assert functions.events == []

    run(lambda event: {}, story, "GET /data", **CORS)


def test_the_gateways_cors_headers_take_the_place_of_the_functions():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        answer = await client.get("/data", headers={"origin": "https://example.org"})
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert answer.headers["access-control-expose-headers"] == "x-total"
        assert "access-control-allow-methods" not in answer.headers
        plain = await client.get("/data")
        assert "access-control-allow-origin" not in plain.headers
        missing = await client.get("/nothing", headers={"origin": "https://example.org"})
        assert missing.status_code == 404 and "access-control-allow-origin" in missing.headers

    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "PUT"}
    run(lambda event: {"statusCode": 200, "headers": headers}, story, "GET /data", **CORS)


def test_without_a_configuration_the_functions_cors_headers_stand():
    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        answer = await client.options("/data", headers={"origin": "http://x", "access-control-request-method": "GET"})
        assert answer.headers["access-control-allow-origin"] == "*"

    run(lambda event: {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}}, story)


def test_a_jwt_route_lets_only_good_tokens_pass():
    issuer, audience = "https://issuer.example/pool", "client-1"
    good_key = jwk.RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"})
    other_key = jwk.RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256", "use": "sig"})
    fetched: list[str] = []

    def fetch_keys(asked: str) -> dict[str, Any]:
        fetched.append(asked)
        return {"keys": [good_key.as_dict(private=False)]}

    def token(key: Any = good_key, **claims: Any) -> str:
        stated = {"iss": issuer, "aud": audience, "exp": int(time.time()) + 60, "sub": "u", "admin": True, **claims}
        return jwt.encode({"alg": "RS256", "kid": "k1"}, stated, key)

    functions = FakeFunctions(lambda event: {"statusCode": 200})
    api = make(functions, "GET /open", fetch_keys=fetch_keys)
    api.add_authorizer("a", {"ApiId": "abc123defg", "AuthorizerType": "JWT", "Name": "users",
                             "IdentitySource": ["$request.header.Authorization"],
                             "JwtConfiguration": {"Audience": [audience], "Issuer": issuer}})
    api.add_route("guarded", {"RouteKey": "GET /guarded", "Target": "integrations/i", "AuthorizationType": "JWT",
                              "AuthorizerId": "a"})

    async def story(client: httpx.AsyncClient, functions: FakeFunctions) -> None:
        async def status(value: str | None) -> int:
            headers = {} if value is None else {"authorization": value}
            return (await client.get("/guarded", headers=headers)).status_code

        assert (await client.get("/open")).status_code == 200
        assert await status(f"Bearer {token()}") == 200
        assert functions.events[-1]["requestContext"]["authorizer"]["jwt"]["claims"]["admin"] == "true"
        header, payload, signature = token().split(".")
        refused = [None, "Bearer x", f"Bearer {token(other_key)}", f"Bearer {token(iss='https://other')}",
                   f"Bearer {token(aud='client-2')}", f"Bearer {token(exp=int(time.time()) - 1)}",
                   f"Bearer {token(nbf=int(time.time()) + 600)}", f"Bearer {header}.{payload}.{signature[::-1]}",
                   f"Bearer {header}.{payload}."]
        for value in refused:
            assert await status(value) == 401, value
        assert len(functions.events) == 2
        assert fetched == [issuer], "keys are kept"

    serve(api, functions, story)


@pytest.mark.parametrize(("build", "name"), [
    (lambda api: api.add_integration("j", {"IntegrationType": "HTTP_PROXY", "IntegrationUri": "http://x"}),
     "IntegrationType"),
    (lambda api: api.add_integration("j", {"IntegrationType": "AWS_PROXY", "IntegrationUri": ARN,
                                           "PayloadFormatVersion": "1.0"}), "PayloadFormatVersion"),
    (lambda api: api.add_stage({"StageName": "prod", "AutoDeploy": True}), "StageName"),
    (lambda api: api.add_route("s", {"RouteKey": "GET /x", "Target": "integrations/i", "AuthorizationType": "AWS_IAM"}),
     "AuthorizationType"),
    (lambda api: api.add_route("s", {"RouteKey": "GET /x", "Target": "integrations/unknown"}), "Target"),
    (lambda api: api.add_route("s", {"RouteKey": "GET /data", "Target": "integrations/i"}), "exists already"),
    (lambda api: api.add_authorizer("a", {"AuthorizerType": "JWT", "JwtConfiguration": {}}), "JwtConfiguration")])
def test_what_is_not_honoured_is_named(build: Callable[[HttpApi], None], name: str):
    api = make(FakeFunctions(lambda event: {}), "GET /data")
    with pytest.raises((Unsupported, DeployError), match=name):
        build(api)


def test_what_the_registry_accepts_the_api_takes():
    api = make(FakeFunctions(lambda event: {}), "GET /data")
    api.add_integration("j", {"IntegrationType": "AWS_PROXY", "IntegrationUri": ARN, "PayloadFormatVersion": "2.0",
                              "CredentialsArn": "arn:aws:iam::123456789012:role/r"})
    assert api.add_stage({"StageName": "$default", "AutoDeploy": "true", "AccessPolicyId": "p"}) == "$default"


def test_a_real_function_answers_over_http(tmp_path: Path):
    (tmp_path / "api.py").write_text(
        "import json\n"
        "def handler(event, context):\n"
        "    return {'statusCode': 200, 'body': json.dumps(event['pathParameters']),\n"
        "            'headers': {'content-type': 'application/json'}}\n")
    service = FunctionService("123456789012", "eu-north-1", {}, tmp_path / "logs")

    async def main() -> None:
        function: Function = service.create("api", {"Handler": "api.handler", "Runtime": "python3.13"}, tmp_path)
        assert function.arn == ARN
        api = make(service, "GET /devices/{device}")
        await api.start(0)
        try:
            async with httpx.AsyncClient(base_url=api.endpoint, timeout=20) as client:
                assert (await client.get("/devices/pi")).json() == {"device": "pi"}
        finally:
            await api.close()
            await service.close()

    asyncio.run(asyncio.wait_for(main(), 30))
