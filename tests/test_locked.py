"""Several sites and two deployments in one account, IAM enforced: the gateway keeps exactly the synthesized policy,
devices of one name stay apart everywhere, nobody speaks for another, a spare bridge's events are those of its site, and
no role may do more or less than is done."""
import gzip
import itertools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer

from contract import alerts, routes, topics
from lambdas import table
from local_cloud.gateway import packets as p
from local_cloud.gateway.packets import MQTT_5
from local_cloud.iam_requests import Need
from tests import sites_work
from tests.gateway_rig import RawClient, until
from tests.messages import OUTBOX, T0_MS, anomaly, event, row, sealed
from tests.privileges import needed, refused, too_wide, unused
from tests.recorded_calls import record
from tests.sites_rig import FOREIGN, HOME, OTHER, SPARE, Sites, ended, eventually, sites
from tests.sites_work import CAMERA, DEVICE, get

__all__ = ["ended"]
THINGS = (HOME, OTHER, SPARE, FOREIGN)
DEPLOYMENT = {HOME: "edgecloud", OTHER: "edgecloud", SPARE: "edgecloud", FOREIGN: "plant2"}
RULES = [f"{deployment}_{name}" for deployment in ("edgecloud", "plant2")
         for name in [*(route.name for route in routes.ROUTES), "presence"]]
ROUTES = [route.name for route in routes.ROUTES]
NOT_FOR_IT = p.NOT_AUTHORIZED


@pytest.fixture(scope="module")
def cloud() -> Iterator[Sites]:
    yield sites()


@pytest.fixture()
def unheard(cloud: Sites) -> Iterator[Sites]:
    """What is published stays at the gateway: no rule takes it."""
    rules = cloud.cloud.services.rules
    for name in rules.names():
        rules.set_enabled(name, False)
    yield cloud
    for name in rules.names():
        rules.set_enabled(name, True)


def basic_ingest(thing: str, route: str, deployment: str | None = None) -> str:
    return topics.basic_ingest(routes.rule_name(deployment or DEPLOYMENT[thing], route), thing)


def readings(*values: float) -> bytes:
    return sealed("readings", {DEVICE: [row(number, {"sensor2": value}) for number, value in enumerate(values, 1)]})


def alert(number: int) -> bytes:
    return bytes(alerts.seal(OUTBOX, DEVICE, [anomaly(number, "9.5")])[1])


def claiming(message: bytes, **fields: str) -> bytes:
    """A bridge's message that claims more than it may."""
    return json.dumps({**json.loads(message), **fields}).encode()


def stored(cloud: Sites, table: str, stack: str = "EdgeCloudStorage") -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName=cloud.name(table, stack))
    read = TypeDeserializer().deserialize
    return [{key: read(value) for key, value in item.items()} for page in pages for item in page["Items"]]


def archived(cloud: Sites, bucket: str, prefix: str) -> list[dict[str, Any]]:
    s3 = cloud.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
    return [json.loads(line) for key in keys for line in
            gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).splitlines()]


# The policy: what a thing's bridge may do is what names the thing itself

def topics_of(thing: str) -> dict[str, str]:
    """Every topic of a thing's: what it is for, and its name."""
    own = {f"{deployment} {route}": basic_ingest(thing, route, deployment)
           for deployment in ("edgecloud", "plant2") for route in ROUTES}
    return {**own, "status": topics.status(thing), "receipts": topics.receipts(thing),
            "shadow": f"$aws/things/{thing}/shadow/name/bridge/update"}


def may_publish(thing: str, kind: str, whose: str) -> bool:
    plain = [route.name for route in routes.ROUTES if route.topic is None]
    return thing == whose and kind in {"status", "shadow", *(f"{DEPLOYMENT[thing]} {route}" for route in plain)}


@pytest.mark.parametrize("thing, whose", list(itertools.product((HOME, OTHER, FOREIGN), THINGS)))
def test_a_thing_publishes_to_its_own_topics_alone(unheard: Sites, thing: str, whose: str) -> None:
    named = topics_of(whose)
    codes = unheard.publish(thing, *((topic, b"{}") for topic in named.values()))
    for (kind, topic), code in zip(named.items(), codes, strict=True):
        assert (code == 0) is may_publish(thing, kind, whose), f"{thing} to {topic}: reason code {code}"
    assert unheard.publish(thing, ("edgecloud/other", b"{}"), (topics.ALERTS + "/x", b"{}")) == [NOT_FOR_IT] * 2


