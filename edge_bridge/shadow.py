"""The bridge's side of its device shadow `bridge`: what uplink.py passes on of the cloud's desired state goes to
shadow_settings.py, and what shadow_report.py makes of it and of the status goes back as reported.

A thread of its own: whatever happens here, or takes long, delivery goes on. The cloud tells each change with the
version it made; the next one in turn is taken as it is, after a gap all of it is fetched. A member that is taken away
from `desired` makes no delta, so it is the accepted updates that are listened to; a delta only says that there was one.
"""
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from contract import numbers, shadow, topics
from contract.errors import BadPayload
from edge_bridge import shadow_report
from edge_bridge.connection import Acked, Connected, Disconnected, Event, Received, Send, Subscribe, Subscribed
from edge_bridge.schema import StoreError
from edge_bridge.shadow_report import Report
from edge_bridge.shadow_requests import GET, UPDATE, Requests
from edge_bridge.shadow_settings import RemoteSettings

log = logging.getLogger(__name__)

GAP_S = 0.3  # the versions in between may be on their way
TICK_S = 0.25
NOT_FOUND = 404
STARTING, ON, FAULT = "starting", "on", "fault"


class Shadow:
    """The shadow thread. ask: the uplink's; latest: the newest status, {} before the first; interval_s: between two
    reports that answer nobody."""

    def __init__(self, thing: str, remote: RemoteSettings, ask: Callable[[Send | Subscribe], None],
                 latest: Callable[[], dict[str, Any]], interval_s: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._remote, self._latest = remote, latest
        self._answers = {topics.shadow(thing, operation, answer): take for operation, answer, take in (
            (GET, "accepted", self._got), (GET, "rejected", self._not_got), (UPDATE, "accepted", self._updated),
            (UPDATE, "rejected", self._not_updated), (UPDATE, "delta", self._told),
            ("delete", "accepted", self._deleted))}
        self._requests = Requests(thing, tuple(self._answers), ask, clock)
        self._report = Report(interval_s, clock)
        self._version: int | None = None  # up to which every change is known; None: not yet
        self._seen = 0  # the highest version that was told since the shadow was fetched last
        self._desired: dict[str, Any] = {}
        self._judged: dict[str, Any] = {}  # what is answered: ANSWERS, and REFUSED if it was
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End; what was asked last is remembered on disk."""
        self._stopping.set()
        self._events.put(None)
        self._thread.join(timeout_s)

    def post(self, event: Event) -> None:
        """From the uplink."""
        self._events.put(event)

    def status(self) -> dict[str, Any]:
        """How it goes, and what holds, for the status message."""
        fault, refused = self._requests.fault, self._judged.get(shadow.REFUSED)
        return {"state": FAULT if fault else STARTING if self._version is None else ON,
                **self._remote.in_force._asdict(), "live_s": round(self._remote.live_left_s()),
                "answers": self._judged.get(shadow.ANSWERS), "refused": refused and refused["reason"],
                "fault": fault or None}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take(self._next_event())
                self._look()
            except StoreError:
                raise  # the outbox is damaged: a new start recovers it
            except Exception as error:  # a fault of ours must not stop readings
                log.exception("shadow: a message could not be handled; the settings stay as they are")
                self._requests.refuse(f"internal error: {error!r}")

    def _next_event(self) -> Event | None:
        try:
            return self._events.get(timeout=self._requests.wait_s(TICK_S))
        except queue.Empty:
            return None

    def _look(self) -> None:
        self._remote.look()
        if self._requests.look():
            self._seen = 0
            self._requests.send(GET, {})
        elif self._requests.may_tell() and (status := self._latest()):
            self._tell(status)

    def _tell(self, status: dict[str, Any]) -> None:
        changes = self._report.due(shadow_report.summary(status, {**self._remote.answer(), **self._judged}))
        if changes:
            self._report.sent(changes)
            self._requests.send(UPDATE, shadow.update("reported", changes))

    # What came

    def _take(self, event: Event | None) -> None:
        if isinstance(event, Connected):
            self._requests.came()
        elif isinstance(event, Disconnected):
            self._requests.went()
        elif isinstance(event, Subscribed):
            self._requests.subscribed(event)
        elif isinstance(event, Acked):
            self._requests.acked(event)
        elif isinstance(event, Received) and event.topic in self._answers:
            try:
                message = numbers.loads(event.payload)
                self._answers[event.topic](message, message.get("clientToken", ""))
            except (BadPayload, KeyError, TypeError, AttributeError, ValueError) as error:
                log.warning("shadow: a message on %s cannot be read (%r): %.200r", event.topic, error, event.payload)

    def _got(self, message: dict[str, Any], token: str) -> None:
        if not self._requests.answered(token):
            return  # an answer to somebody else, or to an earlier question
        state, version = message["state"] or {}, int(message["version"])
        if version < self._seen:
            self._requests.fetch_in(GAP_S)  # it was on its way when something changed
            return
        self._report.fetched(state.get("reported", {}))
        self._known(version, state.get("desired", {}), message["timestamp"], changed=version != self._version)

    def _not_got(self, message: dict[str, Any], token: str) -> None:
        if message["code"] != NOT_FOUND:
            self._requests.rejected(GET, message, token)
        elif self._requests.answered(token):  # there is none yet: reporting makes it
            self._report.fetched({})
            self._known(0, {}, message["timestamp"], changed=self._version != 0)

    def _updated(self, message: dict[str, Any], token: str) -> None:
        self._requests.answered(token)
        version, state = int(message["version"]), message["state"] or {"desired": None, "reported": None}
        self._seen = max(self._seen, version)
        if self._version is None or version <= self._version:
            return  # it is in what was fetched, or will be
        if version > self._version + 1:
            self._requests.fetch_in(GAP_S)
            return
        if "reported" in state:
            self._report.updated(state["reported"])
        desired = shadow_report.merged(self._desired, state.get("desired", {}))
        self._known(version, desired, message["timestamp"], changed="desired" in state)

    def _not_updated(self, message: dict[str, Any], token: str) -> None:
        self._requests.rejected(UPDATE, message, token)

    def _told(self, message: dict[str, Any], token: str) -> None:
        version = int(message["version"])
        self._seen = max(self._seen, version)
        if self._version is not None and version > self._version:
            self._requests.fetch_in(GAP_S)

    def _deleted(self, message: dict[str, Any], token: str) -> None:
        self._requests.fetch_in(0.0)

    def _known(self, version: int, desired: dict[str, Any], cloud_s: Any, changed: bool) -> None:
        """Every change up to this version is known; if the desired state was among them it is judged."""
        self._version, self._desired = version, desired
        self._requests.done()
        if changed:
            self._judge(float(cloud_s))

    def _judge(self, cloud_s: float) -> None:
        self._judged = {shadow.ANSWERS: self._version}
        try:
            self._remote.apply(self._desired, cloud_s)
        except BadPayload as error:
            log.warning("shadow: the desired state of version %s is refused, nothing changes: %s", self._version,
                        error.detail)
            self._judged[shadow.REFUSED] = {"version": self._version, "reason": error.detail}
