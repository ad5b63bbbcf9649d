"""make shadow: settings by their names, the bridge's answer, what it shows; over the data API of the local cloud."""
import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contract import shadow as contract
from contract import topics
from deploy import shadow
from deploy.shadow import Remote, parsed
from deploy.target import Target, TargetFault
from local_cloud import shadow_api
from local_cloud.gateway.shadows import Asked, Shadows
from local_cloud.http_wire import Request, Response, Server
from tests import cloud_rig
from tests.bridge_rig import ROOT

THING = "EdgeCloudAWS"
STATUS = json.loads((ROOT / "contract" / "examples" / "status.json").read_text())


class Place:
    """Shadows behind the data API, a target that leads there, and a bridge that answers as it is told."""

    def __init__(self) -> None:
        self.shadows = Shadows({THING: None}, self._tell)
        self.refusal: str | None = None
        self.answers = True
        self.lines: list[str] = []
        self.target: Any = None

    async def handle(self, request: Request) -> Response:
        return shadow_api.handle(self.shadows, request) or Response(501, b"")

    def _tell(self, topic: str, payload: bytes) -> None:
        message = json.loads(payload)
        if topic == topics.shadow(THING, "update", "accepted") and "desired" in message["state"] and self.answers:
            refused = self.refusal and {"version": message["version"], "reason": self.refusal}
            self.report({**(message["state"]["desired"] or {}), "answers": message["version"], "refused": refused})

    def report(self, reported: dict[str, Any]) -> None:
        self.shadows.do(Asked(THING, topics.SHADOW, "update"),
                        json.dumps(contract.update("reported", reported)).encode())

    @property
    def remote(self) -> Remote:
        return Remote(self.target, THING, self.lines.append)


@pytest.fixture
def place() -> Iterator[Place]:
    one = Place()
    loop, server = asyncio.new_event_loop(), Server(one.handle)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(10)
    one.target = Target(cloud_rig.settings(), {"endpoints": {"aws": f"http://127.0.0.1:{server.port}"}})
    yield one
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_settings_are_given_by_name() -> None:
    assert parsed("batch_age_s=2 log_level=DEBUG detector=context live=10m", 1000.9) == {
        "batch_age_s": 2, "log_level": "DEBUG", "detector": "context", "live_until": 1600}
    assert parsed("batch_age_s= live=", 0) == {"batch_age_s": None, "live_until": None}
    assert parsed("live=90s", 0)["live_until"] == 90 and parsed("live=2h", 0)["live_until"] == 7200


@pytest.mark.parametrize(("text", "said"), [
    ("batch_age_s", "expected name=value"), ("batch_age_s=0", "from 1 to 300"), ("color=red", "color is unknown"),
    ("color=", "color is unknown"), ("log_level=LOUD", "one of DEBUG"), ("live=soon", "such as live=10m"),
    ("batch_age_s=two", "batch_age_s is 'two'")])
def test_what_cannot_be_asked_for_is_said_before_it_is_sent(text: str, said: str) -> None:
    with pytest.raises(TargetFault, match=said):
        parsed(text, 0)


def test_the_bridges_answer_is_waited_for(place: Place) -> None:
    remote = place.remote
    assert remote.document() == {}
    remote.show()
    assert "has no shadow bridge" in place.lines.pop()
    assert remote.answered(remote.desire({"batch_age_s": 2}), 10) and place.lines == ["applied"]
    place.refusal = "detector is 'x'; expected one of …"
    assert not remote.answered(remote.desire({"detector": "x"}), 10)
    assert place.lines[-1] == "refused, nothing changed: detector is 'x'; expected one of …"
    place.answers = False
    assert not remote.answered(remote.desire(None), 0.0) and "no answer from the bridge" in place.lines[-1]
    assert "desired" not in remote.document()["state"]


def test_it_shows_what_is_asked_for_what_holds_and_how_it_goes(place: Place) -> None:
    from edge_bridge.shadow_report import summary
    place.report(summary(STATUS, {"detector": "forest", "batch_age_s": 10, "log_level": "INFO", "answers": 0}))
    place.remote.desire({"live_until": 1_795_332_300})
    place.remote.show()
    told = "\n".join(place.lines)
    assert "asked for:  live_until=2026-11-22T07:25:00Z" in told and "batch_age_s=10, live_until=2026" in told
    assert "0.1.0, cloud up, mqtt up, kafka down; alarms: no_receipt" in told
    assert "committed=1000" in told and "waiting=19" in told and "2026-11-22T07:24:00Z" in told


def test_the_command_speaks_to_a_running_local_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    cloud = cloud_rig.cloud()
    words = ["--target", "local", "--cloud", str(cloud.ready_file)]
    assert shadow.main([*words, "--set", "batch_age_s=2", "--wait", "0"]) == 1, "no bridge runs there"
    assert "no answer from the bridge" in capsys.readouterr().out
    assert shadow.main(words) == 0
    assert "asked for:  batch_age_s=2" in capsys.readouterr().out
    data = cloud.target.client("iot-data")
    assert data.list_named_shadows_for_thing(thingName=THING)["results"] == ["bridge"]
    data.delete_thing_shadow(thingName=THING, shadowName="bridge")
