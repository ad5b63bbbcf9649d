"""Fewer frames: what the bridge's port says reaches a camera's watch, and a bridge that is away blinds nobody."""
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from device import camera
from device.eyes.carbon import MOST_AGE_S, Told
from device.eyes.watch import Watch
from edge_bridge.health import HealthServer, Newest
from edge_bridge.metrics import Metrics
from tests.bridge_rig import until
from tests.camera_rig import Reader, Reel
from tests.carbon_rig import Server
from tests.carbon_rig import server as server


@pytest.fixture
def bridge() -> Iterator[tuple[Newest, str]]:
    """The bridge's own HTTP port, with the status that is put there."""
    newest = Newest([])
    port = HealthServer("127.0.0.1", 0, Metrics(newest.status), newest)
    port.start()
    yield newest, f"http://127.0.0.1:{port.server_address[1]}"
    port.stop()


def test_a_camera_hears_what_the_bridge_says(bridge: tuple[Newest, str]) -> None:
    newest, url = bridge
    newest.put({"carbon": {"state": "high", "terms": {"frames": 0.25}}})
    told = Told(url + "/", ask_s=0.02)
    until(lambda: told.share() == 0.25, "the share")
    newest.put({"carbon": {"state": "normal", "terms": {"frames": 1.0}}})
    until(lambda: told.share() == 1.0, "all frames again")
    told.stop()


@pytest.mark.parametrize("answer", [
    Server.json({}, 500), Server.json(b"{"), Server.json([]), Server.json({"frames": 0}), Server.json({"frames": True}),
    Server.json({"frames": "half"}), Server.json({"frames": 2}), Server.json(b"x" * 10_000),
    lambda handler: handler.wfile.write(b"nonsense\r\n\r\n")])
def test_an_answer_that_says_nothing_means_every_frame(server: Server, answer: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    server.answer = server.json({"frames": 0.5})
    told = Told(server.url, ask_s=0.01)
    until(lambda: told.share() == 0.5, "the share")
    server.answer = answer
    until(lambda: told.share() == 1.0, "every frame")
    asked = len(server.asked)
    until(lambda: len(server.asked) > asked + 2, "more questions")
    assert len([r for r in caplog.records if "how many frames" in r.message]) == 1, "said once"
    server.answer = server.json({"frames": 0.5})
    until(lambda: told.share() == 0.5, "the share again")
    told.stop()


def test_what_was_said_long_ago_does_not_count(server: Server) -> None:
    clock = [0.0]
    server.answer = server.json({"frames": 0.5})
    told = Told(server.url, ask_s=600, clock=lambda: clock[0])
    until(lambda: told.share() == 0.5, "the share")
    clock[0] = MOST_AGE_S + 1
    assert told.share() == 1.0
    told.stop()


@pytest.mark.parametrize(("share", "looked_at"), [(1.0, 40), (0.5, 20), (0.25, 10), (0.1, 4)])
def test_a_live_source_looks_at_its_share(share: float, looked_at: int) -> None:
    watch = Watch(Reel(*[2] * 40), Reader(), None, 1e6, None, lambda: share)
    counts = [count for count in watch.counts(threading.Event()) if count is not None]
    assert abs(watch.frames - looked_at) <= 1 and watch.frames + watch.passed == 40
    assert set(counts) == {2}, "what is seen stays what it is"
    assert (f"{watch.passed} passed over" in watch.summary()) == (share < 1)


def test_files_are_looked_at_as_ever() -> None:
    reel = Reel(*[2] * 10)
    reel.live = False
    watch = Watch(reel, Reader(), None, 1e6, None, lambda: 0.1)
    assert len([count for count in watch.counts(threading.Event()) if count is not None]) == 10 and watch.passed == 0


def test_the_address_is_checked(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        camera.main(["--bridge", "bridge:9464"])
    assert "--bridge is 'bridge:9464': expected http://host:9464" in capsys.readouterr().err
