"""What can happen on the cloud connection: posted by iot_connection.py (or loopback.py), handled by uplink.py, which
passes on what is not about batches to shadow.py."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_bridge.certificates import Identity


@dataclass(frozen=True)
class Connected:
    """The cloud accepted the connection. resumed: with the session of before, so receipts were kept."""

    resumed: bool


@dataclass(frozen=True)
class Disconnected:
    """The connection broke, or could not be made. refused: the cloud does not want us (certificate, policy);
    taken_over: another client came with our client id."""

    reason: str
    refused: bool = False
    taken_over: bool = False


@dataclass(frozen=True)
class Subscribed:
    """Answer to `subscribe`. fault: empty when all of these topics are granted."""

    fault: str
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Acked:
    """Answer to `publish`. fault: empty for PUBACK reason code 0."""

    token: str
    fault: str


@dataclass(frozen=True)
class Received:
    """A message came on a subscribed topic."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Anew:
    """Connect anew: with another identity when one is given, else with the same one."""

    identity: Identity | None


@dataclass(frozen=True)
class Subscribe:
    """For the uplink: subscribe to these, too; a Subscribed comes back."""

    topics: tuple[str, ...]


@dataclass(frozen=True)
class Send:
    """For the uplink: publish this beside the batches; an Acked comes back. The token begins with ASIDE, but for the
    status; publishes: as how many it counts under the limits; retain: who subscribes later gets it, too."""

    topic: str
    payload: bytes
    token: str
    publishes: int = 1
    retain: bool = False


Event = Connected | Disconnected | Subscribed | Acked | Received | Anew | Subscribe | Send
ASIDE = "aside "


class Connection(Protocol):
    """What the uplink needs of a connection."""

    def start(self, post: Callable[[Event], None]) -> None:
        """Begin to connect, again and again until `stop`; events are posted from any thread."""

    def publish(self, topic: str, payload: bytes, token: str, retain: bool = False) -> None:
        """Publish with QoS 1; an Acked with this token always follows. retain: who subscribes later gets it, too."""

    def subscribe(self, *topics: str) -> None:
        """Subscribe with QoS 1 to at most eight; a Subscribed follows."""

    def anew(self, identity: Identity | None) -> None:
        """Give up this connection and make another one, with another identity if given; a Disconnected follows, and
        an Acked for each publish that was not answered."""

    def stop(self) -> None:
        """Disconnect for good."""
