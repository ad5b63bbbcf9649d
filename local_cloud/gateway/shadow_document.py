"""One shadow document of AWS IoT: an update's JSON is checked and merged into it, answers are made of it; shadows.py
keeps the documents and says who is told.

As AWS documents it: an update touches only the members that it names, null removes one, an array is replaced whole, a
section that becomes empty goes, and the metadata says when each member was last set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DESIRED, REPORTED = SECTIONS = ("desired", "reported")
DOCUMENT_BYTES = 8 * 1024  # of desired and reported together; metadata does not count
DEEPEST = 8  # levels within a section (the quota; the list of error messages speaks of 6)
CLIENT_TOKEN_BYTES = 64


class ShadowFault(Exception):
    """A request that AWS answers on `…/rejected`: code and message as it lists them."""

    def __init__(self, code: int, message: str, client_token: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.client_token = client_token


@dataclass(frozen=True)
class Request:
    """What a client asks. state: the sections to merge, None: all of it goes; version: only if it is this one now."""

    state: dict[str, Any] | None
    version: int | None = None
    client_token: str | None = None


@dataclass
class ShadowDocument:
    """Sections and their metadata; version 0: not written yet. exists: False after a deletion, the version stays."""

    state: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    exists: bool = False

    def merged(self, request: Request, at_s: int) -> ShadowDocument:
        """The next version. Raises ShadowFault when it may not become so; this one stays as it is."""
        if request.version is not None and request.version != self.version:
            raise ShadowFault(409, "Version conflict", request.client_token)
        state, metadata = {}, {}
        for section in SECTIONS if request.state is not None else ():
            update = (request.state or {}).get(section, {})
            values, times = merge(self.state.get(section, {}), self.metadata.get(section, {}), update, at_s)
            if values:
                state[section], metadata[section] = values, times
        if len(_compact(state)) > DOCUMENT_BYTES:
            raise ShadowFault(413, "The payload exceeds the maximum size allowed", request.client_token)
        return ShadowDocument(state, metadata, self.version + 1, exists=True)

    def delta(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is desired and not reported so, with the metadata of desired."""
        wanted = self.state.get(DESIRED, {})
        found = difference(wanted, self.state.get(REPORTED, {}))
        return found, _same_shape(self.metadata.get(DESIRED, {}), found)

    def body(self) -> dict[str, Any]:
        """State, metadata and version, as `…/get/accepted` and `…/update/documents` have them."""
        return {"state": self.state, "metadata": self.metadata, "version": self.version}


def read_request(payload: bytes) -> Request:
    """An update's payload. Raises ShadowFault."""
    body = _read_object(payload)
    token = _client_token(body)
    version = body.get("version")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise ShadowFault(400, "Invalid version", token)
    if "state" not in body:
        raise ShadowFault(400, "Missing required node: state", token)
    state = body["state"]
    if state is not None:
        _check_state(state, token)
    return Request(state, version, token)


def read_client_token(payload: bytes) -> str | None:
    """The token of a get or a delete, whose payload may be empty. Raises ShadowFault."""
    return _client_token(_read_object(payload)) if payload.strip() else None


def _read_object(payload: bytes) -> dict[str, Any]:
    if len(payload) > DOCUMENT_BYTES:
        raise ShadowFault(413, "The payload exceeds the maximum size allowed")
    try:
        body = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise ShadowFault(415, "Unsupported documented encoding; supported encoding is UTF-8") from None
    except RecursionError:
        raise ShadowFault(400, _TOO_DEEP) from None
    except ValueError:
        raise ShadowFault(400, "Invalid JSON") from None
    if not isinstance(body, dict):
        raise ShadowFault(400, "Invalid JSON")
    return body


_TOO_DEEP = f"JSON contains too many levels of nesting; maximum is {DEEPEST}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is out of range")
    return number


def _client_token(body: Mapping[str, Any]) -> str | None:
    token = body.get("clientToken")
    if token is not None and (not isinstance(token, str) or len(token.encode()) > CLIENT_TOKEN_BYTES):
        raise ShadowFault(400, "Invalid clientToken")
    return token


def _check_state(state: Any, token: str | None) -> None:
    if not isinstance(state, dict):
        raise ShadowFault(400, "State node must be an object", token)
    if set(state) - set(SECTIONS):
        raise ShadowFault(400, "State contains an invalid node", token)
    for section in SECTIONS:
        values = state.get(section)
        if values is not None and not isinstance(values, dict):
            raise ShadowFault(400, f"{section.capitalize()} node must be an object", token)
        if _deeper(values, DEEPEST):
            raise ShadowFault(400, _TOO_DEEP, token)
        if _null_in_an_array(values):
            raise ShadowFault(400, "State contains an invalid node", token)


def _deeper(value: Any, levels: int) -> bool:
    """Whether objects and arrays nest deeper; it looks no further: newer Pythons parse thousands of levels."""
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return members is not None and (levels == 0 or any(_deeper(member, levels - 1) for member in members))


def _null_in_an_array(value: Any, within: bool = False) -> bool:
    if isinstance(value, dict):
        return any(_null_in_an_array(member, within) for member in value.values())
    if isinstance(value, list):
        return any(_null_in_an_array(member, True) for member in value)
    return within and value is None


def merge(values: Mapping[str, Any], times: Mapping[str, Any], update: Mapping[str, Any] | None,
          at_s: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A section and its metadata after an update of it; None: it is removed."""
    if update is None:
        return {}, {}
    values, times = dict(values), dict(times)
    for name, value in update.items():
        if isinstance(value, dict):
            held = values.get(name)
            value, stamp = merge(held, times[name], value, at_s) if isinstance(held, dict) else \
                merge({}, {}, value, at_s)
            value = value or None  # what is empty goes
        else:
            stamp = stamped(value, at_s)
        if value is None:
            values.pop(name, None)
            times.pop(name, None)
        else:
            values[name], times[name] = value, stamp
    return values, times


def stamped(value: Any, at_s: int) -> Any:
    """The metadata of a value set now: a time in place of each plain value."""
    if isinstance(value, dict):
        return {name: stamped(member, at_s) for name, member in value.items()}
    if isinstance(value, list):
        return [stamped(member, at_s) for member in value]
    return {"timestamp": at_s}


def difference(wanted: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """The members of `wanted` that are not reported, or otherwise."""
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        other = reported.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            if nested := difference(value, other):
                found[name] = nested
        elif type(value) is bool or type(other) is bool:  # True is no 1 in JSON
            if value is not other:
                found[name] = value
        elif value != other:
            found[name] = value
    return found


def _same_shape(times: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _same_shape(times[name], value) if isinstance(value, dict) else times[name]
            for name, value in state.items()}


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
