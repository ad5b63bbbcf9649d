"""The data API of device shadows, by boto3's own requests: the same documents, AWS's names for refusals."""
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_cloud import shadow_api
from local_cloud.http_wire import Request, Response
from tests.aws_server import client, served
from tests.shadow_desk import NAMED, Desk


@pytest.fixture
def api() -> Iterator[tuple[Any, Desk]]:
    """boto3's client of the data API, served on a port of its own, and the shadows behind it."""
    desk = Desk()

    async def handle(request: Request) -> Response:
        return shadow_api.handle(desk.shadows, request) or Response(501, b"")

    with served(handle) as url:
        yield client("iot-data", url), desk


def code(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    return str(refusal.value.response["Error"]["Code"])


def test_the_data_api_reads_and_writes_the_same_shadows(api: tuple[Any, Desk]) -> None:
    client, desk = api
    of = {"thingName": "t", "shadowName": "bridge"}
    answer = json.loads(client.update_thing_shadow(**of, payload='{"state":{"desired":{"a":1}}}')["payload"].read())
    assert answer["version"] == 1 and answer["state"] == {"desired": {"a": 1}}
    assert [topic for topic, _ in desk.told] == [f"{NAMED}/update/{one}" for one in ("accepted", "delta", "documents")]
    desk.told.clear()
    got = json.loads(client.get_thing_shadow(**of)["payload"].read())
    assert got["state"] == {"desired": {"a": 1}, "delta": {"a": 1}} and desk.told == []
    client.update_thing_shadow(thingName="t", payload='{"state":{"reported":{"b":1}}}')
    assert json.loads(client.get_thing_shadow(thingName="t")["payload"].read())["state"] == {"reported": {"b": 1}}
    for name in ("x", "y"):
        client.update_thing_shadow(thingName="t", shadowName=name, payload='{"state":{}}')
    listed = client.list_named_shadows_for_thing(thingName="t", pageSize=2)
    assert listed["results"] == ["bridge", "x"]
    rest = client.list_named_shadows_for_thing(thingName="t", pageSize=2, nextToken=listed["nextToken"])
    assert rest["results"] == ["y"] and "nextToken" not in rest
    assert json.loads(client.delete_thing_shadow(**of)["payload"].read())["version"] == 1
    assert client.list_named_shadows_for_thing(thingName="t")["results"] == ["x", "y"]


def test_the_data_api_refuses_by_awss_names_and_tells_nobody(api: tuple[Any, Desk]) -> None:
    client, desk = api
    of = {"thingName": "t", "shadowName": "bridge"}
    assert code(client.get_thing_shadow, **of) == "ResourceNotFoundException"
    assert code(client.get_thing_shadow, thingName="other") == "ResourceNotFoundException"
    for payload, kind in ((b"{", "InvalidRequestException"), (b'{"state":{},"version":3}', "ConflictException"),
                          (b"x" * 9000, "RequestEntityTooLargeException"),
                          (b'{"state":"\xff"}', "UnsupportedDocumentEncodingException")):
        assert code(client.update_thing_shadow, **of, payload=payload) == kind
    assert desk.told == []
