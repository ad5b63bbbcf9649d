"""IoT rules: messages come from the gateway, each matching rule's SQL is evaluated, and its actions (actions.py) take
the output; what no try could deliver goes to the rule's error action."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from local_cloud.actions import Action, Actions
from local_cloud.cost.meter import IOT_STEP_BYTES, steps
from local_cloud.errors import DeployError, Unsupported
from local_cloud.properties import flag, refuse_unknown
from local_cloud.rule_sql import NO_OUTPUT, Message, SqlError, Statement, compile_statement, to_payload, topic_matches
from local_cloud.rule_sql import Unsupported as UnsupportedSql
from local_cloud.rule_sql.functions import Function, shadow

log = logging.getLogger(__name__)

MAX_ACTIONS = 10
_NAME = re.compile("[a-zA-Z0-9_]{1,128}")
_HONOURED = {"Sql", "AwsIotSqlVersion", "Actions", "ErrorAction", "RuleDisabled", "Description"}
# (rule, thing, its named shadow or None for the classic one, the role's ARN): the shadow's document; raises otherwise.
ReadShadow = Callable[[str, str, str | None, str], bytes]


class Publish(Protocol):
    """What the engine reads of an accepted PUBLISH; rule_name is set for Basic Ingest."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def principal(self) -> str | None: ...
    @property
    def source_ip(self) -> str | None: ...
    @property
    def rule_name(self) -> str | None: ...
    @property
    def mqtt5(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class Rule:
    """One rule, compiled. `counters`: messages it evaluated, fired on, and what became of its actions; `outcomes`: the
    same by CloudWatch's metric (Success, Failure, ErrorActionSuccess, ErrorActionFailure) and type of action."""

    name: str
    statement: Statement
    actions: list[Action]
    error_action: Action | None
    enabled: bool
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(
        ("evaluated", "rule_units", "fired", "sql_failures", "actions", "action_units", "failed_tries",
         "failed_actions", "error_actions", "failed_error_actions"), 0))
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


