"""get_thing_shadow() in rule SQL: the gateway's shadows, read as the role that the call names; what cannot be read."""
import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from local_cloud.gateway.shadows import UPDATE, Asked, Shadows
from local_cloud.iam import IOT, Iam
from local_cloud.iam_services import shadow_reader
from local_cloud.options import Options
from local_cloud.rule_sql import NO_OUTPUT, UNDEFINED, Message, Unsupported, compile_statement
from local_cloud.rule_sql.functions import shadow
from local_cloud.services import LocalServices, Place
from tests.gateway_rig import in_loop
from tests.rule_rig import Published, World
from tests.test_iam import ACCOUNT, REGION, ROLE, document, statement, trust

THING = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/MyThing"
ALARM = "SELECT * FROM 'topic/subtopic' WHERE get_thing_shadow({}).state.reported.alarm = 'ON'"


def shadows() -> Shadows:
    """MyThing with a classic shadow whose alarm is ON, and one named MyThingShadow whose alarm is OFF."""
    made = Shadows({"MyThing": None}, lambda topic, payload: None)
    for name, alarm in ((None, "ON"), ("MyThingShadow", "OFF")):
        state = {"state": {"reported": {"alarm": alarm, "level": 0.1}, "desired": {"alarm": "OFF"}}}
        made.do(Asked("MyThing", name, UPDATE), json.dumps(state).encode())
    return made


def world(tmp_path: Any, *allowed: dict[str, Any], enforced: bool = True) -> World:
    """A rule engine over these shadows; the role `worker` may do what is allowed."""
    iam = Iam(ACCOUNT, REGION, enforced)
    iam.add_role("worker", trust(IOT))
    iam.put_policy("worker", "Access", document(*allowed))
    made = World(tmp_path)
    made.engine.read_shadow = shadow_reader(iam, shadows())
    return made


def outputs(world: World, sql: str, payload: bytes = b'{"n":1}') -> list[str]:
    """What the rule with this SQL sends to a queue for one message."""
    async def story() -> list[str]:
        world.rule("r", sql, world.sqs("q"))
        await world.engine.handle(Published("topic/subtopic", payload))
        return await world.bodies("q")

    return asyncio.run(story())


@pytest.mark.parametrize(("arguments", "fires"), [
    (f'"MyThing","{ROLE}"', True), (f'"MyThing","MyThingShadow","{ROLE}"', False)])
def test_the_two_forms_that_aws_documents(tmp_path: Any, arguments: str, fires: bool) -> None:
    found = outputs(world(tmp_path, statement("iot:GetThingShadow", [THING, f"{THING}/*"])), ALARM.format(arguments))
    assert found == (['{"n":1}'] if fires else [])


def test_the_whole_document_comes_with_delta_version_and_exact_numbers(tmp_path: Any) -> None:
    [text] = outputs(world(tmp_path, statement("iot:GetThingShadow", THING)),
                     f"SELECT VALUE get_thing_shadow('MyThing', '{ROLE}') FROM 'topic/+'")
    found = json.loads(text, parse_float=Decimal)
    assert set(found) == {"state", "metadata", "version", "timestamp"} and found["version"] == 1
    assert found["state"]["delta"] == {"alarm": "OFF"} and found["state"]["reported"]["level"] == Decimal("0.1")


def test_names_may_come_from_the_message_and_templates_may_ask_too(tmp_path: Any) -> None:
    made = world(tmp_path, statement("iot:GetThingShadow", THING))
    call = f"get_thing_shadow(of, '{ROLE}').state.reported.alarm"

    async def story() -> None:
        made.rule("r", f"SELECT {call} AS alarm FROM 'topic/+'",
                  {"S3": {"BucketName": "b", "Key": "${" + call + "}", "RoleArn": "r"}})
        await made.engine.handle(Published("topic/subtopic", b'{"of":"MyThing"}'))

    asyncio.run(story())
    assert [(key, body) for _, key, body, _ in made.objects] == [("ON", b'{"alarm":"ON"}')]


@pytest.mark.parametrize(("arguments", "said"), [
    (f"'Nobody', '{ROLE}'", "thing Nobody failed: ShadowFault: Thing not found"),
    (f"'MyThing', 'nothing', '{ROLE}'", "thing MyThing, shadow nothing failed: ShadowFault: No shadow exists"),
    (f"'MyThing', 'MyThingShadow', '{ROLE}'", f"iot:GetThingShadow on resource: {THING}/MyThingShadow"),
    ("'MyThing'", ""), (f"7, '{ROLE}'", ""), (f"'MyThing', missing, '{ROLE}'", "")])
def test_what_cannot_be_read_is_undefined_and_said(tmp_path: Any, caplog: pytest.LogCaptureFixture, arguments: str,
                                                   said: str) -> None:
    made = world(tmp_path, statement("iot:GetThingShadow", [THING, f"{THING}/nothing", THING.replace("My", "") + "*",
                                                            THING.replace("MyThing", "Nobody")]))
    sql = f"SELECT n, get_thing_shadow({arguments}) AS s FROM 'topic/+'"
    assert outputs(made, sql) == ['{"n":1}']
    assert said in caplog.text and ("get_thing_shadow" in caplog.text) is bool(said)
    assert made.engine.rule("r").counters["sql_failures"] == 0


def test_lifted_iam_lets_every_rule_read(tmp_path: Any) -> None:
    assert outputs(world(tmp_path, enforced=False), ALARM.format(f"'MyThing', '{ROLE}'")) == ['{"n":1}']


def test_without_shadows_the_function_is_refused() -> None:
    with pytest.raises(Unsupported, match="only a rule of a running local cloud has"):
        compile_statement("SELECT get_thing_shadow('t', 'r') AS s FROM 'a'")


@in_loop
async def test_the_services_of_a_local_cloud_give_their_rules_the_gateways_shadows(tmp_path: Any) -> None:
    place = Place(Options(tmp_path, iam=False), REGION, tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1")
    services = LocalServices(place)
    services.registry.add_thing("MyThing")
    services.gateway.shadows.do(Asked("MyThing", None, UPDATE), b'{"state":{"reported":{"alarm":"ON"}}}')
    rule = services.rules.create("r", {"Sql": ALARM.format(f"'MyThing', '{ROLE}'"), "Actions": [],
                                       "AwsIotSqlVersion": "2016-03-23"})
    assert rule.statement.evaluate(Message("topic/subtopic", b"{}")) == {}


def test_each_call_asks_anew() -> None:
    asked: list[tuple[Any, ...]] = []

    def read(*names: Any) -> bytes:
        asked.append(names)
        return b'{"state":{"reported":{"x":%d}}}' % len(asked)

    sql = ("SELECT Get_Thing_Shadow('t', 's', 'r').state.reported.x AS x FROM 'a' "
           "WHERE get_thing_shadow('t', 'r').state.reported.x = 1")
    made = compile_statement(sql, services={shadow.NAME: shadow.get_thing_shadow(read)})
    assert made.evaluate(Message("a", b"{}")) == {"x": 2}
    assert asked == [("t", None, "r"), ("t", "s", "r")]
    assert made.evaluate(Message("a", b"{}")) is NO_OUTPUT
    unread = shadow.get_thing_shadow(lambda thing, name, role_arn: None)
    assert unread.run("t", "r") is UNDEFINED
