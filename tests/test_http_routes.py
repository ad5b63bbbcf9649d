"""Routes of an HTTP API: which one takes a request, and route keys that API Gateway refuses."""

import pytest

from local_cloud.errors import DeployError
from local_cloud.http_routes import find_route, parse_route

ROUTES = ["GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{kind}/{id}", "ANY /pets/dog/1", "GET /pets/{proxy+}",
          "ANY /{proxy+}", "$default", "GET /"]


@pytest.mark.parametrize(("method", "path", "key", "parameters"), [
    ("GET", "/pets/dog/1", "GET /pets/dog/1", {}), ("GET", "/pets/dog/2", "GET /pets/dog/{id}", {"id": "2"}),
    ("GET", "/pets/cat/1", "GET /pets/{kind}/{id}", {"kind": "cat", "id": "1"}),
    ("POST", "/pets/dog/1", "ANY /pets/dog/1", {}), ("GET", "/pets/cat", "GET /pets/{proxy+}", {"proxy": "cat"}),
    ("GET", "/pets/a/b/c%2Fd", "GET /pets/{proxy+}", {"proxy": "a/b/c/d"}),
    ("POST", "/test/5", "ANY /{proxy+}", {"proxy": "test/5"}), ("GET", "/", "GET /", {}), ("POST", "/", "$default", {}),
    ("GET", "/pets/dog/2/", "GET /pets/dog/{id}", {"id": "2"}),
    ("GET", "/pets/dog/a%2Fb", "GET /pets/dog/{id}", {"id": "a/b"})])
def test_the_most_specific_route_is_chosen(method: str, path: str, key: str, parameters: dict[str, str]):
    found = find_route([parse_route(route, "i", None) for route in reversed(ROUTES)], method, path)
    assert found is not None
    assert (found[0].key, found[1]) == (key, parameters)


@pytest.mark.parametrize("key", ["FETCH /x", "GET x", "GET /{proxy+}/x", ""])
def test_a_route_key_that_api_gateway_refuses_is_refused(key: str):
    with pytest.raises(DeployError, match="RouteKey"):
        parse_route(key, "i", None)
