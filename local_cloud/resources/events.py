"""AWS::Events::Rule: a schedule and the functions that it starts; rules that wait for events are refused."""
import json
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.properties import refuse_unknown
from local_cloud.resources.registry import EMULATED, TAGS, Applied, Context, Properties, require, resource


@resource(
    "AWS::Events::Rule",
    EMULATED,
    attributes="Arn",
    honoured="Name ScheduleExpression State Targets",
    stated={"Description": "a text", **TAGS},
    refused={
        "EventPattern": "no service's events are emulated; a schedule is",
        "EventBusName": "the default bus only",
        "RoleArn": "functions need none; other targets are not emulated",
    },
    replaced="Name ScheduleExpression State Targets",
    note="a schedule (rate or cron, UTC) that invokes functions; POST /fire?rule=NAME on the control port does so now",
)
async def rule(properties: Properties, context: Context) -> Applied:
    """One scheduled rule."""
    name = context.name(properties, "Name", 64)
    arn = context.arn("events", f"rule/{name}")
    targets = [_target(one, context) for one in properties.get("Targets", [])]
    if len(targets) > 5:
        raise DeployError(f"Targets: {len(targets)} targets, a rule has at most 5")
    state = properties.get("State", "ENABLED")
    if state not in ("ENABLED", "DISABLED"):
        raise DeployError(f"State: {state!r}, expected ENABLED or DISABLED")
    schedules = context.services.schedules
    schedules.add(name, arn, str(require(properties, "ScheduleExpression")), targets, state == "ENABLED")

    async def delete() -> None:
        await schedules.remove(name)

    return Applied(name, {"Arn": arn}, delete)


def _target(given: dict[str, Any], context: Context) -> tuple[str, bytes | None]:
    refuse_unknown("Targets", given, {"Arn", "Id", "Input"})
    arn = str(require(given, "Arn"))
    if not arn.startswith("arn:aws:lambda:"):
        raise Unsupported(f"Targets: {arn} is no function; only functions are started by a schedule")
    function = context.services.functions.existing("Targets", arn)
    return function.name, _input(given["Input"]) if "Input" in given else None


def _input(text: str) -> bytes:
    try:
        json.loads(text)
    except ValueError as fault:
        raise DeployError(f"Targets.Input is not JSON: {fault}") from None
    return text.encode()
