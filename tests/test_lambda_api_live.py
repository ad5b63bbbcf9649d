"""POST /sites/{site}/live: the shadows of a site's bridges say until when somebody watches."""
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from contract import numbers, shadow, topics
from lambdas import table
from lambdas.api_live import LIVE_S
from tests.api_rig import call, refused

ROUTE = "POST /sites/{site}/live"


class Shadows:
    """Takes the place of AWS IoT's data client: the updates that it was asked for."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, str, Any]] = []

    def update_thing_shadow(self, *, thingName: str, shadowName: str, payload: str) -> None:
        self.updates.append((thingName, shadowName, numbers.loads(payload)))


@pytest.fixture
def shadows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shadows]:
    monkeypatch.setenv("THINGS", "EdgeCloudAWS,SiteB,SpareBridge")
    monkeypatch.setenv("SITES", json.dumps({"SpareBridge": "EdgeCloudAWS"}))
    made = Shadows()
    monkeypatch.setitem(table.CLIENTS, "iot-data", made)
    yield made


@pytest.mark.parametrize(("site", "things"), (("SiteB", ["SiteB"]), ("EdgeCloudAWS", ["EdgeCloudAWS", "SpareBridge"])))
def test_every_bridge_of_the_site_is_asked_and_takes_it(site: str, things: list[str], shadows: Shadows) -> None:
    before = int(time.time())
    status, answer, _ = call(ROUTE, {"site": site})
    assert (status, answer["site"]) == (200, site)
    assert before + LIVE_S <= answer["live_until"] <= time.time() + LIVE_S <= time.time() + shadow.MAX_LIVE_S
    assert [(thing, name) for thing, name, _ in shadows.updates] == [(thing, topics.SHADOW) for thing in things]
    for _, _, document in shadows.updates:
        assert document == {"state": {"desired": {"live_until": answer["live_until"]}}}
        assert shadow.check(document["state"]["desired"], ()), "the bridge's own check"


@pytest.mark.parametrize(("site", "status"), (("SpareBridge", 404), ("nowhere", 404), ("a#b", 400), ("s" * 129, 400)))
def test_what_is_no_site_of_this_deployment_is_refused(site: str, status: int, shadows: Shadows) -> None:
    assert "GET /" in refused(status, ROUTE, {"site": site})
    assert shadows.updates == []


def test_a_token_is_wanted(shadows: Shadows) -> None:
    status, problem, _ = call(ROUTE, {"site": "SiteB"}, claims={"token_use": "id"})
    assert status == 401 and shadows.updates == [] and "access token" in problem["detail"]
