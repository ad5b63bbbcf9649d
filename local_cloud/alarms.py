"""CloudWatch alarms, evaluated here: metrics of the services come in, states and notifications to SNS topics go out.

An alarm is evaluated every few seconds over windows that end now, where AWS does so once a minute.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_cloud.alarm_rules import ALARM, INSUFFICIENT_DATA, OK, RANGE_BEYOND, Watch
from local_cloud.metric_sources import Sources
from local_cloud.metrics import Metrics
from local_cloud.resources.registry import Services
from local_cloud.timestamps import utc_text

log = logging.getLogger(__name__)

LOOK_S = 5.0  # between two looks, when a minute takes a minute
LEAST_LOOK_S = 0.25
Notify = Callable[[str, str, str], object]  # (topic ARN, subject, message); may block


@dataclass
class Alarm:
    """One alarm and what became of it; times in seconds since 1970."""

    name: str
    logical_id: str
    arn: str
    watch: Watch
    state: str = INSUFFICIENT_DATA
    reason: str = "Unchecked: Initial alarm creation"
    since_s: float = field(default_factory=time.time)
    changes: int = 0
    values: list[float | None] = field(default_factory=list)  # of the last periods, newest last

    def described(self) -> dict[str, Any]:
        """As the control port shows it; the reason is that of the last change."""
        return {"name": self.name, "logical_id": self.logical_id, "state": self.state, "reason": self.reason,
                "values": self.values, "since": utc_text(self.since_s), "changes": self.changes,
                "description": self.watch.description}


class Alarms:
    """All alarms. speed: how many times faster than on AWS a period passes; `notify` is called in a thread."""

    def __init__(self, services: Services, notify: Notify, speed: float = 1.0) -> None:
        self.metrics = Metrics()
        self.notifications = 0
        self._services = services
        self._sources = Sources(services, self.metrics)
        self._notify = notify
        self._speed = speed
        self._alarms: dict[str, Alarm] = {}
        self._task: asyncio.Task[None] | None = None
        self._evaluating = asyncio.Lock()

    async def add(self, name: str, logical_id: str, arn: str, watch: Watch) -> None:
        """Watch one more; it begins without data."""
        alarm = self._alarms[name] = Alarm(name, logical_id, arn, watch)
        await self._show(alarm)

    def remove(self, name: str) -> None:
        """Watch it no longer."""
        self._alarms.pop(name, None)

    def start(self) -> None:
        """Look at everything every few seconds until close()."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.evaluate()
            except Exception:
                log.exception("alarms were not evaluated; the next look is due")
            await asyncio.sleep(max(LEAST_LOOK_S, LOOK_S / self._speed))

    async def evaluate(self, now_s: float | None = None) -> list[dict[str, Any]]:
        """Look at every service and evaluate every alarm now; notifications of changes are out when it returns."""
        async with self._evaluating:
            now_s = time.time() if now_s is None else now_s
            self._sources.look(now_s)
            self.metrics.forget(now_s - self._reach_s())
            for alarm in list(self._alarms.values()):
                alarm.values = alarm.watch.points(now_s, self._speed)
                state = alarm.watch.state(alarm.values, alarm.state)
                if state != alarm.state:
                    await self._change(alarm, state, now_s)
        return self.described()

    def described(self) -> list[dict[str, Any]]:
        """Every alarm, as it was last evaluated."""
        return [alarm.described() for alarm in self._alarms.values()]

    def _reach_s(self) -> float:
        """How far back any alarm looks."""
        return 60 + max((alarm.watch.period_s * (alarm.watch.periods + RANGE_BEYOND) / self._speed
                         for alarm in self._alarms.values()), default=0.0)

    async def _change(self, alarm: Alarm, state: str, now_s: float) -> None:
        before, alarm.state = alarm.state, state
        alarm.since_s, alarm.changes = now_s, alarm.changes + 1
        shown = ", ".join("none" if value is None else f"{value:g}" for value in alarm.values)
        alarm.reason = f"values (oldest first): {shown}; {alarm.watch.comparison} {alarm.watch.threshold:g}"
        first = before == INSUFFICIENT_DATA and state == OK  # so every alarm begins
        level = logging.WARNING if state == ALARM else logging.DEBUG if first else logging.INFO
        log.log(level, "alarm %s: %s -> %s: %s; %s", alarm.logical_id, before, state, alarm.reason,
                alarm.watch.description)
        await self._show(alarm)
        subject = f'{state}: "{alarm.name}" in {self._services.region}'[:100]
        message = json.dumps(self._message(alarm, before))
        for topic in alarm.watch.actions[state]:
            try:
                await asyncio.to_thread(self._notify, topic, subject, message)
                self.notifications += 1
            except Exception:
                log.exception("alarm %s: topic %s did not take the notification", alarm.logical_id, topic)

    async def _show(self, alarm: Alarm) -> None:
        """Let CloudWatch's API say the same."""
        try:
            await self._services.call("cloudwatch", "set_alarm_state", AlarmName=alarm.name, StateValue=alarm.state,
                                      StateReason=alarm.reason)
        except (BotoCoreError, ClientError) as fault:
            log.warning("alarm %s is %s, and DescribeAlarms does not say so: %s", alarm.logical_id, alarm.state, fault)

    def _message(self, alarm: Alarm, before: str) -> dict[str, Any]:
        """What CloudWatch publishes, as far as people and functions read it."""
        given = alarm.watch.given
        return {
            "AlarmName": alarm.name, "AlarmDescription": alarm.watch.description, "AlarmArn": alarm.arn,
            "AWSAccountId": self._services.account_id, "Region": self._services.region, "OldStateValue": before,
            "NewStateValue": alarm.state, "NewStateReason": alarm.reason, "StateChangeTime": utc_text(alarm.since_s),
            "OKActions": given.get("OKActions", []), "AlarmActions": given.get("AlarmActions", []),
            "InsufficientDataActions": given.get("InsufficientDataActions", []),
            "Trigger": {key: given[key] for key in (
                "Namespace", "MetricName", "Statistic", "Dimensions", "Metrics", "Period", "EvaluationPeriods",
                "DatapointsToAlarm", "ComparisonOperator", "Threshold", "TreatMissingData") if key in given}}
