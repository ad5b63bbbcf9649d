"""make user and make token against a running local cloud, and what their tokens open there."""
import gzip
import io
import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from contract import batch, numbers
from deploy import user
from deploy.command import run as run_command
from deploy.target import Target, TargetFault, ask
from deploy.users import demo_token, new_password, users_of, visitor
from tests import cloud_rig
from tests.cloud_rig import Cloud

PASSWORD = "Correct-horse-7-battery"
ELSEWHERE = {"Origin": "http://localhost:8080"}  # as the dashboard's page sends it: no auto-login
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    yield cloud_rig.cloud()


@pytest.fixture(scope="module")
def place(cloud: Cloud) -> Target:
    return cloud.target


@pytest.fixture
def email() -> str:
    return f"ann-{secrets.token_hex(4)}@example.org"


def command(cloud: Cloud, verb: str, *words: str) -> int:
    return user.main([verb, "--target", "local", "--cloud", str(cloud.ready_file), *words])


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def api(place: Target, path: str, token: str | None = None, method: str = "GET", **options: Any) -> httpx.Response:
    headers = {**ELSEWHERE, **({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
    return httpx.request(method, place.api_url() + path, headers=headers, timeout=30, **options)


def test_a_new_user_changes_the_password_that_was_shown_once_and_gets_a_token(
        cloud: Cloud, place: Target, email: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    assert command(cloud, "create", "--email", email) == 0
    told = capsys.readouterr().out
    temporary = told.splitlines()[-1].strip()
    assert email in told and told.count(temporary) == 1 and len(temporary) >= 14
    assert temporary not in cloud.told and temporary not in (cloud.ready_file.parent / "cloud.log").read_text()
    typed(monkeypatch, temporary, PASSWORD)
    assert command(cloud, "token", "--email", email) == 0
    token = capsys.readouterr().out.strip()
    assert api(place, "/devices", token).status_code == 200 and api(place, "/devices").status_code == 401
    typed(monkeypatch, PASSWORD)
    assert command(cloud, "token", "--email", email) == 0
    assert capsys.readouterr().out.strip() != token


def test_a_password_of_ones_own_and_a_new_one_when_it_is_lost(
        cloud: Cloud, email: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    typed(monkeypatch, PASSWORD)
    assert command(cloud, "create", "--email", email, "--ask") == 0
    assert PASSWORD not in capsys.readouterr().out
    again = re.escape(f"make user EMAIL={email} RESET=1 TARGET=local CLOUD={cloud.ready_file}") + "$"
    with pytest.raises(TargetFault, match=f"is a user already; RESET=1 gives a new temporary password: {again}"):
        command(cloud, "create", "--email", email)
    assert command(cloud, "create", "--email", email, "--reset") == 0
    temporary = capsys.readouterr().out.splitlines()[-1].strip()
    typed(monkeypatch, PASSWORD)
    with pytest.raises(TargetFault, match=f"RESET=1 gives a new one: {again}"):
        command(cloud, "token", "--email", email)
    typed(monkeypatch, temporary, PASSWORD + "!")
    assert command(cloud, "token", "--email", email) == 0


def test_a_slip_is_named(cloud: Cloud, email: str, capsys: pytest.CaptureFixture[str],
                         monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("", "ann", "@", "ann@"):
        with pytest.raises(TargetFault, match=r"expected an address: make user EMAIL=\S+ TARGET=local CLOUD="):
            command(cloud, "create", "--email", wrong)
    with pytest.raises(TargetFault, match=f"make one: make user EMAIL={email} TARGET=local CLOUD="):
        command(cloud, "create", "--email", email, "--reset")
    typed(monkeypatch, "whatever")
    with pytest.raises(TargetFault, match="does not know"):
        command(cloud, "token", "--email", email)
    assert run_command(lambda words: command(cloud, "create", "--email", "ann"), "user") == 1
    assert capsys.readouterr().err.startswith("user: EMAIL is 'ann'")


def test_the_next_command_is_for_the_same_place() -> None:
    place = {words: user.options_of(user.arguments(["token", *words])) for words in (
        (), ("--target", "aws", "--cloud", ""), ("--target", "local"), ("--target", "local", "--cloud", "a b.json"))}
    assert list(place.values()) == ["", "", "TARGET=local", "TARGET=local 'CLOUD=a b.json'"]


def test_a_made_password_satisfies_the_policy() -> None:
    made = {new_password() for _ in range(200)}
    assert len(made) == 200
    for one in made:
        assert len(one) == 20 and any(map(str.islower, one)) and any(map(str.isupper, one))
        assert any(map(str.isdigit, one)) and not one.isalnum()


def test_a_visitors_token_opens_the_api_and_the_visitor_leaves(place: Target) -> None:
    users = users_of(place.parameter, place.client("cognito-idp"))
    before = {one["Username"] for one in users.client.list_users(UserPoolId=users.pool)["Users"]}
    with visitor(users) as token:
        assert api(place, "/status", token).status_code == 200
        assert len(users.client.list_users(UserPoolId=users.pool)["Users"]) == len(before) + 1
    assert {one["Username"] for one in users.client.list_users(UserPoolId=users.pool)["Users"]} == before


def test_the_api_takes_access_tokens_alone(place: Target) -> None:
    users = users_of(place.parameter, place.client("cognito-idp"))
    token = demo_token(place.parameter, place.client("cognito-idp"))
    password, email = new_password(), f"id-{secrets.token_hex(4)}@example.org"
    users.create(email, password)
    users.set_password(email, password, permanent=True)
    id_token = users.client.admin_initiate_auth(
        UserPoolId=users.pool, ClientId=users.app, AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": password})["AuthenticationResult"]["IdToken"]
    assert api(place, "/data", token).status_code == 200
    refused = api(place, "/data", id_token)
    assert refused.status_code == 401 and refused.headers["content-type"] == "application/problem+json"
    assert "access token" in refused.json()["detail"]
    assert api(place, "/data", token[:-6] + token[:6]).status_code == 401
    assert api(place, "/health").status_code == 200


def test_only_this_machine_is_spared_the_token(place: Target) -> None:
    assert ask(place.api_url() + "/devices")["devices"] is not None
    for headers in ({"Host": "rebound.example"}, {"Origin": "https://evil.example"}, {"X-Forwarded-For": "8.8.8.8"}):
        assert httpx.get(place.api_url() + "/devices", headers=headers).status_code == 401


def archived(place: Target, device: str) -> list[batch.Row]:
    s3, bucket = place.client("s3"), place.parameter("archive-bucket")
    found = s3.list_objects_v2(Bucket=bucket, Prefix="archive/events/").get("Contents", [])
    lines = [line for one in found for line in gzip.decompress(
        s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()).splitlines()]
    batches = [batch.read(line) for line in lines]
    return [row for one in batches for series in one.series if series["device"] == device
            for row in batch.unpack(series) if one.site == "api"]


def test_a_posted_event_is_there_at_once_rolled_up_and_archived(place: Target) -> None:
    device, token = f"door-{secrets.token_hex(4)}", demo_token(place.parameter, place.client("cognito-idp"))
    sent = {"device_id": device, "timestamp": time.time(), "persons_detected": 4}
    first, again = (api(place, "/data", token, "POST", json=sent, headers={"Idempotency-Key": device})
                    for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    listed = numbers.loads(api(place, f"/data?device_id={device}", token).content)
    assert [one["persons_detected"] for one in listed] == [4]
    changed = {**sent, "persons_detected": 5}
    other = api(place, "/data", token, "POST", json=changed, headers={"Idempotency-Key": device})
    assert other.status_code == 422 and "another event" in json.loads(other.content)["detail"]
    place.flush()
    rows = archived(place, device)
    assert {row.values["persons_detected"] for row in rows} == {4} and len({row.kafka for row in rows}) == 1
    minutes = ask(f"{place.api_url()}/sites/api/devices/{device}/rollups")["rollups"]
    assert [minute["fields"]["persons_detected"]["n"] for minute in minutes] == [1]
