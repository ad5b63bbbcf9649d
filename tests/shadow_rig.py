"""What the shadow's tests share: the bridge's shadow thread and outbox against the local cloud's shadow service."""
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract import shadow as contract
from edge_bridge import shadow_settings
from edge_bridge.connection import Acked, Connected, Disconnected, Event, Received, Send, Subscribe, Subscribed
from edge_bridge.shadow import Shadow
from edge_bridge.shadow_settings import Reach, RemoteSettings
from local_cloud.gateway.shadows import Asked, Shadows, asked
from tests.bridge_rig import ROOT, until
from tests.outbox_rig import Parts

THING = "T"
INTERVAL_S = 30.0
STATUS = json.loads((ROOT / "contract" / "examples" / "status.json").read_text())


class Site:
    """A shadow thread with its outbox, and the cloud's shadow service in place of the uplink and the connection."""

    def __init__(self, path: Path, cloud: "CloudSide", **chosen: Any) -> None:
        self.parts, self.cloud = Parts(path), cloud
        self.chosen: Any = SimpleNamespace(**{"detector": "forest", "batch_age": 10.0, "log_level": "INFO",
                                              "scored_fields": ("sensor2",), "shadow": True, "carbon_policy": "",
                                              **chosen})
        self.ahead_s, self.looks, self.status = 0.0, 0, dict(STATUS)
        self.ages_s: list[tuple[float, float]] = []
        self.made: list[str] = []
        self.levels: list[str] = []
        in_force = shadow_settings.remembered(self.parts.store, self.chosen)
        reach = Reach(lambda *ages: self.ages_s.append(ages), lambda make: self.made.append(make.__name__),
                      self.levels.append)
        self.remote = RemoteSettings(self.chosen, self.parts.store, in_force, reach, self.clock)
        self.shadow = Shadow(THING, self.remote, self.ask, lambda: self.status, INTERVAL_S, self.clock)
        self.shadow.start()

    def clock(self) -> float:
        self.looks += 1
        return time.monotonic() + self.ahead_s

    def has_looked(self) -> None:
        """Wait until the shadow's thread has taken in what came and looked at the clock several times since."""
        before = self.looks
        until(lambda: self.looks > before + 10, "the shadow's thread to look")

    def ask(self, request: Send | Subscribe) -> None:
        self.cloud.asked(request, self.shadow.post)

    def connect(self) -> "Site":
        self.cloud.connected(self.shadow.post)
        return self

    def ready(self) -> "Site":
        """Connected, and the shadow is up to date."""
        self.connect()
        until(lambda: self.shadow.status()["state"] == "on" and self.cloud.reported().get("answers") is not None,
              "the first report")
        return self

    def answered(self, version: int) -> dict[str, Any]:
        """What is reported when this version is answered."""
        until(lambda: self.cloud.reported().get("answers", -1) >= version, f"an answer to version {version}")
        return self.cloud.reported()

    def close(self) -> None:
        self.shadow.stop(10.0)
        self.parts.store.close()


class CloudSide:
    """Shadows, and the connection to them. fault: of subscriptions; publish_fault: of PUBACKs; silent: no answers;
    rejection: the code of every answer, 0 for none; held: messages that were not passed on yet, while holding."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.now_s = 1_795_000_000.0
        self.shadows = Shadows({THING: None}, self._tell, now_s=lambda: self.now_s)
        self.fault = self.publish_fault = ""
        self.silent = self.holding = False
        self.rejection = 0
        self.held: list[Event] = []
        self.sent: list[Send] = []
        self.subscribes = 0
        self._post: Callable[[Event], None] | None = None
        self._topics: tuple[str, ...] = ()

    def connected(self, post: Callable[[Event], None]) -> None:
        with self.lock:
            self._post = post
            post(Connected(False))

    def cut(self) -> None:
        with self.lock:
            post, self._post = self._post, None
            assert post
            post(Disconnected("the link is cut"))

    def asked(self, request: Send | Subscribe, post: Callable[[Event], None]) -> None:
        with self.lock:
            if isinstance(request, Subscribe):
                self.subscribes += 1
                self._topics = () if self.fault else request.topics
                post(Subscribed(self.fault, request.topics))
                return
            self.sent.append(request)
            post(Acked(request.token, self.publish_fault))
            wanted = asked(request.topic)
            assert wanted is not None
            if self.rejection:
                self._tell(request.topic + "/rejected", json.dumps({
                    "code": self.rejection, "message": "not now", "clientToken": request.token}).encode())
            elif not self.silent and not self.publish_fault:
                self.shadows.answer(wanted, request.payload)

    def _tell(self, topic: str, payload: bytes) -> None:
        if topic in self._topics and self._post:
            if self.holding:
                self.held.append(Received(topic, payload))
            else:
                self._post(Received(topic, payload))

    def release(self, events: list[Event]) -> None:
        """Pass on what was held, in this order; what comes from now on, too."""
        with self.lock:
            self.holding = False
            assert self._post
            for event in events:
                self._post(event)

    def desire(self, desired: Any) -> int:
        """Somebody in the cloud wants this; the version that it makes."""
        with self.lock:
            request = json.dumps(contract.update("desired", desired) if isinstance(desired, dict) else
                                 {"state": {"desired": None}}).encode()
            return int(self.shadows.do(Asked(THING, "bridge", "update"), request)["version"])

    def state(self) -> dict[str, Any]:
        with self.lock:
            return dict((self.shadows.document(THING, "bridge") or {"state": {}})["state"])

    def reported(self) -> dict[str, Any]:
        return dict(self.state().get("reported", {}))

    def updates(self) -> list[dict[str, Any]]:
        """What was reported, update by update."""
        with self.lock:
            return [json.loads(one.payload)["state"]["reported"] for one in self.sent if one.topic.endswith("update")]


@pytest.fixture
def cloud() -> CloudSide:
    return CloudSide()


@pytest.fixture
def site(tmp_path: Path, cloud: CloudSide) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(**chosen: Any) -> Site:
        sites.append(Site(tmp_path / "outbox.db", cloud, **chosen))
        return sites[-1]
    yield make
    for one in sites:
        one.close()
