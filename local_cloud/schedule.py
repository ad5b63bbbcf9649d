"""EventBridge schedules: a rule with a rate or cron expression invokes its functions when its time comes.

The control port can fire one at once, so that no test waits. Rules on events, and other buses, are refused.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from local_cloud.errors import DeployError, Unsupported
from local_cloud.functions import FunctionService

log = logging.getLogger(__name__)

UNIT_S = {"minute": 60, "hour": 3600, "day": 86_400}
MOST_DAYS = 8 * 366  # how far ahead a cron expression is looked for: leap days may lie eight years apart
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)(s?)\)")
_CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
_FIELDS = (("minutes", 0, 59), ("hours", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 1, 7),
           ("year", 1970, 2199))
Following = Callable[[float], float | None]  # epoch seconds -> of the next time after that; None when none comes


@dataclass
class ScheduledRule:
    """One rule; `targets` are function names with their input (None: the event itself)."""

    name: str
    arn: str
    following: Following
    targets: Sequence[tuple[str, bytes | None]]
    enabled: bool
    counters: dict[str, int] = field(default_factory=lambda: {"fired": 0, "invocations": 0})
    next_s: float | None = None  # None: it comes no more
    task: asyncio.Task[None] | None = None


class Schedules:
    """All scheduled rules of one account; `clock` is the wall clock in seconds."""

    def __init__(self, account_id: str, region: str, functions: FunctionService,
                 clock: Callable[[], float] = time.time) -> None:
        self._account_id, self._region = account_id, region
        self._functions, self._clock = functions, clock
        self._rules: dict[str, ScheduledRule] = {}

    def add(self, name: str, arn: str, expression: str, targets: Sequence[tuple[str, bytes | None]],
            enabled: bool) -> None:
        """Begin to keep a schedule; the first time comes after one interval, as on AWS.

        DeployError for a name that is taken, a faulty expression, and one whose time never comes.
        """
        if name in self._rules:
            raise DeployError(f"rule {name} exists already; delete it, or take Name out")
        following = read_schedule(expression)
        if following(self._clock()) is None:
            raise DeployError(f"ScheduleExpression {expression}: it names no moment to come")
        rule = self._rules[name] = ScheduledRule(name, arn, following, targets, enabled)
        if enabled:
            rule.task = asyncio.create_task(self._keep(rule))

    def rule(self, name: str) -> ScheduledRule:
        """The rule of this name; KeyError."""
        return self._rules[name]

    def names(self) -> list[str]:
        """The names of all rules, sorted."""
        return sorted(self._rules)

    async def fire(self, name: str) -> list[str]:
        """Invoke the rule's functions now, as its time does; returns their names. DeployError for an unknown rule."""
        if name not in self._rules:
            raise DeployError(f"there is no scheduled rule {name!r}; there are {', '.join(self.names()) or 'none'}")
        rule = self._rules[name]
        rule.counters["fired"] += 1
        for function_name, given in rule.targets:
            function = self._functions.by_name(function_name)
            if function is None:
                log.error("schedule %s: its target %s is gone", name, function_name)
                continue
            await function.invoke_async(given if given is not None else self._event(rule))
            rule.counters["invocations"] += 1
        return [function_name for function_name, _ in rule.targets]

    def _event(self, rule: ScheduledRule) -> dict[str, Any]:
        """What a scheduled rule hands to its targets."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return {"version": "0", "id": str(uuid.uuid4()), "detail-type": "Scheduled Event", "source": "aws.events",
                "account": self._account_id, "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "region": self._region,
                "resources": [rule.arn], "detail": {}}

    async def _keep(self, rule: ScheduledRule) -> None:
        due_s = self._clock()
        while (following_s := rule.following(max(due_s, self._clock() - UNIT_S["minute"]))) is not None:
            due_s = rule.next_s = following_s
            await asyncio.sleep(max(0.0, due_s - self._clock()))
            await self.fire(rule.name)
        rule.next_s = None
        log.info("schedule %s has come for the last time", rule.name)

    async def remove(self, name: str) -> None:
        """Forget a rule."""
        rule = self._rules.pop(name)
        if rule.task is not None:
            rule.task.cancel()
            await asyncio.gather(rule.task, return_exceptions=True)

    async def close(self) -> None:
        """Forget all of them."""
        for name in self.names():
            await self.remove(name)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Counters and the next time of each, for the control port."""
        return {rule.name: {"enabled": rule.enabled, "next": rule.next_s, **rule.counters}
                for rule in self._rules.values()}


def read_schedule(expression: str) -> Following:
    """The times of rate(5 minutes) or cron(0 6 * * ? *), in UTC. DeployError for one that AWS would refuse,
    Unsupported for L, W and # in a cron expression."""
    rate, cron = _RATE.fullmatch(expression), _CRON.fullmatch(expression)
    if rate:
        value, unit, plural = int(rate[1]), rate[2], rate[3]
        if value < 1 or bool(plural) != (value > 1):
            raise DeployError(f"ScheduleExpression {expression}: AWS wants rate(1 {unit}) or rate(2 {unit}s)")
        return lambda after_s: after_s + value * UNIT_S[unit]
    if cron:
        return _cron(expression, cron.groups())
    raise DeployError(f"ScheduleExpression {expression!r}: expected rate(5 minutes) or cron(0 6 * * ? *)")


def _cron(expression: str, texts: Sequence[str]) -> Following:
    if [texts[2], texts[4]].count("?") != 1:
        raise DeployError(f"ScheduleExpression {expression}: one of day of month and day of week must be '?'")
    minutes, hours, days, months, weekdays, years = (
        _values(expression, text, *bounds) for text, bounds in zip(texts, _FIELDS, strict=True))

    def fits(day: datetime) -> bool:
        weekday = day.isoweekday() % 7 + 1  # AWS begins with Sunday, 1
        return day.day in days and day.month in months and weekday in weekdays and day.year in years

    def following(after_s: float) -> float | None:
        earliest = datetime.fromtimestamp(after_s, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        midnight = earliest.replace(hour=0, minute=0)
        for day in filter(fits, (midnight + timedelta(days=number) for number in range(MOST_DAYS))):
            for hour, minute in product(hours, minutes):
                moment = day.replace(hour=hour, minute=minute)
                if moment >= earliest:
                    return moment.timestamp()
        return None

    return following


def _values(expression: str, text: str, name: str, low: int, high: int) -> list[int]:
    """The numbers that one field of a cron expression allows, in ascending order."""
    found: set[int] = set()
    for part in text.split(","):
        matched = re.fullmatch(r"(\*|\?|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if not matched:
            raise Unsupported(f"ScheduleExpression {expression}: {name} {part!r} is not emulated; numbers, *, ranges, "
                              "lists and steps are")
        every = matched[1] in ("*", "?")
        start = low if every else int(matched[2])
        end = high if every or (matched[4] and not matched[3]) else int(matched[3] or matched[2])
        if not low <= start <= end <= high:
            raise DeployError(f"ScheduleExpression {expression}: {name} {part!r} is not within {low} to {high}")
        found.update(range(start, end + 1, int(matched[4] or 1)))
    return sorted(found)
