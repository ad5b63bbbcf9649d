"""AWS IoT's Device Shadow service: requests on `$aws/things/<thing>/shadow/…` (and of the HTTPS API, shadow_api.py) in,
answers on the topics beside them out, to subscribers and the rule engine.

Classic and named shadows, in memory as long as the local cloud runs. Requests are worked off one by one, so there are
never more than AWS's ten in flight.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.gateway.limits import TokenBucket
from local_cloud.gateway.shadow_document import (
    ShadowDocument,
    ShadowFault,
    read_client_token,
    read_request,
    stamped,
)

PREFIX = "$aws/things/"
GET, UPDATE, DELETE = OPERATIONS = ("get", "update", "delete")
_NAME = "[a-zA-Z0-9:_-]"
_THING = re.compile(_NAME + r"{1,128}\Z")
_SHADOW = re.compile(_NAME + r"{1,64}\Z")
_REQUEST = re.compile(rf"\$aws/things/({_NAME}{{1,128}})/shadow(?:/name/({_NAME}{{1,64}}))?/({'|'.join(OPERATIONS)})\Z")

Tell = Callable[[str, bytes], None]  # (topic, payload): to subscribers and rules


@dataclass(frozen=True)
class Asked:
    """Which shadow, and what is to be done with it. name: None for the classic one."""

    thing: str
    name: str | None
    operation: str

    @property
    def prefix(self) -> str:
        """`$aws/things/<thing>/shadow`, with `/name/<name>` for a named one."""
        return f"{PREFIX}{self.thing}/shadow" + ("" if self.name is None else f"/name/{self.name}")

    def topic(self, answer: str) -> str:
        """Where that answer to it goes."""
        return f"{self.prefix}/{self.operation}/{answer}"


def asked(topic: str) -> Asked | None:
    """The request that a publish to this topic is; None when it is none."""
    found = _REQUEST.match(topic)
    return Asked(*found.groups()) if found else None


def may_be_subscribed(topic_filter: str) -> bool:
    """Whether a filter below `$` can be about shadows; Jobs and what else is below a thing are not offered."""
    thing, _, rest = topic_filter.removeprefix(PREFIX).partition("/")
    return topic_filter.startswith(PREFIX) and (thing == "#" or rest.partition("/")[0] in ("shadow", "+", "#"))


class Shadows:
    """things: who has shadows; tell: where answers go; per_s: requests per thing and second, None: any number.
    metered: told of each operation by the shadow and its bytes. `operations` counts them."""

    def __init__(self, things: Mapping[str, Any], tell: Tell, per_s: Callable[[], float | None] = lambda: None,
                 now_s: Callable[[], float] = time.time,
                 metered: Callable[[str, int], None] = lambda shadow, size_bytes: None) -> None:
        self._things, self._tell, self._per_s, self._now_s = things, tell, per_s, now_s
        self._metered = metered
        self._documents: dict[tuple[str, str | None], ShadowDocument] = {}
        self._rates: dict[str, TokenBucket] = {}
        self.operations: Counter[str] = Counter()

    def answer(self, request: Asked, payload: bytes) -> None:
        """Do what a message on a shadow topic asks, and say so on `…/accepted` or `…/rejected`."""
        try:
            answer = self.do(request, payload)
        except ShadowFault as fault:
            answer = {"code": fault.code, "message": str(fault), "timestamp": int(self._now_s())}
            self._publish(request.topic("rejected"), _with_token(answer, fault.client_token))
            return
        if request.operation == GET:
            self._publish(request.topic("accepted"), answer)

    def do(self, request: Asked, payload: bytes) -> dict[str, Any]:
        """Do it; what is answered. Changes are told to subscribers, whoever asked. Raises ShadowFault."""
        if not _THING.match(request.thing) or not (request.name is None or _SHADOW.match(request.name)):
            raise ShadowFault(400, "Invalid thing or shadow name")
        if request.thing not in self._things:
            raise ShadowFault(404, "Thing not found")
        now_s = self._now_s()
        rate = self._rates.setdefault(request.thing, TokenBucket(now_s))
        if not rate.take(self._per_s(), now_s):
            raise ShadowFault(429, "Too Many Requests")
        done = {GET: self._get, UPDATE: self._update, DELETE: self._delete}[request.operation](request, payload)
        self.operations[request.operation] += 1
        self._metered(request.prefix, len(_json(self._documents[request.thing, request.name].state)))
        return done

    def names(self, thing: str) -> list[str]:
        """The named shadows of a thing. Raises ShadowFault."""
        if thing not in self._things:
            raise ShadowFault(404, "Thing not found")
        return sorted(name for (owner, name), document in self._documents.items()
                      if owner == thing and name is not None and document.exists)

    def document(self, thing: str, name: str | None) -> dict[str, Any] | None:
        """State, metadata and version of a shadow; None when there is none."""
        found = self._documents.get((thing, name))
        return found.body() if found and found.exists else None

    def _existing(self, request: Asked, token: str | None) -> ShadowDocument:
        found = self._documents.get((request.thing, request.name))
        if found is None or not found.exists:
            named = f"name: {request.name}" if request.name is not None else f"thing: {request.thing}"
            raise ShadowFault(404, f"No shadow exists with {named}", token)
        return found

    def _get(self, request: Asked, payload: bytes) -> dict[str, Any]:
        token = read_client_token(payload)
        document = self._existing(request, token)
        body, (delta, _) = document.body(), document.delta()
        if delta:
            body["state"] = {**body["state"], "delta": delta}
        return _with_token({**body, "timestamp": int(self._now_s())}, token)

    def _update(self, request: Asked, payload: bytes) -> dict[str, Any]:
        update, at_s = read_request(payload), int(self._now_s())
        key = request.thing, request.name
        before = self._documents.get(key, ShadowDocument())
        after = self._documents[key] = before.merged(update, at_s)
        state = update.state
        metadata = {} if state is None else {name: stamped(part or {}, at_s) for name, part in state.items()}
        accepted = _with_token({"state": state, "metadata": metadata, "version": after.version, "timestamp": at_s},
                               update.client_token)
        self._publish(request.topic("accepted"), accepted)
        delta, times = after.delta()
        if delta:
            self._publish(request.topic("delta"), _with_token(
                {"version": after.version, "timestamp": at_s, "state": delta, "metadata": times}, update.client_token))
        self._publish(request.topic("documents"), _with_token(
            {"previous": before.body(), "current": after.body(), "timestamp": at_s},
            update.client_token))
        return accepted

    def _delete(self, request: Asked, payload: bytes) -> dict[str, Any]:
        token = read_client_token(payload)
        document = self._existing(request, token)
        self._documents[request.thing, request.name] = ShadowDocument(version=document.version + 1)
        answer = _with_token({"version": document.version, "timestamp": int(self._now_s())}, token)
        self._publish(request.topic("accepted"), answer)
        return answer

    def _publish(self, topic: str, answer: dict[str, Any]) -> None:
        self._tell(topic, _json(answer))


def _with_token(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    return answer if token is None else {**answer, "clientToken": token}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
