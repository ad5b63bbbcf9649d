"""CloudFront and the sign-in page as the local cloud has them: over real sockets, with a real pool, against misuse."""
import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from deploy import web
from local_cloud.errors import DeployError, Unsupported
from local_cloud.resources.cloudfront import distribution, response_headers_policy
from local_cloud.resources.registry import Context
from local_cloud.web import Addresses
from tests import web_rig
from tests.web_rig import Dashboard

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def running() -> Iterator[Dashboard]:
    made = Dashboard()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=web_rig.DEADLINE_S) as one:
        yield one


def asked(running: Dashboard, **changed: str | None) -> dict[str, str]:
    """Parameters of a request for a code; None takes one away."""
    given = {"client_id": running.addresses.client, "redirect_uri": f"{running.page}/", "response_type": "code",
             "state": "s1", "scope": "openid email", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
             **changed}
    return {name: value for name, value in given.items() if value is not None}


def code(running: Dashboard, client: httpx.Client, **changed: str | None) -> str:
    page = running.addresses.sign_in
    answer = client.post(f"{page}/login", data={**asked(running, **changed), "demo": "1"}, headers={"origin": page})
    assert answer.status_code == 303, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert answer.headers["location"].startswith(f"{running.page}/?") and query["state"] == ["s1"]
    return query["code"][0]


def exchanged(running: Dashboard, client: httpx.Client, **changed: str) -> httpx.Response:
    given = {"grant_type": "authorization_code", "client_id": running.addresses.client,
             "redirect_uri": f"{running.page}/", "code_verifier": VERIFIER, **changed}
    return client.post(f"{running.addresses.sign_in}/oauth2/token", data=given)


def test_every_file_comes_with_its_type_and_the_policys_headers(running: Dashboard, client: httpx.Client) -> None:
    for key, content in web.files(running.addresses):
        answer = client.get(f"{running.page}/{key}")
        assert (answer.status_code, answer.content) == (200, content), key
        assert answer.headers["content-type"] == web.CONTENT_TYPES[Path(key).suffix]
        assert answer.headers["cache-control"] == "no-cache"
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "amazonaws" not in policy
        assert f"connect-src 'self' {running.api} {running.addresses.sign_in};" in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        again = client.get(f"{running.page}/{key}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get(running.page).content == client.get(f"{running.page}/index.html").content


def test_what_is_not_there_and_what_is_not_read_is_refused_as_cloudfront_does(
        running: Dashboard, client: httpx.Client) -> None:
    for answer in (client.get(f"{running.page}/nothing.js"), client.post(running.page), client.put(running.page),
                   client.get(f"{running.page}/..%2Findex.html")):
        assert answer.status_code == 403 and "script-src 'self'" in answer.headers["content-security-policy"]
    assert "make web" in client.get(f"{running.page}/nothing.js").text


def test_outputs_are_addresses_that_can_be_opened(running: Dashboard) -> None:
    assert running.ready["outputs"]["EdgeCloudWeb"]["DashboardUrl"] == running.page
    assert running.ready["outputs"]["EdgeCloudApi"]["SignInUrl"] == running.addresses.sign_in


def test_a_code_and_its_verifier_give_tokens_that_the_api_takes(running: Dashboard, client: httpx.Client) -> None:
    answer = exchanged(running, client, code=code(running, client))
    tokens = answer.json()
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"
    headers = {"authorization": f"Bearer {tokens['access_token']}", "origin": running.page}
    found = client.get(f"{running.api}/devices", headers=headers)
    assert found.status_code == 200 and found.headers["access-control-allow-origin"] == running.page
    elsewhere = client.get(f"{running.api}/devices", headers={**headers, "origin": "http://evil.example"})
    assert "access-control-allow-origin" not in elsewhere.headers
    assert client.get(f"{running.api}/devices", headers={"origin": running.page}).status_code == 401
    renewed = exchanged(running, client, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).json()
    headers["authorization"] = f"Bearer {renewed['access_token']}"
    assert client.get(f"{running.api}/devices", headers=headers).status_code == 200


def test_a_code_is_worth_nothing_without_what_belongs_to_it(running: Dashboard, client: httpx.Client) -> None:
    for wrong in ({"code_verifier": "w" * 64}, {"code_verifier": ""}, {"redirect_uri": "http://evil.example/"},
                  {"client_id": "another"}):
        given = code(running, client)
        answer = exchanged(running, client, **{"code": given, **wrong})
        assert (answer.status_code, answer.json()) == (400, {"error": "invalid_grant"})
        assert exchanged(running, client, code=given).status_code == 400, "one try is all"
    given = code(running, client)
    assert exchanged(running, client, code=given).status_code == 200
    assert exchanged(running, client, code=given).status_code == 400
    for wrong in ({"grant_type": "password"}, {"grant_type": "refresh_token", "refresh_token": "made up"}):
        assert exchanged(running, client, **wrong).status_code == 400


def test_nobody_is_sent_to_an_address_that_the_client_does_not_have(running: Dashboard, client: httpx.Client) -> None:
    page = running.addresses.sign_in
    for changed in ({"redirect_uri": "http://evil.example/"}, {"redirect_uri": None}, {"client_id": "nobody"},
                    {"client_id": running.parameter("tools-client")}, {"response_type": "token"},
                    {"code_challenge_method": "plain"}, {"scope": "openid aws.cognito.signin.user.admin"}):
        answer = client.get(f"{page}/oauth2/authorize", params=asked(running, **changed))
        assert answer.status_code == 400 and "location" not in answer.headers, changed
        assert client.post(f"{page}/login", data={**asked(running, **changed), "demo": "1"},
                           headers={"origin": page}).status_code == 400
    for uri, status in ((f"{running.page}/", 303), ("http://evil.example/", 400)):
        query = {"client_id": running.addresses.client, "logout_uri": uri}
        assert client.get(f"{page}/logout", params=query).status_code == status


def test_only_the_page_itself_can_press_its_button(running: Dashboard, client: httpx.Client) -> None:
    page, form = running.addresses.sign_in, {**asked(running), "demo": "1"}
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"},
                    {"origin": "http://evil.example", "host": "evil.example"}):
        answer = client.post(f"{page}/login", data=form, headers=headers)
        assert answer.status_code in (400, 404) and "location" not in answer.headers, headers
    rebound = client.get(f"{page}/oauth2/authorize", params=asked(running), headers={"host": "evil.example"})
    assert rebound.status_code == 404
    long = client.post(f"{page}/login", data={**form, "state": "s" * 40_000}, headers={"origin": page})
    assert long.status_code == 400


