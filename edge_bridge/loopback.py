"""A connection to nowhere: keeps what uplink.py publishes, answers as told; for tests, in place of the cloud."""
import threading
from collections.abc import Callable

from contract import numbers, routes, topics
from edge_bridge.connection import ASIDE, Acked, Connected, Disconnected, Event, Received, Subscribed


class LoopbackConnection:
    """published: (topic, payload, token) in order; retained: topics of those that were to be kept. ack, receipt: answer
    at once, or leave it to the test."""

    def __init__(self, thing: str, ack: bool = True, receipt: bool = True) -> None:
        self.thing, self.ack, self.receipt = thing, ack, receipt
        self.published: list[tuple[str, bytes, str]] = []
        self.retained: list[str] = []
        self.stopped = False
        self.identities: list[object] = []
        self.subscription_fault = ""
        self._lock = threading.Lock()
        self._unanswered: list[str] = []
        self._post: Callable[[Event], None] = lambda event: None

    def start(self, post: Callable[[Event], None]) -> None:
        """See connection.Connection."""
        self._post = post

    def stop(self) -> None:
        """See connection.Connection."""
        self.stopped = True

    def anew(self, identity: object | None) -> None:
        """See connection.Connection. The test says when the cloud accepts."""
        self.identities.append(identity)
        self.disconnect()

    def subscribe(self, *wanted: str) -> None:
        """See connection.Connection."""
        self._post(Subscribed(self.subscription_fault, wanted))

    def publish(self, topic: str, payload: bytes, token: str, retain: bool = False) -> None:
        """See connection.Connection."""
        with self._lock:
            self.published.append((topic, payload, token))
            self.retained += [topic] if retain else []
            self._unanswered.append(token)
        if self.ack:
            self.answer(token)
        if self.receipt and topic != topics.status(self.thing) and not token.startswith(ASIDE):
            self.send_receipt(token)

    def connect(self, resumed: bool = False) -> None:
        """The cloud accepts."""
        self._post(Connected(resumed))

    def answer(self, token: str, fault: str = "") -> None:
        """The PUBACK of one publish comes."""
        with self._lock:
            self._unanswered.remove(token)
        self._post(Acked(token, fault))

    def send_receipt(self, *names: str) -> None:
        """The cloud has stored these."""
        self._post(Received(topics.receipts(self.thing), numbers.dumps(routes.receipt(names)).encode()))

    def disconnect(self) -> None:
        """The link breaks: what was not answered fails, as awscrt does it."""
        with self._lock:
            failed, self._unanswered = self._unanswered, []
        for token in failed:
            self._post(Acked(token, "the client went offline"))
        self._post(Disconnected("the link is cut"))

    def tokens(self) -> list[str]:
        """Ids of the batches and alerts published so far, repeats included."""
        with self._lock:
            return [token for topic, _, token in self.published if topic != topics.status(self.thing)]
