"""Routes of an HTTP API: route keys ("GET /devices/{device}/readings") in, the best match for a request out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from local_cloud.errors import DeployError

_METHODS = {"ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
_VARIABLE = re.compile(r"\{([^{}+]+)(\+?)\}")
_DEFAULT = "$default"


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its key, the id of its integration, and the authorizer that guards it (None: open)."""

    key: str
    integration_id: str
    authorizer_id: str | None
    method: str
    segments: tuple[str, ...]

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path parameters (decoded) when the route takes the request, else None."""
        if self.key == _DEFAULT:
            return {}
        if self.method not in ("ANY", method):
            return None
        found: dict[str, str] = {}
        given = path.strip("/").split("/")
        for place, segment in enumerate(self.segments):
            variable = _VARIABLE.fullmatch(segment)
            if variable is not None and variable[2]:
                rest = "/".join(given[place:])
                return {**found, variable[1]: unquote(rest)} if rest else None
            if place >= len(given) or (variable is None and unquote(given[place]) != segment):
                return None
            if variable is not None:
                if not given[place]:
                    return None
                found[variable[1]] = unquote(given[place])
        return found if len(given) == len(self.segments) else None

    def specificity(self) -> tuple[int, list[int], int]:
        """Sorts the most specific route first: full paths, then greedy ones, then $default; a method before ANY."""
        if self.key == _DEFAULT:
            return 2, [], 1
        weights = [_weight(segment) for segment in self.segments]
        return (1 if 2 in weights else 0), weights, int(self.method == "ANY")


def parse_route(key: str, integration_id: str, authorizer_id: str | None) -> Route:
    """A route from its key; DeployError for one that API Gateway would refuse."""
    if key == _DEFAULT:
        return Route(key, integration_id, authorizer_id, "ANY", ())
    method, _, path = key.partition(" ")
    if method not in _METHODS or not path.startswith("/"):
        raise DeployError(f"RouteKey: got {key!r}, expected $default or METHOD /path with METHOD in {sorted(_METHODS)}")
    segments = tuple(path.strip("/").split("/"))
    greedy = [place for place, segment in enumerate(segments) if segment.endswith("+}")]
    if greedy and greedy != [len(segments) - 1]:
        raise DeployError(f"RouteKey: {key!r}: a greedy variable must be the last segment")
    return Route(key, integration_id, authorizer_id, method, segments)


def _weight(segment: str) -> int:
    variable = _VARIABLE.fullmatch(segment)
    return 0 if variable is None else 2 if variable[2] else 1


def find_route(routes: list[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The most specific route that takes a request (path as sent, still encoded), with its path parameters."""
    for route in sorted(routes, key=Route.specificity):
        parameters = route.match(method, path)
        if parameters is not None:
            return route, parameters
    return None
