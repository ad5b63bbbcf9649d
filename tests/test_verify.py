"""make verify against a running local cloud: all agree, what does not agree is named, nothing is left behind."""
import gzip
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contract import numbers
from deploy import verify, verify_rules
from deploy.certificates import ROOT_CA
from deploy.device_connection import DeviceConnection
from deploy.provision_files import find
from deploy.provision_identity import Provision
from deploy.target import Target, TargetFault, ask
from deploy.verify import Verification
from deploy.verify_cleanup import Cleanup
from deploy.verify_hops import Hops
from deploy.verify_messages import EVENTS, READINGS, Run
from deploy.verify_rules import NO_OUTPUT, agrees, compare
from deploy.verify_rules_access import Access
from tests import cloud_rig
from tests.cloud_rig import Cloud

THING = "EdgeCloudAWS"
CASES = json.loads((cloud_rig.ROOT / "tests" / "data" / "rule_sql_cases.json").read_text(), parse_float=Decimal)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    place = cloud_rig.cloud().target
    Provision(place, THING, directory, ask=lambda question: True, say=lambda line: None).provision()
    return directory


@pytest.fixture(scope="module")
def cloud(certs: Path) -> Iterator[Cloud]:
    yield cloud_rig.cloud()


@pytest.fixture(scope="module")
def place(cloud: Cloud) -> Target:
    return cloud.target


def held(place: Target) -> dict[str, list[Any]]:
    """Everything in the three tables that a run of verify could have made."""
    return {table: [item for item in place.table(table).scan()["Items"]
                    if "verify-" in item["pk"] + item["sk"] or item["pk"] == "status"]
            for table in ("readings", "rollups", "alerts")}


def command(cloud: Cloud, certs: Path, *words: str) -> int:
    return verify.main(["--target", "local", "--cloud", str(cloud.ready_file), "--certs", str(certs), *words])


