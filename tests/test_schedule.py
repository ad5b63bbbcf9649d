"""Schedules: when they come, what they hand to a function, and what is refused at the start."""
import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local_cloud.errors import DeployError, Unsupported
from local_cloud.resources import REGISTRY, Context
from local_cloud.schedule import Schedules, read_schedule

ACCOUNT, REGION = "123456789012", "eu-west-1"


class Functions:
    """Functions by name that note their events."""

    def __init__(self, *names: str) -> None:
        self.events: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        self.called = asyncio.Event()

    def by_name(self, name: str) -> Any:
        name = name.rpartition(":")[2]
        return Function(self, name) if name in self.events else None

    def existing(self, where: str, name: str) -> Any:
        found = self.by_name(name)
        if found is None:
            raise DeployError(f"{where}: {name} is no function of this deployment")
        return found


class Function:
    def __init__(self, functions: Functions, name: str) -> None:
        self._functions, self.name = functions, name

    async def invoke_async(self, event: dict[str, Any] | bytes) -> str:
        self._functions.events[self.name].append(json.loads(event) if isinstance(event, bytes) else event)
        self._functions.called.set()
        return "id"


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("expression", "after", "following"), (
    ("rate(1 minute)", "2026-11-22 10:00:30", "2026-11-22 10:01:30"),
    ("rate(5 minutes)", "2026-11-22 10:00", "2026-11-22 10:05"),
    ("rate(12 hours)", "2026-11-22 13:00", "2026-11-23 01:00"),
    ("rate(1 day)", "2026-02-28 13:00", "2026-03-01 13:00"),
    ("cron(0 6 * * ? *)", "2026-11-22 06:00", "2026-11-23 06:00"),
    ("cron(*/15 * * * ? *)", "2026-11-22 10:14:59", "2026-11-22 10:15"),
    ("cron(5/20 8-9 ? * 2-6 *)", "2026-11-20 09:46", "2026-11-23 08:05"),  # Friday to Monday
    ("cron(0 0 1,15 * ? *)", "2026-11-15 00:00", "2026-12-01 00:00"),
    ("cron(0 18,6 * * ? *)", "2026-11-22 06:00", "2026-11-22 18:00"),
    ("cron(0 0 29 2 ? *)", "2026-11-22 00:00", "2028-02-29 00:00"),
    ("cron(59 23 31 12 ? 2026)", "2026-11-22 00:00", "2026-12-31 23:59")))
def test_the_next_time(expression: str, after: str, following: str) -> None:
    assert read_schedule(expression)(seconds(after)) == seconds(following)


@pytest.mark.parametrize(("expression", "fault", "words"), (
    ("rate(1 minutes)", DeployError, "rate(1 minute)"), ("rate(5 minute)", DeployError, "rate(2 minutes)"),
    ("rate(0 minutes)", DeployError, "rate"), ("every 5 minutes", DeployError, "rate(5 minutes)"),
    ("cron(0 6 * * * *)", DeployError, "'?'"), ("cron(0 24 * * ? *)", DeployError, "hours '24' is not within 0 to 23"),
    ("cron(0 6 L * ? *)", Unsupported, "day of month 'L'"), ("cron(0 6 ? * MON *)", Unsupported, "day of week 'MON'")))
def test_a_faulty_expression_is_refused(expression: str, fault: type[Exception], words: str) -> None:
    with pytest.raises(fault) as caught:
        read_schedule(expression)
    assert words in str(caught.value)


@pytest.mark.parametrize("expression", ("cron(0 0 30 2 ? *)", "cron(0 0 1 1 ? 2020)"))
def test_a_moment_that_never_comes_is_refused(expression: str) -> None:
    schedules = Schedules(ACCOUNT, REGION, Functions("watch"))  # type: ignore[arg-type]
    with pytest.raises(DeployError, match="it names no moment to come"):
        schedules.add("never", "arn", expression, [("watch", None)], True)
    assert schedules.names() == []


