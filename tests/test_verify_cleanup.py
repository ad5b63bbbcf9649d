"""What `make verify` leaves behind: nothing of its own, in no table, and of the bridge's what was there before."""
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from deploy.verify_cleanup import Cleanup
from deploy.verify_hops import Hops
from deploy.verify_messages import Run
from infra.settings import product_version, read
from lambdas import watch
from tests.cloud_tables import REGION, aggregated, alerted, cloud, dump, failures, notices, persisted
from tests.incidents_rig import World
from tests.messages import SITE, by_rule

TABLES = ("readings", "rollups", "alerts", "incidents")


class Place:
    """The tables in moto, as a target; an archive without objects."""

    def __init__(self) -> None:
        self._tables = boto3.resource("dynamodb", region_name=REGION)

    def table(self, which: str) -> Any:
        return self._tables.Table(which)

    def parameter(self, what: str) -> str:
        return what

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with cloud(monkeypatch):
        monkeypatch.setenv("THINGS", SITE)
        yield World(monkeypatch)


def everything() -> list[Any]:
    return [dump(name) for name in TABLES]


@pytest.mark.parametrize("a_bridge_was_there", (True, False))
def test_the_tables_are_as_before(world: World, a_bridge_was_there: bool) -> None:
    place: Any = Place()
    run = Run(read({}, product_version()), SITE)
    hops = Hops(place, run, [])
    said: list[str] = []
    cleanup = Cleanup(place, run, hops, said.append)
    boto3.client("s3", region_name=REGION).create_bucket(
        Bucket="archive-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    if a_bridge_was_there:
        world.tells(dropped=2)
        world.run()
    before = everything()
    cleanup.remember()

    for message in run.messages():
        taken = {"readings": persisted, "events": persisted, "alerts": alerted}.get(message.route)
        assert taken is None or failures(taken(by_rule(message.payload))) == []
    assert failures(aggregated()) == []
    world.tells(at=run.now_ms, dropped=0)
    world.run()
    assert len(notices()) == 1 and [len(dump(name)) > 0 for name in TABLES] == [True] * 4

    cleanup.clean()
    assert said == ["cleaned up"] and everything() == before
    if a_bridge_was_there:
        world.tells(dropped=2)
        assert watch.handler({}, None)["ledger_mismatch"] == 0  # its old counts are no news
