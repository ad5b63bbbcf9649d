"""The function api as API Gateway calls it: requests in payload format 2.0 with a token's claims, decoded answers."""
from collections.abc import Iterator
from typing import Any

import pytest

from contract import numbers
from lambdas import api, table
from tests.cloud_tables import aggregated, failures, persisted
from tests.messages import by_rule, sealed

ACCESS = {"token_use": "access", "sub": "ann", "client_id": "tools"}  # claims of a token, as API Gateway hands them on


class Archive:
    """Takes the place of Firehose's client: the lines that were put; `error` is raised instead, once."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.error: Exception | None = None

    def put_record(self, *, DeliveryStreamName: str, Record: dict[str, bytes]) -> dict[str, str]:
        assert DeliveryStreamName == "events-archive" and Record["Data"].endswith(b"\n")
        if self.error:
            error, self.error = self.error, None
            raise error
        self.lines.append(Record["Data"][:-1])
        return {"RecordId": str(len(self.lines))}


@pytest.fixture
def archive(tables: None, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Empty tables, and an empty archive for what is posted."""
    monkeypatch.setenv("EVENTS_ARCHIVE", "events-archive")
    table.CLIENTS["firehose"] = made = Archive()
    return made


def call(route: str, path: dict[str, str] | None = None, body: str | None = None,
         headers: dict[str, str] | None = None, encoded: bool = False, claims: dict[str, str] = ACCESS,
         **query: Any) -> tuple[int, Any, dict[str, str]]:
    """(status, decoded body, headers) of one request; claims: of its token, {} for none."""
    method, _, template = route.partition(" ")
    raw_path = template.format(**path or {})
    answer = api.handler({
        "version": "2.0", "routeKey": route, "rawPath": raw_path, "rawQueryString": "", "headers": headers or {},
        "pathParameters": path, "queryStringParameters": {k.rstrip("_"): str(v) for k, v in query.items()} or None,
        "requestContext": {"http": {"method": method, "path": raw_path},
                           **({"authorizer": {"jwt": {"claims": claims, "scopes": None}}} if claims else {})},
        "body": body, "isBase64Encoded": encoded,
    }, None)
    return answer["statusCode"], numbers.loads(answer["body"]), answer["headers"]


def get(path: str, parameters: dict[str, str] | None = None, **query: Any) -> Any:
    """What a GET answers; `from_` is the parameter from."""
    status, answer, headers = call(f"GET {path}", parameters, **query)
    assert (status, headers["content-type"]) == (200, "application/json"), answer
    return answer


def pages(path: str, parameters: dict[str, str] | None = None, **query: Any) -> Iterator[Any]:
    """What a GET answers, page by page, until `next` is null."""
    following: dict[str, str] | None = {}
    while following is not None:
        answer = get(path, parameters, **query, **following)
        yield answer
        following = {"cursor": answer["next"]} if answer["next"] else None


def post(body: Any, claims: dict[str, str] = ACCESS, **headers: str) -> tuple[int, Any]:
    """(status, decoded body) of POST /data; `idempotency_key` is the header Idempotency-Key."""
    text = body if isinstance(body, str) else numbers.dumps(body)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return call("POST /data", None, text, named, claims=claims)[:2]


def refused(status: int, route: str, path: dict[str, str] | None = None, **arguments: Any) -> str:
    """The detail of a refusal, which is application/problem+json."""
    got, problem, headers = call(route, path, **arguments)
    assert (got, problem["status"], headers["content-type"]) == (status, status, "application/problem+json"), problem
    assert set(problem) == {"type", "title", "status", "detail"}
    return str(problem["detail"])


def store(*bodies: str) -> None:
    """Hand bodies of the queue to persist, and what comes of it to aggregate."""
    assert failures(persisted(*bodies)) == [] and failures(aggregated()) == []


def readings(*rows: Any, device: str = "pi-1") -> str:
    """The body of one batch of readings."""
    return by_rule(sealed("readings", {device: list(rows)}))
