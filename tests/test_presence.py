"""Presence: lifecycle events in any order, statuses that stop; of silence one notice tells, of a return one."""
import itertools
import json
from decimal import Decimal
from typing import Any

import pytest

from contract import numbers
from lambdas import alert_words, status, status_presence, table, watch, watch_sites
from tests.client_faults import Killed, fail_once
from tests.cloud_tables import alerted, dump, failures, fresh_container, items, notices
from tests.incidents_rig import LATER, MINUTE_MS, OPENED, World, body
from tests.messages import EXAMPLES, SITE, T0_MS, sqs


@pytest.fixture(autouse=True)
def deployment(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two things of this deployment."""
    monkeypatch.setenv("THINGS", f"{SITE},SiteB")
    monkeypatch.setenv("DEPLOYMENT", "edgecloud")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def event(kind: str, at_ms: int, version: int, site: str = SITE, **other: Any) -> str:
    """A lifecycle event as the rule hands it on."""
    further = {"clientInitiatedDisconnect": False, "disconnectReason": "CONNECTION_LOST"} if kind[0] == "d" else {
        "ipAddress": "10.0.0.1"}
    return json.dumps({"clientId": site, "timestamp": at_ms, "eventType": kind, "sessionIdentifier": "s", **further,
                       "principalIdentifier": "p", "versionNumber": version, "site": site, **other})


def happened(*bodies: str) -> None:
    assert failures(status.handler(sqs(*bodies), None)) == []


def present() -> tuple[bool, int]:
    found, = (item for item in items("rollups") if item["pk"] == "presence")
    return found["connected"], int(found["at"])


# --- lifecycle events

@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_and_repeats_end_alike(order: tuple[int, ...]) -> None:
    events = [event("connected", T0_MS, 0), event("disconnected", T0_MS + 5000, 0),
              event("connected", T0_MS + 4000, 1),  # the clocks of AWS's servers differ: earlier, by its own word
              event("disconnected", T0_MS + 9000, 1)]
    happened(*(events[i] for i in order), *(events[i] for i in order))
    assert present() == (False, T0_MS + 9000)
    happened(events[2], event("connected", T0_MS + 8000, 2))
    assert present() == (True, T0_MS + 8000)


def test_after_an_hour_away_versions_begin_anew() -> None:
    happened(event("connected", T0_MS, 7), event("disconnected", T0_MS + 1000, 7))
    happened(event("connected", T0_MS + 61 * MINUTE_MS, 0))
    assert present() == (True, T0_MS + 61 * MINUTE_MS)
    happened(event("disconnected", T0_MS + 1000, 7))  # once more, an hour late
    assert present() == (True, T0_MS + 61 * MINUTE_MS)


@pytest.mark.parametrize("broken", (
    event("connected", T0_MS, 0, site=""), event("connect_failed", T0_MS, 0), event("connected", T0_MS, 0,
    versionNumber="x"), '{"eventType": "connected", "site": "SiteB"}'))
def test_a_broken_event_fails_alone(broken: str) -> None:
    assert failures(status.handler(sqs(broken, event("connected", T0_MS, 0)), None)) == ["m0"]
    assert present() == (True, T0_MS)


def test_a_status_is_no_lifecycle_event() -> None:
    assert not status_presence.is_lifecycle(numbers.loads((EXAMPLES / "status.json").read_bytes()))


# --- silence

def test_a_bridge_that_went_is_told_of_once_and_once_that_it_is_back(world: World) -> None:
    world.tells()
    happened(event("connected", world.ms - 1000, 0))
    assert world.run()["bridges_silent"] == 0 and notices() == []
    happened(event("disconnected", world.ms + 20_000, 0))
    assert world.run(minutes=10 - 0.01)["bridges_silent"] == 0 and notices() == []
    assert world.run(minutes=0.02)["bridges_silent"] == 1
    (subject, text), = notices()
    assert subject == f"[critical] the bridge of {SITE} is silent"
    assert "silent since 2026-11-22 07:24:01 UTC: its connection broke" in text and "make doctor" in text
    for _ in range(3):
        assert world.run(minutes=5)["bridges_silent"] == 1 and notices() == []
    happened(event("connected", world.ms, 1))
    world.tells()
    assert world.run(minutes=1)["bridges_silent"] == 0
    (subject, text), = notices()
    assert subject == f"[info] the bridge of {SITE} is back" and "silent since 2026-11-22 07:24:01 UTC" in text
    assert world.run(minutes=1)["bridges_silent"] == 0 and notices() == []


def test_back_within_the_delay_is_no_alarm(world: World) -> None:
    world.tells()
    happened(event("disconnected", world.ms, 0))
    world.run(minutes=8)
    happened(event("connected", world.ms, 1))
    world.tells()
    world.run(minutes=5)
    world.tells()
    assert world.run(minutes=5)["bridges_silent"] == 0 and notices() == []


def test_connected_but_without_a_status_is_silent_too(world: World) -> None:
    world.tells()
    happened(event("connected", world.ms, 0))
    assert world.run(minutes=11)["bridges_silent"] == 1
    (_, text), = notices()
    assert "it hangs, or its statuses do not get through" in text


def test_a_status_after_the_goodbye_is_the_later_sign(world: World) -> None:
    happened(event("disconnected", world.ms, 3))
    world.ms += 3 * MINUTE_MS
    world.tells()
    assert world.run(minutes=9)["bridges_silent"] == 0


def test_a_status_just_after_the_goodbye_was_still_on_its_way(world: World) -> None:
    world.tells()
    happened(event("disconnected", world.ms, 3))
    world.ms += MINUTE_MS
    world.tells()
    assert world.run(minutes=9.5)["bridges_silent"] == 1


def test_who_never_told_a_status_or_is_no_thing_of_ours_is_not_watched(world: World) -> None:
    world.tells(site="Retired")
    happened(event("disconnected", world.ms, 0, site="SiteB"))
    assert world.run(minutes=60)["bridges_silent"] == 0 and notices() == []


def test_each_site_by_itself_and_the_delay_is_a_setting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILENT_MINUTES", "2")
    world.tells()
    world.tells(site="SiteB")
    world.ms += 90_000
    world.tells(site="SiteB")
    assert world.run(minutes=1)["bridges_silent"] == 1
    assert [subject for subject, _ in notices()] == [f"[critical] the bridge of {SITE} is silent"]


@pytest.mark.parametrize(("reason", "words"), (*watch_sites.WHY.items(), ("NEW_REASON", "it disconnected")))
def test_the_cause_in_words(world: World, reason: str, words: str) -> None:
    world.tells()
    happened(event("disconnected", world.ms, 0, disconnectReason=reason))
    world.run(minutes=11)
    assert words in notices()[0][1]


def test_silence_breaks_through_quiet_hours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIET_HOURS", "00:00-23:59")
    world.tells()
    world.run(minutes=11)
    assert len(notices()) == 1


def test_a_crash_between_notice_and_mark_tells_again_and_a_refusal_fails_the_run(world: World) -> None:
    world.tells()
    fail_once("dynamodb", "batch_write_item", Killed())
    with pytest.raises(Killed):
        world.run(minutes=11)
    fresh_container()
    fail_once("sns", "publish", RuntimeError("AuthorizationError"))
    with pytest.raises(watch.Incomplete, match="a site was not watched: AuthorizationError"):
        world.run(minutes=5)
    assert len(notices()) == 1
    world.run(minutes=5)
    world.run(minutes=5)
    assert len(notices()) == 1


# --- the other work of watch

def test_it_closes_silent_incidents_by_the_clock_of_their_site(world: World) -> None:
    alerted(body(OPENED), body(LATER, site="SiteB"))
    world.tells(behind_ms=10 * MINUTE_MS)
    world.tells(site="SiteB")
    assert world.run(minutes=16)["incidents_open"] == 1  # by its own clock, only 6 minutes have gone since
    assert {item["site"]: item["state"] for item in items("incidents")} == {SITE: "open", "SiteB": "closed"}
    assert world.run(minutes=10)["incidents_open"] == 0


def test_a_further_bridge_has_the_clock_of_its_site(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITES", json.dumps({"SiteB": SITE}))
    world.tells(behind_ms=MINUTE_MS)
    world.tells(site="SiteB", behind_ms=5 * MINUTE_MS)
    assert watch_sites.clocks(watch_sites.sites(world.ms)) == {SITE: 5 * MINUTE_MS}


def test_one_step_that_fails_does_not_keep_the_others_from_being_done(world: World) -> None:
    alerted(body(OPENED))
    world.tells()
    notices()
    fail_once("dynamodb", "update_item", RuntimeError("throttled"))
    with pytest.raises(watch.Incomplete, match="1 steps failed: an incident was not closed: throttled"):
        world.run(minutes=20)
    assert [subject for subject, _ in notices()] == [f"[critical] the bridge of {SITE} is silent"]
    assert world.run()["incidents_open"] == 0


def test_idle_runs_write_nothing(world: World) -> None:
    world.tells()
    world.run()
    before = dump("rollups")
    for _ in range(3):
        world.run(minutes=1)
    assert dump("rollups") == before


def test_what_it_remembers_of_a_site_does_not_expire_while_the_site_is_there(world: World) -> None:
    world.tells()
    world.run()
    [before] = [item for item in items("rollups") if item["pk"] == "watch"]
    world.ms += 31 * 24 * 60 * MINUTE_MS
    world.tells()
    world.run()
    [after] = [item for item in items("rollups") if item["pk"] == "watch"]
    assert after == {**before, "expires_at": before["expires_at"] + 31 * table.DAY_S + 1}


# --- the ledger, and the figures

def test_a_loss_is_a_mismatch_for_a_day(world: World) -> None:
    world.tells(dropped=2)
    assert world.run()["ledger_mismatch"] == 0  # from before anyone looked
    world.tells(dropped=5)
    assert world.run()["ledger_mismatch"] == 1
    world.ms += 23 * 60 * MINUTE_MS
    world.tells(dropped=5)
    assert world.run()["ledger_mismatch"] == 1
    world.ms += 61 * MINUTE_MS
    world.tells(dropped=5)
    assert world.run()["ledger_mismatch"] == 0


def test_a_new_outbox_that_counts_from_0_is_no_loss(world: World) -> None:
    world.tells(dropped=5)
    world.run()
    world.tells(dropped=0)
    assert world.run()["ledger_mismatch"] == 0
    world.tells(dropped=1)
    assert world.run()["ledger_mismatch"] == 1


def test_readings_that_are_nowhere_are_found() -> None:
    told = numbers.loads((EXAMPLES / "status.json").read_bytes())
    assert watch_sites.unaccounted(told) == 0
    told["waiting"]["live"] -= 3
    assert watch_sites.unaccounted(told) == 3
    assert watch_sites.unaccounted({**told, "devices_left_out": 4}) == 0 and watch_sites.unaccounted({}) == 0


@pytest.mark.parametrize(("monitoring", "names"), (
    ("basic", {"bridges_silent"}),
    ("full", {"bridges_silent", "ledger_mismatch", "incidents_open", "certificate_days_left"})))
def test_the_figures_are_one_line_in_the_embedded_format(
        world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], monitoring: str,
        names: set[str]) -> None:
    monkeypatch.setenv("MONITORING", monitoring)
    world.tells(certificate_days=Decimal("12.5"))
    world.tells(site="SiteB")
    assert world.run()["certificate_days_left"] == 12.5
    line, = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert {key for key in told if key not in ("_aws", "deployment")} == names and told["deployment"] == "edgecloud"
    assert told["_aws"]["Timestamp"] == world.ms
    metrics, = told["_aws"]["CloudWatchMetrics"]
    assert (metrics["Namespace"], metrics["Dimensions"]) == ("EdgeCloud", [["deployment"]])
    assert {metric["Name"] for metric in metrics["Metrics"]} == names


def test_without_a_site_there_is_no_certificate_to_count(world: World) -> None:
    assert world.run() == {"bridges_silent": 0, "ledger_mismatch": 0, "incidents_open": 0}


def test_words_of_a_return() -> None:
    notice = alert_words.of_return(SITE, T0_MS, T0_MS + 90_000)
    assert "it told its status 2026-11-22 07:25:30 UTC" in notice.body and notice.attributes["kind"] == "back"
    assert table.day_text(T0_MS) in notice.body
