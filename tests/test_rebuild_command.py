"""`make rebuild` as a command: its range, what it leaves, how it goes on after an interruption, what it refuses."""
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from contract import alerts
from deploy import rebuild_archive
from deploy.rebuild import Progress, Range, main, moment_of
from deploy.rebuild_tables import Pace
from deploy.target import TargetFault
from tests import rebuild_rig
from tests.client_faults import Intercepted, throttled
from tests.cloud_tables import alerted, failures, fresh_container, items, persisted
from tests.messages import SITE, T0_MS, anomaly
from tests.rebuild_rig import (
    BUCKET,
    DAY_MS,
    alert_message,
    archive,
    everything,
    incident,
    original,
    readings,
    run,
    s3,
    watched,
    wipe,
)

bucket = rebuild_rig.bucket
pytestmark = pytest.mark.usefixtures("bucket")


def test_what_cannot_be_read_is_named_and_left_and_the_rest_is_applied() -> None:
    bad = archive("readings", T0_MS, readings(1), "{", readings(2), '{"v":1}', "")
    broken = archive("readings", T0_MS + 1000, readings(3))
    body = s3().get_object(Bucket=BUCKET, Key=broken)["Body"].read()
    s3().put_object(Bucket=BUCKET, Key=broken, Body=body[:-4])
    strange = "archive/readings/date=2026-11-22/notes.txt"
    s3().put_object(Bucket=BUCKET, Key=strange, Body=b"?")
    left, _, told = run()
    assert left == 4
    for told_of in (f"line 2 of s3://{BUCKET}/{bad}", f"line 4 of s3://{BUCKET}/{bad}", broken, strange):
        assert [line for line in told if told_of in line], told_of
    assert {item["number"] for item in items("readings")} >= {1, 2}


@pytest.mark.parametrize(("route", "poison"), (
    ("readings", readings(9, received_ms=10 ** 20)), ("readings", readings(9, received_ms=-10 ** 20)),
    ("readings", readings(9).replace('"sensor1":[-2,', '"sensor1":[999999999,')),
    ("readings", readings(9).replace('"sensor1":[-2,2025]', '"sensor1":["text","1E+500"]')),
    ("alerts", alert_message(anomaly(1, "2", incident={**incident(1, alerts.OPENED, 1), "opened": 10 ** 20})))))
def test_a_message_that_no_function_takes_is_left_and_does_not_end_the_run(route: str, poison: str) -> None:
    assert failures((alerted if route == "alerts" else persisted)(poison)) == ["m0"]
    bad = archive(route, T0_MS, poison)
    archive("readings", T0_MS, readings(1), readings(2))
    left, _, told = run()
    assert left == 1 and [line for line in told if f"line 1 of s3://{BUCKET}/{bad} is left" in line]
    assert {item["number"] for item in items("readings")} == {1, 2}


def test_an_interruption_after_a_strange_object_leaves_no_hour_out(tmp_path: Path) -> None:
    """Keys that say nothing are told of at the beginning of their day: its first hour is not done by that."""
    midnight_ms = T0_MS - T0_MS % DAY_MS
    s3().put_object(Bucket=BUCKET, Key="archive/readings/date=2026-11-22/notes.txt", Body=b"?")
    archive("readings", midnight_ms, readings(1))

    def fail(operation: str, request: Any) -> None:
        if operation == "batch_write_item":
            raise throttled(operation)

    Intercepted("dynamodb", fail)
    with pytest.raises(ClientError):
        run(progress=tmp_path / "progress.json")
    fresh_container()
    run(progress=tmp_path / "progress.json")
    assert [item["number"] for item in items("readings")] == [1]