class RuleEngine:
    """All rules of one account. An action is tried once before handle() returns and again after each of
    retry_delays_s behind it. `counters` are of the engine, `rule(name).counters` of a rule."""

    def __init__(self, account_id: str, region: str, actions: Actions,
                 retry_delays_s: tuple[float, ...] = (0.1, 0.5)) -> None:
        self.account_id = account_id
        self.region = region
        self.counters = {"messages": 0, "rule_units": 0, "rule_not_found": 0}
        self.not_found: Counter[str] = Counter()  # by the name that a message asked for
        self.guard: Callable[[str, Mapping[str, Any], Statement, Action], Action] | None = None  # asks the rule's role
        self.read_shadow: ReadShadow | None = None  # for get_thing_shadow(), which without it is refused
        self._actions = actions
        self._retry_delays_s = retry_delays_s
        self._rules: dict[str, Rule] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def create(self, rule_name: str, payload: Mapping[str, Any]) -> Rule:
        """A rule from a TopicRulePayload; Unsupported or DeployError for what would not run."""
        if not _NAME.fullmatch(rule_name):
            raise DeployError(f"RuleName: {rule_name!r} must match {_NAME.pattern}")
        if rule_name in self._rules:
            raise DeployError(f"RuleName: a rule named {rule_name} exists; delete it or choose another name")
        refuse_unknown("TopicRulePayload", payload, _HONOURED)
        if lacking := [name for name in ("Sql", "Actions") if name not in payload]:
            raise DeployError(f"TopicRulePayload: it has no {' and no '.join(lacking)}")
        if len(payload["Actions"]) > MAX_ACTIONS:
            raise DeployError(f"Actions: {len(payload['Actions'])} actions, a rule has at most {MAX_ACTIONS}")
        rule = self._rules[rule_name] = self._compile(rule_name, payload)
        return rule

    def _compile(self, rule_name: str, payload: Mapping[str, Any]) -> Rule:
        try:
            statement = compile_statement(payload["Sql"], payload.get("AwsIotSqlVersion"), self._services(rule_name))
            actions = [self._action(rule_name, each, statement) for each in payload["Actions"]]
            error = payload.get("ErrorAction")
            error_action = self._action(rule_name, error, statement) if error else None
        except UnsupportedSql as fault:
            raise Unsupported(f"Sql of rule {rule_name}: {fault}") from fault
        except SqlError as fault:
            raise DeployError(f"Sql of rule {rule_name}: {fault}") from fault
        enabled = not flag("RuleDisabled", payload.get("RuleDisabled", False))
        return Rule(rule_name, statement, actions, error_action, enabled)

    def _services(self, rule_name: str) -> dict[str, Function]:
        """What this rule's SQL may call besides functions of the message."""
        return {shadow.NAME: shadow.get_thing_shadow(partial(self._shadow, rule_name))} if self.read_shadow else {}

    def _shadow(self, rule_name: str, thing: str, name: str | None, role_arn: str) -> bytes | None:
        """A shadow for a rule's SQL; None, and a line in the log, when it cannot be read."""
        assert self.read_shadow is not None
        try:
            return self.read_shadow(rule_name, thing, name, role_arn)
        except Exception as fault:  # as with an action: whatever it is, the message goes on
            log.error("rule %s: get_thing_shadow of thing %s%s failed: %s: %s", rule_name, thing,
                      f", shadow {name}" if name else "", type(fault).__name__, fault)
            return None

    def _action(self, rule_name: str, specification: Mapping[str, Any], statement: Statement) -> Action:
        action = self._actions.compile(specification, statement)
        return self.guard(rule_name, specification, statement, action) if self.guard else action

    def rule(self, name: str) -> Rule:
        """The rule of this name; KeyError."""
        return self._rules[name]

    def names(self) -> list[str]:
        """The names of all rules, sorted."""
        return sorted(self._rules)

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Switch a rule on or off; KeyError for an unknown name."""
        self._rules[name].enabled = enabled

    def delete(self, name: str) -> None:
        """Forget a rule; KeyError for an unknown name. Actions under way end as they would."""
        del self._rules[name]

    def idle(self) -> bool:
        """No action waits for another try."""
        return not self._tasks

    async def drain(self) -> None:
        """Wait until every action has succeeded or been given up."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Drop what still waits for another try."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def handle(self, publish: Publish) -> None:
        """Run the rules that a message is for: the named one (Basic Ingest), else all whose topic filter matches.
        Returns when every action was tried once; an action's failure is not the publisher's."""
        self.counters["messages"] += 1
        message = Message(publish.topic, publish.payload, client_id=publish.client_id, account_id=self.account_id,
                          source_ip=publish.source_ip, principal=publish.principal, mqtt5=publish.mqtt5,
                          rule_name=publish.rule_name)
        await asyncio.gather(*(self._apply(rule, message) for rule in self._chosen(message)))

    def _chosen(self, message: Message) -> list[Rule]:
        enabled = [rule for rule in self._rules.values() if rule.enabled]
        if message.rule_name is None:
            return [rule for rule in enabled if rule.statement.topic_filter is not None
                    and topic_matches(rule.statement.topic_filter, message.topic)]
        named = [rule for rule in enabled if rule.name == message.rule_name]
        if not named:
            self.counters["rule_not_found"] += 1
            self.not_found[message.rule_name] += 1
            log.error("RuleNotFound: %s published to rule %s, which does not exist or is disabled; rules are %s",
                      message.client_id, message.rule_name, ", ".join(self.names()) or "none")
        return named

    async def _apply(self, rule: Rule, message: Message) -> None:
        rule.counters["evaluated"] += 1
        units = steps(len(message.payload), IOT_STEP_BYTES)
        self.counters["rule_units"] += units
        rule.counters["rule_units"] += units
        try:
            output = rule.statement.evaluate(message)
        except Exception as fault:
            # As on AWS: SQL that fails at run time reaches the logs, never the error action.
            rule.counters["sql_failures"] += 1
            log.error("rule %s: its SQL failed on a message on %s: %s: %s", rule.name, message.topic,
                      type(fault).__name__, fault)
            return
        if output is NO_OUTPUT:
            return
        rule.counters["fired"] += 1
        faults = await asyncio.gather(*(self._try(rule, action, message, output) for action in rule.actions))
        failed = [action for action, fault in zip(rule.actions, faults, strict=True) if fault is not None]
        rule.outcomes.update(("Success", action.name) for action in rule.actions if action not in failed)
        if failed:
            again = self._retry(rule, message, output, failed)
            self._tasks.add(task := asyncio.create_task(again))
            task.add_done_callback(self._tasks.discard)

    async def _try(self, rule: Rule, action: Action, message: Message, output: Any) -> Exception | None:
        try:
            await action.run(message, output)
        except Exception as fault:
            rule.counters["failed_tries"] += 1
            log.info("rule %s: %s on %s failed: %s: %s", rule.name, action.name, action.resource,
                     type(fault).__name__, fault)
            return fault
        rule.counters["actions"] += 1
        rule.counters["action_units"] += _action_units(message, output)
        return None

    async def _try_again(self, rule: Rule, action: Action, message: Message, output: Any) -> Exception | None:
        fault: Exception | None = None
        for delay_s in self._retry_delays_s:
            await asyncio.sleep(delay_s)
            fault = await self._try(rule, action, message, output)
            if fault is None:
                return None
        return fault

    async def _retry(self, rule: Rule, message: Message, output: Any, actions: list[Action]) -> None:
        faults = await asyncio.gather(*(self._try_again(rule, action, message, output) for action in actions))
        failures = [{"failedAction": action.name, "failedResource": action.resource,
                     "errorMessage": f"{type(fault).__name__}: {fault}"}
                    for action, fault in zip(actions, faults, strict=True) if fault is not None]
        rule.outcomes.update(("Success" if fault is None else "Failure", action.name)
                             for action, fault in zip(actions, faults, strict=True))
        if not failures:
            return
        rule.counters["failed_actions"] += len(failures)
        log.error("rule %s: %d actions failed for good on a message on %s: %s", rule.name, len(failures),
                  message.topic, failures[0]["errorMessage"])
        if rule.error_action is not None:
            await self._report(rule, rule.error_action, message, failures)

    async def _report(self, rule: Rule, action: Action, message: Message, failures: list[dict[str, str]]) -> None:
        """One error message per rule and message, to the rule's error action."""
        report = {"ruleName": rule.name, "topic": message.topic, "cloudwatchTraceId": message.trace_id,
                  "clientId": message.client_id,
                  "base64OriginalPayload": base64.b64encode(message.payload).decode(), "failures": failures}
        fault = await self._try(rule, action, message, report)
        if fault is not None:
            fault = await self._try_again(rule, action, message, report)
        rule.counters["error_actions"] += 1
        rule.outcomes["ErrorActionSuccess" if fault is None else "ErrorActionFailure", action.name] += 1
        if fault is not None:
            rule.counters["failed_error_actions"] += 1
            log.error("rule %s: its error action %s on %s failed too (%s: %s); the message is lost: %s", rule.name,
                      action.name, action.resource, type(fault).__name__, fault, json.dumps(report)[:500])


def _action_units(message: Message, output: Any) -> int:
    """What AWS meters for an action: steps of 5 KB of the output."""
    try:
        size_bytes = len(to_payload(output))
    except TypeError:  # a binary payload as a member: no JSON, yet a table takes it
        size_bytes = len(message.payload)
    return steps(size_bytes, IOT_STEP_BYTES)