@pytest.mark.parametrize("thing", [HOME, FOREIGN])
def test_a_thing_hears_its_own_receipts_alone(cloud: Sites, thing: str) -> None:
    async def subscribe() -> dict[str, int]:
        client = await cloud.connect(thing)
        wanted = [*map(topics.receipts, THINGS), *map(topics.status, THINGS), topics.receipts("+"), topics.ALERTS, "#"]
        codes = {one: (await client.subscribe(one))[0] for one in wanted}
        client.close()
        return codes

    codes = cloud.run(subscribe())
    assert {name for name, code in codes.items() if code == 1} == {topics.receipts(thing)}
    assert set(codes.values()) == {1, NOT_FOR_IT}


def test_a_certificate_opens_its_things_name_alone(cloud: Sites) -> None:
    async def greet(client_id: str) -> int:
        client = await RawClient.open(cloud.cloud.services.gateway.port, cloud.device(OTHER))
        code = (await client.greet(p.Connect(client_id, MQTT_5))).reason_code
        client.close()
        return code

    assert [cloud.run(greet(name)) for name in (OTHER, HOME, SPARE, FOREIGN, "", f"{OTHER}2")] == [
        0, NOT_FOR_IT, NOT_FOR_IT, NOT_FOR_IT, NOT_FOR_IT, NOT_FOR_IT]


def test_nobody_enters_without_a_certificate(cloud: Sites) -> None:
    async def knock() -> None:
        gateway = cloud.cloud.services.gateway
        refused = gateway.counters.refused
        bare = ssl.create_default_context(cafile=str(cloud.device(HOME).ca_path))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await RawClient.connect(gateway.port, type("Bare", (), {"context": lambda self: bare})(), HOME)
        await until(lambda: gateway.counters.refused > refused, "the refusal")

    cloud.run(knock())


def test_a_deactivated_certificate_is_cut_off_and_stays_out(cloud: Sites) -> None:
    async def take_away() -> None:
        registry = cloud.cloud.services.registry
        (certificate,) = (one for one in registry.certificates.values() if OTHER in one.things)
        client = await cloud.connect(OTHER)
        registry.set_status(certificate.id, "INACTIVE")
        try:
            await client.disconnected()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await cloud.connect(OTHER)
        finally:
            registry.set_status(certificate.id, "ACTIVE")
        (await cloud.connect(OTHER)).close()

    cloud.run(take_away())


# Devices of one name, and messages that claim another site

@pytest.fixture(scope="module")
def filled(cloud: Sites) -> Sites:
    """Each site has sent readings of pi-1, the same event of camera-01, and an alert; one claims to be another."""
    for number, thing in enumerate(THINGS):
        lies = {"site": HOME, "thing": HOME} if thing != HOME else {}
        codes = cloud.publish(
            thing, (basic_ingest(thing, "readings"), claiming(readings(number, number + 0.5), **lies)),
            (basic_ingest(thing, "events"), claiming(sealed("events", {CAMERA: [event(7, 3)]}), **lies)),
            (topics.ALERTS, claiming(alert(40 + number), **lies)))
        assert codes == [0, 0, 0]
    cloud.settled()
    return cloud


def test_readings_and_events_are_their_sites(filled: Sites) -> None:
    items = stored(filled, "Readings")
    found = sorted((one["pk"], one["kind"]) for one in items)
    assert found == sorted([
        (f"{HOME}#{DEVICE}", "readings"), (f"{HOME}#{DEVICE}", "readings"),  # its own and its spare bridge's
        (f"{OTHER}#{DEVICE}", "readings"), (f"{HOME}#{CAMERA}", "event"), (f"{OTHER}#{CAMERA}", "event")])
    assert {one["pk"] for one in stored(filled, "Readings", "Plant2Storage")} == {
        f"{FOREIGN}#{DEVICE}", f"{FOREIGN}#{CAMERA}"}