def test_a_run_that_was_interrupted_goes_on_where_it_ended(tmp_path: Path) -> None:
    original()
    before = everything()
    wipe()

    def fail(operation: str, request: Any) -> None:
        if operation == "batch_write_item" and "SiteB#pi-1" in str(request):  # in the second hour
            raise throttled(operation)

    Intercepted("dynamodb", fail)
    progress = tmp_path / "progress.json"
    with pytest.raises(ClientError):
        run(progress=progress)
    fresh_container()
    wanted = Range(T0_MS - DAY_MS, T0_MS + 60 * DAY_MS, None)
    done_ms = Progress(progress, wanted).done_ms()
    assert T0_MS < done_ms < T0_MS + DAY_MS
    assert Progress(progress, wanted._replace(site=SITE)).done_ms() == 0, "another range begins at its beginning"
    left, _, told = run(progress=progress)
    assert left == 0 and told[0].startswith("rebuild: goes on from 2026-11-22T08:00Z")
    assert everything() == before


def test_only_what_arrived_in_the_range_and_of_the_site() -> None:
    for hour in range(4):
        archive("readings", T0_MS + hour * 3_600_000, readings(hour), readings(hour, site="SiteB"))
    run(T0_MS + 3_600_000, T0_MS + 3 * 3_600_000, site="SiteB")
    assert [(item["site"], item["number"]) for item in items("readings")] == [("SiteB", 1), ("SiteB", 2)]


def test_a_dry_run_writes_nothing_and_says_what_is_missing() -> None:
    original()
    wipe(share=0.5)
    before, writes = everything(), watched()
    _, dry, _ = run(dry_run=True)
    fresh_container()
    assert writes == [] and everything() == before
    _, real, _ = run()
    # An event that came twice is missing twice, as long as it is not written.
    assert dry.counts["readings missing"] >= real.counts["readings missing"] > 0
    assert dry.counts["minutes missing"] == real.counts["minutes missing"] > 0


def test_an_object_is_of_the_hours_that_its_messages_may_have_come_in() -> None:
    keys = [archive("readings", T0_MS + minutes * 60_000, "") for minutes in (-16, -15, -14, 0, 59, 60)]
    found = list(rebuild_archive.by_hour(s3(), BUCKET, T0_MS, T0_MS + 3_600_000))
    assert [one.key for _, objects, _ in found for one in objects] == keys[2:5]
    assert all(one.arrived_ms // 3_600_000 * 3_600_000 == hour_ms for hour_ms, objects, _ in found for one in objects)
    assert rebuild_archive.archived(keys[0]) == (T0_MS - 16 * 60_000, keys[0], "readings")
    for strange in (keys[0].replace("readings", "people"), keys[0] + "x", "errors/" + keys[0]):
        assert rebuild_archive.archived(strange) is None


@pytest.mark.parametrize(("text", "want_ms"), (
    ("2026-11-22", T0_MS - (7 * 60 + 24) * 60_000), ("2026-11-22T07:24Z", T0_MS), ("1795332240", T0_MS)))
def test_moments_of_the_command_line(text: str, want_ms: int) -> None:
    assert moment_of(text, "FROM") == want_ms


@pytest.mark.parametrize("text", ("yesterday", "22.11.2026", "2026-13-01", ""))
def test_a_moment_that_is_none_is_named(text: str) -> None:
    with pytest.raises(TargetFault, match="FROM is"):
        moment_of(text, "FROM")


@pytest.mark.parametrize(("arguments", "said"), (
    (("--from", "soon"), "FROM is 'soon'"), (("--from", "2026-11-22", "--to", "2026-11-21"), "FROM is not before TO"),
    (("--from", "2026-11-22", "--target", "mars"), "TARGET is 'mars'"),
    (("--from", "2026-11-22", "--target", "local", "--cloud", "/nonexistent"), "no local cloud is running")))
def test_the_command_says_what_stands_in_its_way(
        arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["rebuild", *arguments])
    assert main() == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_the_pace_is_kept() -> None:
    pace, began_s = Pace(1000), time.monotonic()
    for _ in range(10):
        pace.take(10)
    assert time.monotonic() - began_s >= 0.09