def test_the_page_shows_what_it_was_given_as_text(running: Dashboard, client: httpx.Client) -> None:
    answer = client.get(f"{running.addresses.sign_in}/oauth2/authorize", params=asked(running, state='"><script>'))
    assert answer.status_code == 200 and "<script>" not in answer.text and "&quot;&gt;&lt;script&gt;" in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


class Services:
    """Stands where the services are: no site is opened."""

    call = None

    def __init__(self) -> None:
        self.header_policies: dict[str, dict[str, str]] = {}
        self.addresses = Addresses()


def refused(make: Any, properties: dict[str, Any], fault: type[Exception], words: str) -> None:
    context = Context(Services(), "Stack", "Site", Path)  # type: ignore[arg-type]
    with pytest.raises(fault, match=words):
        asyncio.run(make(properties, context))


def test_what_is_not_emulated_is_refused() -> None:
    origin = {"Id": "o", "DomainName": "pages.s3.eu-north-1.amazonaws.com", "S3OriginConfig": {}}
    plain = {"DefaultCacheBehavior": {"TargetOriginId": "o"}, "Origins": [origin], "Enabled": True}

    def config(**changed: Any) -> dict[str, Any]:
        return {"DistributionConfig": {**json.loads(json.dumps(plain)), **changed}}

    refused(distribution, config(Aliases=["a.example"]), Unsupported, "DistributionConfig.Aliases")
    refused(distribution, config(Origins=[origin, origin]), Unsupported, "one S3 origin")
    refused(distribution, config(Origins=[{**origin, "DomainName": "example.org"}]), DeployError, "RegionalDomainName")
    refused(distribution, config(DefaultCacheBehavior={"TargetOriginId": "o", "FunctionAssociations": []}), Unsupported,
            "FunctionAssociations")
    refused(distribution, config(DefaultCacheBehavior={"TargetOriginId": "o", "ResponseHeadersPolicyId": "aws"}),
            Unsupported, "no policy of this deployment")
    refused(response_headers_policy, {"ResponseHeadersPolicyConfig": {"Name": "n", "CorsConfig": {}}}, Unsupported,
            "CorsConfig")
