"""What the bridge asks of its device shadow, and what may go wrong with it: from shadow.py, and on to uplink.py.

One request at a time. A request without an answer is made again, later and later; a cloud that says no, or that ends
connections for it, is left alone for an hour. Delivery notices nothing of it.
"""
import json
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

from contract import shadow, topics
from edge_bridge.connection import ASIDE, Acked, Send, Subscribe, Subscribed
from edge_bridge.pacing import full_jitter_s

log = logging.getLogger(__name__)

GET, UPDATE = "get", "update"
ANSWER_S = 30.0  # without an answer a request is made again
RETRY_BASE_S, RETRY_MOST_S = 5.0, 900.0
REFUSED_S = 3600.0  # between two attempts when the cloud does not want us to have a shadow: a policy may change
BROKEN_IN_A_ROW = 3  # connections that ended while an answer was awaited: the cloud may end them for our asking
PUBLISHES = {GET: 1, UPDATE: 4}  # as how many AWS IoT counts it
_REFUSALS = ("NOT_AUTHORIZED", "TOPIC_FILTER_INVALID", "TOPIC_NAME_INVALID", "UNSPECIFIED_ERROR",
             "IMPLEMENTATION_SPECIFIC_ERROR")
_PASSING = (429, 500, 503)  # codes of a rejection that say nothing about the request
_POLICY = "; make deploy brings the policy that allows it, SHADOW=off does without"


class Requests:
    """ask: the uplink's; wanted: topics to be subscribed. fault: why the cloud is left alone, "" while it is not.
    Used by the shadow's thread alone."""

    def __init__(self, thing: str, wanted: tuple[str, ...], ask: Callable[[Send | Subscribe], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._thing, self._wanted, self._ask, self._clock = thing, wanted, ask, clock
        self._connected = self._subscribed = False
        self._awaited: tuple[str, str, float] | None = None  # token, operation, until when to wait
        self._due_s: float | None = None  # when to subscribe, or to fetch the whole of it
        self._attempts = self._broken = 0
        self.fault = ""

    # What came

    def came(self) -> None:
        """There is a connection. One that is left alone stays so until its time."""
        self._connected, self._subscribed = True, False
        self._due_s = max(self._due_s or 0.0, self._clock()) if self.fault else self._clock()

    def went(self) -> None:
        """The connection is gone."""
        if self._connected:
            self._broken = self._broken + 1 if self._awaited else 0
        self._connected, self._subscribed, self._awaited = False, False, None
        if self._broken >= BROKEN_IN_A_ROW:
            self._broken = 0
            self.refuse(f"{BROKEN_IN_A_ROW} connections ended when the shadow was asked for", _POLICY)

    def subscribed(self, event: Subscribed) -> None:
        """The answer to the subscription."""
        if not event.fault:
            self._subscribed, self._awaited = True, None
            self._due_s = self._clock()
        elif self._awaits(ASIDE) and _is_refusal(event.fault):
            self.refuse(f"no subscription to {topics.shadow(self._thing, '…')} ({event.fault})", _POLICY)

    def acked(self, event: Acked) -> None:
        """The PUBACK of a request; what it asks for is answered by a message of its own."""
        if self._awaits(event.token) and _is_refusal(event.fault):
            self.refuse(f"no publish to {topics.shadow(self._thing, '…')} ({event.fault})", _POLICY)

    def answered(self, token: str) -> bool:
        """A message with this token came: is it the answer that was awaited?"""
        if not self._awaits(token):
            return False
        self._awaited = None
        self._attempts = self._broken = 0
        return True

    def rejected(self, operation: str, message: dict[str, Any], token: str) -> None:
        """The cloud says no, to us or to somebody else. What is too large to be read is rejected without its token."""
        if not token and self._awaited and self._awaited[1] == operation:
            token = self._awaited[0]
        if not self._awaits(token):
            return
        text = f"{message.get('code')} {message.get('message')}"
        if message.get("code") in _PASSING:
            self._awaited = None
            self._retry(text)
        else:
            self.refuse(text)

    def _awaits(self, token: str) -> bool:
        return self._awaited is not None and self._awaited[0] == token

    # What goes out

    def wait_s(self, most_s: float) -> float:
        """For how long there is nothing to do, unless something comes."""
        if self._due_s is None or not self._connected or self._awaited:
            return most_s
        return min(most_s, max(0.0, self._due_s - self._clock()))

    def may_tell(self) -> bool:
        """May a report go now? All that came is taken in, and nothing is awaited."""
        return self._subscribed and not self.fault and self._due_s is None and self._awaited is None

    def look(self) -> bool:
        """Subscribe if it is time; True when it is time to fetch the whole shadow."""
        now_s = self._clock()
        if self._awaited and self._awaited[2] <= now_s:
            operation, self._awaited = self._awaited[1], None
            self._retry(f"no answer to {operation} in {ANSWER_S:.0f} s")
        if not self._connected or self._awaited or self._due_s is None or self._due_s > now_s:
            return False
        self._due_s = None
        if not self._subscribed:
            self._awaited = ASIDE, "subscribe", now_s + ANSWER_S
            self._ask(Subscribe(self._wanted))
        return self._subscribed

    def send(self, operation: str, request: dict[str, Any]) -> None:
        """Make a request; nothing else may be awaited."""
        token = ASIDE + os.urandom(6).hex()
        payload = json.dumps({**request, "clientToken": token}, separators=(",", ":")).encode()
        self._awaited = token, operation, self._clock() + ANSWER_S
        self._ask(Send(topics.shadow(self._thing, operation), payload, token, PUBLISHES[operation]))

    def fetch_in(self, wait_s: float) -> None:
        """The whole shadow is to be fetched."""
        if not self.fault:
            self._due_s = min(self._due_s or math.inf, self._clock() + wait_s)

    def done(self) -> None:
        """Everything is known: nothing has to be fetched."""
        self._due_s = None
        if self.fault:
            log.info("shadow: it works again")
            self.fault = ""

    def _retry(self, why: str) -> None:
        """Fetch all of it after a while: what got through and what did not is seen then."""
        self._attempts += 1
        log.log(logging.WARNING if self._attempts == 1 else logging.DEBUG, "shadow: %s; it is tried again", why)
        wait_s = RETRY_BASE_S + full_jitter_s(self._attempts, base_s=RETRY_BASE_S, most_s=RETRY_MOST_S)
        self._due_s = self._clock() + wait_s

    def refuse(self, why: str, fix: str = "") -> None:
        """No shadow for now: told once, tried again in an hour; the settings stay as they are."""
        if not self.fault:
            log.warning("shadow: %s; remote settings are off for now, delivery goes on%s", why, fix)
        self.fault, self._awaited = why[:shadow.MAX_REASON], None
        self._due_s = self._clock() + REFUSED_S


def _is_refusal(fault: str) -> bool:
    """Does the cloud say no? Any other fault is a link that broke, or soon no answer."""
    return any(name in fault for name in _REFUSALS)