def test_every_hop_agrees_and_nothing_is_left(
        cloud: Cloud, place: Target, certs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.table("rollups").put_item(Item=former(place, age_s=3600))
    before = held(place)
    assert command(cloud, certs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines if line[:1] == "✓"] == [
        "connect", "publish", "receipts", "tables", "roll-ups", "API", "ledger", "archive"]
    assert lines[-2:] == ["cleaned up", "verify: all agree"] and "✗" not in "".join(lines)
    assert held(place) == before, "the bridge's ledger is back, all else is gone"
    place.table("rollups").delete_item(Key={"pk": "status", "sk": THING})


def former(place: Target, age_s: float) -> dict[str, Any]:
    """A ledger that a bridge told some time ago."""
    at = int((time.time() - age_s) * 1000)
    return {"pk": "status", "sk": THING, "site": THING, "at": at, "stored": at, "expires_at": at // 1000 + 10 ** 6,
            "status": json.dumps({"v": 1, "thing": THING, "at": at, "version": "1", "devices": {}})}


def test_a_bridge_that_runs_is_not_thrown_out(cloud: Cloud, place: Target, certs: Path) -> None:
    place.table("rollups").put_item(Item=former(place, age_s=5))
    with pytest.raises(TargetFault, match=r"a bridge told its ledger as EdgeCloudAWS \d+ s ago, .* or take FORCE=1"):
        command(cloud, certs)
    place.table("rollups").delete_item(Key={"pk": "status", "sk": THING})


@pytest.fixture(scope="module")
def published(place: Target, certs: Path) -> Iterator[tuple[Run, Hops]]:
    """A run whose messages the cloud has, for tests that put back what they change; and then not any more."""
    said: list[str] = []
    verification = Verification(place, THING, certs, said.append)
    cleanup = Cleanup(place, verification.run, verification.hops, said.append)
    host, port = place.gateway()
    with DeviceConnection(host, port, THING, find(certs, THING).files(certs / ROOT_CA)) as connection:
        connection.connect(60)
        for message in verification.messages:
            connection.publish(message.topic, message.payload)
    hops = verification.hops
    for hop in (hops.tables, hops.minutes, hops.api, hops.ledger, hops.archive):
        assert verification._eventually(hop, 60) == ""
    yield verification.run, hops
    cleanup.clean()
    assert not held(place)["readings"]


def test_each_hop_sees_what_is_not_as_it_was_published(place: Target, published: tuple[Run, Hops]) -> None:
    run, hops = published
    readings = place.table("readings")
    (first, *_) = hops.items("readings", hops.key(run.sensor))
    readings.delete_item(Key={"pk": first["pk"], "sk": first["sk"]})
    assert f"readings: {READINGS} published, {READINGS - 50} there, 50 missing, 0 too many" in hops.tables()
    assert "GET …/readings: 200 published, 150 there" in hops.api()
    readings.put_item(Item=first)
    readings.put_item(Item={**first, "sk": first["sk"] + "b"})
    assert "250 there, 0 missing, 50 too many" in hops.tables(), "a batch that is there twice"
    readings.delete_item(Key={"pk": first["pk"], "sk": first["sk"] + "b"})
    (event, *_) = hops.items("readings", hops.key(run.camera))
    readings.put_item(Item={**event, "values": {"persons_detected": Decimal(9)}})
    assert f"events: {EVENTS} published, {EVENTS} there, 1 missing, 1 too many; for example" in hops.tables()
    assert "GET /data: 20 published, 20 there, 1 missing" in hops.api()
    readings.put_item(Item=event)
    assert hops.tables() == "" and hops.api() == ""


def test_alerts_minutes_and_the_ledger_are_compared_too(place: Target, published: tuple[Run, Hops]) -> None:
    run, hops = published
    (alert,) = hops.items("alerts", hops.key(run.sensor))
    place.table("alerts").put_item(Item={**alert, "value": Decimal("0.1")})
    assert "alerts: 1 published, 1 there, 1 missing" in hops.tables() and "GET /alerts: 1" in hops.api()
    place.table("alerts").put_item(Item=alert)
    (minute, *_) = [item for item in hops.items("rollups", hops.key(run.sensor)) if item["sk"].startswith("m#")]
    place.table("rollups").delete_item(Key={"pk": minute["pk"], "sk": minute["sk"]})
    assert "roll-ups: " in hops.minutes()
    place.table("rollups").put_item(Item=minute)
    assert hops.minutes() == ""
    place.table("rollups").delete_item(Key={"pk": "status", "sk": THING})
    assert hops.ledger() == f"GET /status: the ledger of {THING} is not there"
    place.table("rollups").put_item(Item=former(place, 10))
    assert hops.ledger() == f"GET /status: the ledger of {THING} is another one"
    place.table("rollups").delete_item(Key={"pk": "status", "sk": THING})


def test_the_archive_is_compared_and_what_others_share_stays(place: Target, published: tuple[Run, Hops]) -> None:
    _, hops = published
    s3, bucket = place.client("s3"), place.parameter("archive-bucket")
    (key, lines), *_ = hops.objects("events")
    s3.put_object(Bucket=bucket, Key=key, Body=gzip.compress(b"\n".join(lines[:-1]) + b'\n{"of": "another"}\n'))
    assert hops.archive() == "1 of 7 messages are not in the archive"
    said: list[str] = []
    Cleanup(place, hops._run, hops, said.append).clean()
    assert f"s3://{bucket}/{key}: {len(lines) - 1} of {len(lines)} lines" in said[0]
    assert s3.get_object(Bucket=bucket, Key=key)
    s3.delete_object(Bucket=bucket, Key=key)


def test_a_gateway_that_lets_nobody_in_is_a_fault_and_ends_the_run(
        place: Target, certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "gateway", lambda target: ("127.0.0.1", 9))
    monkeypatch.setattr(Target, "deadline_s", property(lambda target: 0.1))
    said: list[str] = []
    verification = Verification(place, THING, certs, said.append)
    assert not verification.verify()
    assert verification.failed == ["connect"] and said[0].startswith("✗") and "127.0.0.1:9" in said[0]
    assert said[1:] == ["cleaned up"]


# --- rule SQL

def test_the_rule_cases_agree_and_nothing_is_left(cloud: Cloud, place: Target, certs: Path, tmp_path: Path) -> None:
    before = cloud.registered(), rules(place), policies(place)
    chosen = [case for case in CASES if case["kind"] != "expr"]
    chosen += [case for case in CASES if case["kind"] == "expr"][::12]
    path, out, said = tmp_path / "cases.json", tmp_path / "differences.json", []
    path.write_text(numbers.dumps(chosen))
    assert compare(place, certs / ROOT_CA, path, out, said.append), said
    report = json.loads(out.read_text())
    assert report["differences"] == [] and report["compared"] + len(report["left_out"]) == len(chosen)
    assert report["compared"] > 40 and said[-1].startswith("✓ rule SQL: ")
    assert (cloud.registered(), rules(place), policies(place)) == before
    assert [role["RoleName"] for role in place.client("iam").list_roles()["Roles"]
            if role["RoleName"].startswith("edgecloud_verify")] == []


def test_a_difference_goes_to_the_file(place: Target, certs: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    def otherwise(cases: Any) -> dict[str, Any]:
        wrong = {"sum": 4, "none": "something", "refused": {"$error": "no such function"}}
        return {case["id"]: wrong.get(case["id"], 3) for case in cases}

    monkeypatch.setattr(verify_rules, "local_answers", otherwise)
    monkeypatch.setattr(Target, "deadline_s", property(lambda target: 3.0))  # "none" is waited for to the end
    path, out, said = tmp_path / "cases.json", tmp_path / "differences.json", []
    path.write_text(json.dumps([
        {"id": "sum", "kind": "expr", "expr": "1 + 2"}, {"id": "same", "kind": "expr", "expr": "1 + 2"},
        {"id": "none", "kind": "rule", "sql": "SELECT * FROM 'a' WHERE false", "topic": "a", "payload": {}},
        {"id": "refused", "kind": "expr", "expr": "abs(1)"},
        {"id": "left", "kind": "expr", "expr": "1", "context": {}}]))
    assert not compare(place, certs / ROOT_CA, path, out, said.append)
    report = json.loads(out.read_text())
    assert {one["id"]: (one["local"], one["cloud"]) for one in report["differences"]} == {
        "sum": (4, {"text": "3", "hex": "33"}), "none": ("something", NO_OUTPUT),
        "refused": ({"$error": "no such function"}, {"text": "1", "hex": "31"})}
    assert report["left_out"] == {"left": "it needs a message context of its own"} and rules(place) == RULES


RULES = ["edgecloud_alerts", "edgecloud_events", "edgecloud_presence", "edgecloud_readings", "edgecloud_status"]


def rules(place: Target) -> list[str]:
    return [rule["ruleName"] for rule in place.client("iot").list_topic_rules()["rules"]]


def policies(place: Target) -> list[str]:
    return [one["policyName"] for one in place.client("iot").list_policies()["policies"]]


def test_what_was_made_is_taken_away_when_the_connection_fails(
        cloud: Cloud, place: Target, certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, said = cloud.registered(), []
    monkeypatch.setattr(Target, "gateway", lambda target: ("127.0.0.1", 9))
    monkeypatch.setattr(Target, "deadline_s", property(lambda target: 0.1))
    path = tmp_path / "cases.json"
    path.write_text(json.dumps([{"id": "one", "kind": "expr", "expr": "1"}]))
    assert not compare(place, certs / ROOT_CA, path, tmp_path / "out.json", said.append)
    assert said[-1].startswith("✗ rule SQL: 127.0.0.1:9") and cloud.registered() == before and rules(place) == RULES


@pytest.mark.parametrize(("local", "answer", "same"), [
    (3, b"3", True), (Decimal("0.30"), b"0.3", True), (3, b"4", False), ("a", b"a", True), ("a", b'"a"', True),
    ("", b"", True), ("", NO_OUTPUT, False), (NO_OUTPUT, NO_OUTPUT, True), (NO_OUTPUT, b"{}", False),
    ({"$raw_hex": "00ff"}, b"\x00\xff", True), ({"$raw_hex": "00ff"}, b"\x00", False), ({"a": 1}, b'{"a": 1}', True),
    ({"$error": "x"}, {"$error": "y"}, True), ({"$error": "x"}, b"1", False), ("t", "t", True), ("t", "u", False)])
def test_when_two_answers_are_the_same(local: Any, answer: Any, same: bool) -> None:
    assert agrees(local, answer) is same


def test_every_case_is_run_or_named(place: Target) -> None:
    access = Access(place)
    plans = {case["id"]: verify_rules.executed(case, number, access) for number, case in enumerate(CASES)}
    left = {case_id for case_id, plan in plans.items() if isinstance(plan, str)}
    assert len(plans) == len(CASES) and len(left) < 20
    run = [plan for plan in plans.values() if not isinstance(plan, str)]
    assert len({plan.rule for plan in run}) == len(run) and all(plan.topic.count("/") <= 10 for plan in run)


def test_the_run_is_what_it_says() -> None:
    run = Run(cloud_rig.settings(), THING)
    assert len(run.readings()) == READINGS == 200 and len(run.events()) == EVENTS == 20
    assert [row.mark for row in run.readings()].count("anomaly") == 1
    assert all(len(message.payload) < 5120 for message in run.messages()) and len(run.messages()) == 8
    assert [message.payload for message in run.messages()] == [message.payload for message in run.messages()]


def test_what_an_address_answers_is_told(place: Target) -> None:
    assert ask(place.api_url() + "/health")["status"] == "ok"
    with pytest.raises(TargetFault, match=r"GET http.*/nowhere: answered 404: .*Not Found"):
        ask(place.api_url() + "/nowhere")
