"""What the sign-in page does with answers of a user pool that moto's pools never give, and with forms it never made."""
import asyncio
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from local_cloud.sign_in_page import SignInPage
from local_cloud.web import Addresses

PAGE = "http://localhost:9001"
ASKED = {"client_id": "web", "redirect_uri": "http://localhost:9000/", "response_type": "code", "scope": "openid"}


class Pool:
    """Takes the place of the user pool behind `call`: one client; `answer` is what it says to a sign-in."""

    def __init__(self, answer: dict[str, Any] | str) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        if operation == "describe_user_pool_client":
            return {"UserPoolClient": {"CallbackURLs": [ASKED["redirect_uri"]], "AllowedOAuthFlows": ["code"],
                                       "AllowedOAuthScopes": ["openid"]}}
        self.asked.append((operation, given))
        if isinstance(self.answer, str):
            raise ClientError({"Error": {"Code": self.answer, "Message": "on purpose"}}, operation)
        return self.answer


def sent(pool: Pool, **form: str) -> httpx.Response:
    """The page's answer to its form with these fields."""
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=SignInPage("pool", pool, Addresses()))
        async with httpx.AsyncClient(transport=transport, base_url=PAGE) as client:
            return await client.post("/login", data={**ASKED, **form}, headers={"origin": PAGE})

    return asyncio.run(post())


def test_who_must_choose_a_password_is_asked_for_it_and_signs_in_with_it() -> None:
    pool = Pool({"ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "s<1>"})
    answer = sent(pool, username="a@b.example", password="first")
    assert answer.status_code == 200 and "Choose a password of your own." in answer.text
    assert 'name="session" value="s&lt;1&gt;"' in answer.text and 'value="a@b.example"' in answer.text
    pool.answer = {"AuthenticationResult": {"AccessToken": "t"}}
    answer = sent(pool, username="a@b.example", password="second", session="s<1>")
    assert answer.status_code == 303 and answer.headers["location"].startswith(f"{ASKED['redirect_uri']}?code=")
    operation, given = pool.asked[-1]
    assert (operation, given["Session"]) == ("admin_respond_to_auth_challenge", "s<1>")
    assert given["ChallengeResponses"] == {"USERNAME": "a@b.example", "NEW_PASSWORD": "second"}


def test_another_challenge_is_named() -> None:
    answer = sent(Pool({"ChallengeName": "SMS_MFA", "Session": "s"}), username="a@b.example", password="p")
    assert (answer.status_code, answer.text) == (400, "The pool asks for SMS_MFA, which is not emulated here.\n")


@pytest.mark.parametrize("form", ({"session": "s"}, {"session": "s", "password": "p"}, {}))
def test_a_form_without_its_fields_is_a_wrong_password(form: dict[str, str]) -> None:
    answer = sent(Pool("NotAuthorizedException"), **form)
    assert answer.status_code == 200 and "Incorrect username or password." in answer.text


def test_a_password_that_the_policy_refuses_is_told_why() -> None:
    answer = sent(Pool("InvalidPasswordException"), username="a@b.example", password="x", session="s")
    assert answer.status_code == 200 and '<p role="alert">on purpose</p>' in answer.text