def test_a_schedule_ends_with_its_last_moment(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def run() -> None:
        functions = Functions("watch")
        schedules = Schedules(ACCOUNT, REGION, functions,  # type: ignore[arg-type]
                              clock=lambda: seconds("2026-12-31 23:58:59.990"))
        schedules.add("last", "arn", "cron(59 23 31 12 ? 2026)", [("watch", None)], True)
        task = schedules.rule("last").task
        assert task is not None
        await asyncio.wait_for(task, 30)
        assert len(functions.events["watch"]) == 1
        assert schedules.describe()["last"]["next"] is None and "for the last time" in caplog.text
        await schedules.close()
    asyncio.run(run())


def test_its_time_invokes_every_target_with_the_documented_event() -> None:
    async def run() -> None:
        functions = Functions("watch", "sweep")
        schedules = Schedules(ACCOUNT, REGION, functions)  # type: ignore[arg-type]
        schedules.add("often", "arn:of:rule", "rate(5 minutes)", [("watch", None), ("sweep", b'{"deep": true}')], True)
        assert await schedules.fire("often") == ["watch", "sweep"]
        event, = functions.events["watch"]
        assert event == {"version": "0", "id": event["id"], "detail-type": "Scheduled Event", "source": "aws.events",
                         "account": ACCOUNT, "time": event["time"], "region": REGION, "resources": ["arn:of:rule"],
                         "detail": {}}
        assert functions.events["sweep"] == [{"deep": True}]
        assert schedules.describe()["often"]["fired"] == 1 and schedules.describe()["often"]["invocations"] == 2
        with pytest.raises(DeployError, match="no scheduled rule 'seldom'; there are often"):
            await schedules.fire("seldom")
        with pytest.raises(DeployError, match="exists already"):
            schedules.add("often", "arn:of:rule", "rate(5 minutes)", [], True)
        await schedules.close()
        assert schedules.names() == []
    asyncio.run(run())


def test_it_comes_by_itself_and_not_when_disabled() -> None:
    async def run() -> None:
        functions = Functions("watch", "off")
        schedules = Schedules(ACCOUNT, REGION, functions)  # type: ignore[arg-type]
        for name, target, enabled in (("off", "off", False), ("on", "watch", True)):
            schedules.add(name, "arn", "rate(1 minute)", [(target, None)], enabled)
            schedules.rule(name).following = lambda after_s: after_s + 0.01  # nobody waits for a minute
        await asyncio.wait_for(functions.called.wait(), 30)
        assert functions.events["watch"] and not functions.events["off"]
        await schedules.close()
    asyncio.run(run())


class Services:
    """What the resource type needs of the local cloud."""

    region, account_id = REGION, ACCOUNT

    def __init__(self) -> None:
        self.functions = Functions("watch")
        self.schedules = Schedules(ACCOUNT, REGION, self.functions)  # type: ignore[arg-type]


def applied(properties: dict[str, Any]) -> Any:
    """Apply an AWS::Events::Rule; (its Applied, the schedules)."""
    async def run() -> Any:
        services: Any = Services()
        context = Context(services, "Stack", "Often", lambda key: Path(key))
        try:
            made = await REGISTRY["AWS::Events::Rule"].apply(properties, context)
            kept = services.schedules.describe()
            await made.delete()
            assert services.schedules.names() == []
            return made, kept
        finally:
            await services.schedules.close()
    return asyncio.run(run())


TARGET = {"Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:watch", "Id": "Target0"}


def test_the_resource() -> None:
    made, kept = applied({"ScheduleExpression": "rate(5 minutes)", "State": "DISABLED", "Targets": [TARGET]})
    name, = kept
    assert name.startswith("Stack-Often-") and made.ref == name and not kept[name]["enabled"]
    assert made.attributes["Arn"] == f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"


@pytest.mark.parametrize(("change", "fault", "words"), (
    ({"Targets": [{"Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", "Id": "a"}]}, Unsupported, "is no function"),
    ({"Targets": [{**TARGET, "Arn": TARGET["Arn"] + "-gone"}]}, DeployError, "no function of this deployment"),
    ({"Targets": [{**TARGET, "RetryPolicy": {}}]}, Unsupported, "Targets.RetryPolicy"),
    ({"Targets": [{**TARGET, "Input": "{"}]}, DeployError, "Targets.Input is not JSON"),
    ({"Targets": [TARGET] * 6}, DeployError, "at most 5"), ({"State": "ON"}, DeployError, "ENABLED or DISABLED"),
    ({"ScheduleExpression": "soon"}, DeployError, "rate(5 minutes)")))
def test_what_is_refused(change: dict[str, Any], fault: type[Exception], words: str) -> None:
    with pytest.raises(fault) as caught:
        applied({"ScheduleExpression": "rate(5 minutes)", "Targets": [TARGET], **change})
    assert words in str(caught.value)


def test_events_of_services_are_refused_before_anything_is_made() -> None:
    found, = REGISTRY["AWS::Events::Rule"].faults({"EventPattern": {"source": ["aws.s3"]}})
    assert "a schedule is" in found