def totals(cloud: Sites, pk: str, field: str) -> tuple[int, float]:
    minutes = [one for one in stored(cloud, "Rollups") if one["pk"] == pk and one["sk"].startswith("m#")]
    entries = [value[field] for one in minutes for value in one.values() if isinstance(value, dict) and field in value]
    return sum(int(entry[0]) for entry in entries), float(sum(entry[1] for entry in entries))


def test_rollups_are_their_sites_and_a_spare_bridges_event_counts_once(filled: Sites) -> None:
    assert totals(filled, f"{OTHER}#{DEVICE}", "sensor2") == (2, 1 + 1.5)
    assert totals(filled, f"{HOME}#{DEVICE}", "sensor2") == (4, 0 + 0.5 + 2 + 2.5)
    assert totals(filled, f"{HOME}#{CAMERA}", "persons_detected") == (1, 3)
    assert totals(filled, f"{OTHER}#{CAMERA}", "persons_detected") == (1, 3)


def test_alerts_are_their_sites_and_their_deployments(filled: Sites) -> None:
    kept = {(one["pk"], int(one["number"])) for one in stored(filled, "Alerts") if one["sk"].startswith("a#")}
    assert kept == {(f"{HOME}#{DEVICE}", 40), (f"{OTHER}#{DEVICE}", 41), (f"{HOME}#{DEVICE}", 42)}
    kept = {(one["pk"], int(one["number"])) for one in stored(filled, "Alerts", "Plant2Storage")
            if one["sk"].startswith("a#")}
    assert kept == {(f"{FOREIGN}#{DEVICE}", 43)}


def test_the_archive_names_the_thing_that_sent_it(filled: Sites) -> None:
    for route in ("readings", "events", "alerts"):
        lines = archived(filled, filled.name("Archive"), f"archive/{route}/")
        senders = sorted(one["site"] for one in lines if "v" in one)
        assert senders == sorted([HOME, OTHER, SPARE]), route
        lines = archived(filled, filled.name("Archive", "Plant2Storage"), f"archive/{route}/")
        assert {one["site"] for one in lines if "v" in one} == {FOREIGN}


def test_the_api_tells_them_apart(filled: Sites) -> None:
    devices = get(filled, "/devices")["devices"]
    assert sorted((one["site"], one["device"]) for one in devices) == [
        (HOME, CAMERA), (HOME, DEVICE), (OTHER, CAMERA), (OTHER, DEVICE)]
    found = get(filled, f"/sites/{OTHER}/devices/{DEVICE}/readings")["readings"]
    assert sorted(one["values"]["sensor2"] for one in found) == [1, 1.5]
    anomalies = get(filled, f"/alerts?day={table.day_text(T0_MS)}")["alerts"]  # the messages' day, whatever today is
    seen = {(one["site"], one["number"]) for one in anomalies}
    assert seen == {(HOME, 40), (OTHER, 41), (HOME, 42)}


def test_a_receipt_goes_to_the_bridge_that_sent_the_batch(cloud: Sites) -> None:
    async def listen() -> dict[str, Any]:
        spare, home = await cloud.connect(SPARE), await cloud.connect(HOME)
        assert await home.subscribe(topics.receipts(HOME)) == [1]
        assert await spare.subscribe(topics.receipts(SPARE)) == [1]
        assert (await spare.publish(basic_ingest(SPARE, "readings"), readings(8, 9))).reason_code == 0
        message = await spare.message()
        await home.quiet()
        spare.close()
        home.close()
        return {"topic": message.topic, **json.loads(message.payload)}

    found = cloud.run(listen())
    assert found["topic"] == topics.receipts(SPARE)
    assert found["ids"] == [json.loads(readings(8, 9))["id"]]
    cloud.settled()


def test_each_deployment_has_its_own_names(filled: Sites) -> None:
    names = filled.cloud.deployer.physical_names()
    assert {stack.removeprefix("Plant2") for stack in names if stack.startswith("Plant2")} == {
        stack.removeprefix("EdgeCloud") for stack in names if stack.startswith("EdgeCloud")}
    rules = filled.cloud.services.rules.names()
    assert rules == sorted(RULES), "RULES above names each rule: it is tried with a permission lost"
    for one in rules:
        assert filled.cloud.services.rules.rule(one).counters["sql_failures"] == 0


# Least privilege: everything was done under enforced roles; now what was not done yet, and what nobody needs

