"""`make rebuild`: the archive's messages, applied to empty or damaged tables, make the items that the functions made;
over what is there already they change nothing."""
import random
import time
import zlib
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from lambdas import table, table_rollups
from tests import api_rig, rebuild_rig
from tests.cloud_tables import aggregated, dump, failures, fresh_container, items, persisted
from tests.messages import SITE, anomaly, by_rule, row, sealed
from tests.rebuild_rig import (
    DAY_MS,
    TABLES,
    alert_message,
    archive,
    everything,
    happen,
    hourly,
    original,
    run,
    watched,
    wipe,
)

bucket = rebuild_rig.bucket
pytestmark = pytest.mark.usefixtures("bucket")


def test_emptied_tables_become_what_they_were_and_a_second_run_writes_nothing() -> None:
    original()
    before = everything()
    assert all(before[name] for name in TABLES) and len(before["rollups"]) > 15
    wipe()
    assert not any(dump(name) for name in TABLES)
    left, rebuilder, _ = run()
    assert left == 0 and everything() == before
    assert rebuilder.counts["readings missing"] == 8 and rebuilder.counts["incidents missing"] == 1
    writes = watched()
    left, rebuilder, _ = run()
    assert (left, writes) == (0, [])
    assert {what for what in rebuilder.counts if what.endswith(("missing", "different"))} == set()


def test_over_live_data_nothing_is_written_and_the_functions_find_nothing_to_do() -> None:
    happen()
    before, writes = everything(), watched()
    left, _, _ = run()
    assert (left, writes) == (0, [])
    fresh_container()
    assert failures(aggregated()) == []
    hourly()
    assert everything() == before


def test_rows_that_another_zlib_packed_are_the_same() -> None:
    original()
    for item in items("readings"):
        if item["kind"] == "readings":
            text = zlib.decompress(bytes(item["series"]))
            packed = zlib.compress(text, 1) if item["n"] > 1 else text.decode()
            table.put_all("READINGS_TABLE", [{**item, "series": packed}])
    before, writes = everything(), watched()
    run()
    assert writes == [] and everything() == before


def test_what_was_posted_to_the_api_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTS_ARCHIVE", "events-archive")
    table.CLIENTS["firehose"] = posted = api_rig.Archive()
    now_ms = int(time.time() * 1000)
    for persons in (2, 3):
        assert api_rig.post({"device_id": "door", "persons_detected": persons, "zone": "gate"})[0] == 201
    assert failures(aggregated()) == []
    hourly()
    before = everything()
    assert len(before["readings"]) == 2 and len(before["rollups"]) >= 4
    archive("events", now_ms, *(line.decode().rstrip() for line in posted.lines))
    wipe()
    left, _, _ = run(now_ms - DAY_MS, now_ms + DAY_MS)
    assert left == 0 and everything() == before


@pytest.mark.parametrize("seed", range(2))
def test_what_was_lost_or_changed_is_made_again(seed: int) -> None:
    original()
    before = everything()
    wipe(share=0.4, seed=seed)
    chosen = random.Random(seed)
    for name, attribute, value in (("readings", "series", {"B": b"x\x9c!"}), ("readings", "received", {"S": "x"}),
                                   ("alerts", "value", {"N": "99"}), ("readings", "values", {"M": {}}),
                                   ("rollups", "fields", {"M": {}})):
        there = [item for item in dump(name) if attribute in item]
        if there:
            damaged = {**chosen.choice(there), attribute: value}
            table.client("dynamodb").put_item(TableName=name, Item=damaged)
    [first, *_] = [item for item in dump("rollups") if item["sk"]["S"].startswith("m#")] or [None]
    if first:
        key = {"pk": first["pk"], "sk": first["sk"]}
        entry = next(name for name, value in first.items() if "M" in value)
        table.client("dynamodb").update_item(TableName="rollups", Key=key, UpdateExpression="REMOVE #e",
                                             ExpressionAttributeNames={"#e": entry})
    left, _, _ = run()
    assert left == 0 and everything() == before


def test_nobody_is_told_again_and_an_incident_that_is_there_stays_as_it_is() -> None:
    original()
    [kept] = [item for item in items("incidents") if "incident" in item]
    wipe()
    refused: list[str] = []
    table.CLIENTS["sns"] = SimpleNamespace(publish=lambda **notice: refused.append(notice["Subject"]))
    run()
    assert refused == []
    untold = {**kept, "count": Decimal(1), "rank": kept["rank"] + 100}
    untold.pop("notice")
    table.client("dynamodb").put_item(TableName="incidents", Item=table.to_attributes(untold))
    run()
    assert [item for item in items("incidents") if "incident" in item] == [untold]


def made_at(moment_ms: int, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Every item of every table, after the functions took this message at this moment."""
    with monkeypatch.context() as clock:
        clock.setattr(table, "now_ms", lambda: moment_ms)
        assert failures(persisted(text)) == [] == failures(aggregated())
        hourly()
        return everything()


def test_expired_readings_are_left_out_and_roll_ups_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for days, setting in ((30, table.READINGS), (90, table.MINUTES), (1830, table.ROLLUPS)):
        monkeypatch.setenv(setting, str(days))
    now_ms = int(time.time() * 1000)
    then_ms = now_ms - now_ms % 60_000 - 40 * DAY_MS
    rows = [row(0, {"sensor2": 1}, timestamp=Decimal(then_ms + ms) / 1000, at_ms=then_ms + ms, received_ms=then_ms + ms)
            for ms in (0, 1000)]
    text = by_rule(sealed("readings", {"pi-1": rows}))
    before = made_at(then_ms, text, monkeypatch)
    archive("readings", then_ms, text)
    archive("alerts", then_ms, alert_message(anomaly(1, "2", received_ms=then_ms)))
    wipe()
    left, rebuilder, _ = run(then_ms - DAY_MS, now_ms)
    assert left == 0 and dump("readings") == dump("alerts") == []
    assert rebuilder.counts["readings expired"] == rebuilder.counts["alerts expired"] == 1
    assert dump("rollups") == before["rollups"] and len(dump("rollups")) == 4


def test_what_came_late_keeps_the_expiry_that_it_got_when_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(table.READINGS, "30")
    monkeypatch.setenv(table.MINUTES, "30")
    now_ms = int(time.time() * 1000)
    arrived_ms, received_ms = now_ms - 10 * DAY_MS, now_ms - 60 * DAY_MS
    late = row(0, {"sensor2": 1}, timestamp=Decimal(received_ms) / 1000, at_ms=received_ms, received_ms=received_ms)
    text = by_rule(sealed("readings", {"pi-1": [late]}))
    before = made_at(arrived_ms, text, monkeypatch)
    archive("readings", arrived_ms, text)
    wipe()
    run(now_ms - 20 * DAY_MS, now_ms)
    assert everything() == before and len(before["readings"]) == 1


def test_a_minute_of_a_batch_and_an_event_of_two_hours_are_in_the_story_that_is_compared() -> None:
    """The story would prove little if its late, moved and repeated data made no difference."""
    original()
    late = [item for item in items("rollups") if item["sk"] == "m#2026-11-22T07:24Z" and item["pk"] == f"{SITE}#pi-1"]
    assert len([name for name in late[0] if len(name) == 24]) == 2
    camera = [item["sk"] for item in items("rollups") if item["pk"] == f"{SITE}#camera-01"
              and item["sk"].startswith("m#") and table_rollups.totals_of(item)]
    assert camera == ["m#2026-11-22T07:24Z", "m#2026-11-22T08:24Z"]
    assert [item["state"] for item in items("incidents") if "incident" in item] == ["closed"]