# Calls that a running deployment makes seldom, under the tests of the handler that makes them.
HANDLER_TESTS = ("tests/test_lambda_hours.py::test_an_event_that_moves_to_another_hour_leaves_nothing_behind",
                 "tests/test_presence.py::test_a_bridge_that_went_is_told_of_once_and_once_that_it_is_back")


@pytest.fixture(scope="module")
def done(filled: Sites, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Need]]:
    """Everything is done once; calls of HANDLER_TESTS as (role, need)."""
    sites_work.ask_everything(filled)
    sites_work.watch_everything(filled)
    calls = record(HANDLER_TESTS, tmp_path_factory.mktemp("calls") / "calls.jsonl")
    assert calls
    return needed(filled.cloud, "EdgeCloud", calls, HOME)


def test_everything_that_is_done_is_allowed(filled: Sites, done: list[tuple[str, Need]]) -> None:
    assert filled.cloud.services.iam.enforced
    missing = refused(filled.cloud.services.iam, done)
    assert not missing, "grant it where infra/ makes the function (access=[allow(...)]):\n" + "\n".join(missing)
    failed = {name: function.last_error for name in filled.cloud.services.functions.names()
              if (function := filled.cloud.services.functions.by_name(name)) and function.last_error}
    assert not failed


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_lost_a_permission_reports_it_to_the_error_prefix(filled: Sites, rule: str) -> None:
    """The queue refuses the role, as on AWS; the error action has a permission of its own."""
    deployment, _, route = rule.partition("_")
    title = "EdgeCloud" if deployment == "edgecloud" else deployment.capitalize()
    role = filled.cloud.services.iam.roles[filled.name_like(f"{route.capitalize()}RuleRole", f"{title}Ingest")]
    kept = dict(role.policies)
    role.policies = {name: tuple(one for one in statements if "sqs:SendMessage" not in one.actions)
                     for name, statements in kept.items()}
    thing = HOME if deployment == "edgecloud" else FOREIGN
    topic = {"alerts": topics.ALERTS, "status": topics.status(thing)}.get(route, basic_ingest(thing, route))
    messages = [] if route == "presence" else [(topic, b'{"v":1}')]  # to connect is an event of presence
    bucket, prefix = filled.name("Archive", f"{title}Storage"), f"errors/{rule}/"
    try:
        assert not any(filled.publish(thing, *messages))
        found = eventually(lambda: filled.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"),
                           f"an object under {prefix}")
    finally:
        role.policies = kept
    report = json.loads(filled.client("s3").get_object(Bucket=bucket, Key=found[0]["Key"])["Body"].read())
    failure = report["failures"][0]
    assert "is not authorized to perform: sqs:SendMessage" in failure["errorMessage"]


def test_a_function_that_lost_a_permission_is_denied(filled: Sites) -> None:
    role = filled.cloud.services.iam.roles[filled.name_like("ApiRole", "EdgeCloudApi")]
    kept = dict(role.policies)
    role.policies = {}
    try:
        with pytest.raises(urllib.error.HTTPError) as answered:
            get(filled, "/data")
    finally:
        role.policies = kept
    assert answered.value.code == 500
    log = next(filled.cloud.services.functions.by_name(name).log_path.read_text()
               for name in filled.cloud.services.functions.names() if name.startswith("EdgeCloudApi-ApiFunction"))
    assert "AccessDeniedException" in log and "is not authorized to perform: dynamodb:Query on resource" in log


def test_nothing_wider_is_allowed(filled: Sites, done: list[tuple[str, Need]]) -> None:
    """Stands last: every rule has failed once by now, and used its error action."""
    iam = filled.cloud.services.iam
    assert not too_wide(iam), "name the resource; an action that takes none goes into privileges.WITHOUT_RESOURCE"
    title, spared = filled.titles(), unused(iam, done)
    elsewhere = {(title[one.role][1], one.action) for one in spared if title[one.role][0] == "Plant2"}
    lines = [f"{one.role} may {one.action} on {one.pattern}" for one in spared
             if title[one.role][0] == "EdgeCloud" and (title[one.role][1], one.action) in elsewhere]
    assert not lines, ("nothing that ran here or under HANDLER_TESTS needs this: take the grant out, or name the test "
                       "of the handler that does:\n" + "\n".join(lines))
