"""`make verify RULES=1`: a temporary rule per case of rule SQL in the cloud, compared with the local evaluator's
answer; the differences go to a file that can be sent to us.

A case is run as a Basic Ingest message to its own rule, which republishes what the SQL gives; cases that need a message
context of their own (a client id, a time) cannot be run so, and are named as left out.
"""
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from contract import numbers
from deploy.device_connection import ConnectionFault, DeviceConnection
from deploy.processes import ROOT, python_module
from deploy.target import Target
from deploy.verify_rules_access import Access

SQL_VERSION = "2016-03-23"
PER_S = 40  # publishes, and as many answers: below the 100 a second of a connection
CALLS_PER_S = 4  # CreateTopicRule: AWS takes 5 a second
ROUNDS = 6
NO_OUTPUT: dict[str, Any] = {"$no_output": True}


@dataclass(frozen=True)
class Executed:
    """A case as it is run: its rule's SQL, what is published where, where the rule republishes to. For a template, the
    answer is the end of that topic."""

    case_id: str
    rule: str
    sql: str
    topic: str
    payload: bytes
    out: str
    template: str = ""

    def for_local(self, case: dict[str, Any]) -> dict[str, Any]:
        """The very same as a case for the local evaluator."""
        kept: dict[str, Any] = {key: case[key] for key in ("payload", "payload_raw", "payload_raw_hex") if key in case}
        same: dict[str, Any] = {"id": self.case_id, "kind": "rule", "sql": self.sql, "topic": self.topic,
                                "rule_name": self.rule, **kept}
        return {**same, "kind": "template", "template": self.template} if self.template else same


def executed(case: dict[str, Any], number: int, access: Access) -> Executed | str:
    """How to run a case, or why it cannot be run."""
    if "context" in case or "rule_name" in case or str(case.get("topic", "")).startswith("$"):
        return "it needs a message context of its own"
    rule, kind = access.rule(number), case["kind"]
    topic, out = f"$aws/rules/{rule}/{case.get('topic') or 'verify'}", access.out(number)
    if kind == "topic_filter":
        if case["filter"].startswith("$"):
            return "it needs a reserved topic"
        base = access.plain(number)
        return Executed(case["id"], rule, f"SELECT 1 AS fired FROM '{base}/{case['filter']}'",
                        f"{base}/{case['topic']}", b"{}", out)
    sql = f"SELECT VALUE {case['expr']}" if kind == "expr" else case.get("sql") or "SELECT *"
    return Executed(case["id"], rule, sql, topic, payload_of(case), out, case.get("template", ""))


def payload_of(case: dict[str, Any]) -> bytes:
    """The bytes to publish."""
    if "payload_raw_hex" in case:
        return bytes.fromhex(case["payload_raw_hex"])
    if "payload_raw" in case:
        return str(case["payload_raw"]).encode()
    return numbers.dumps(case["payload"]).encode() if case.get("payload") is not None else b""


def local_answers(cases: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """{case id: answer} of `python -m local_cloud.rule_sql`."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cases.json"
        path.write_text(numbers.dumps(list(cases)), encoding="utf-8")
        done = subprocess.run(python_module("local_cloud.rule_sql", "--cases", str(path)), cwd=ROOT, check=True,
                              capture_output=True, text=True)
    answers = (_loads(line) for line in done.stdout.splitlines())
    return {answer["id"]: answer["got"] for answer in answers}


def agrees(local: Any, cloud: Any) -> bool:
    """Whether both answers mean the same. cloud: bytes of the payload, text of a template, NO_OUTPUT, or an error."""
    if isinstance(local, dict) and "$error" in local:
        return isinstance(cloud, dict) and "$error" in cloud
    if not isinstance(cloud, bytes):
        return bool(local == cloud)
    if isinstance(local, dict) and "$raw_hex" in local:
        return cloud.hex() == local["$raw_hex"]
    if local == "":
        return cloud in (b"", b'""')
    return bool(_value(cloud) == local or cloud.decode("utf-8", "replace") == local)


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def _value(payload: bytes) -> Any:
    try:
        return _loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")


class Comparison:
    """The cases that can be run, in one cloud, by one temporary identity."""

    def __init__(self, target: Target, access: Access, cases: list[dict[str, Any]]) -> None:
        self._target, self._access = target, access
        self._cases = {case["id"]: case for case in cases}
        planned = {case["id"]: executed(case, number, access) for number, case in enumerate(cases)}
        self.left_out = {case_id: plan for case_id, plan in planned.items() if isinstance(plan, str)}
        self.executed = {case_id: plan for case_id, plan in planned.items() if isinstance(plan, Executed)}
        self.local = local_answers(plan.for_local(self._cases[case_id]) for case_id, plan in self.executed.items())
        self.cloud: dict[str, Any] = dict.fromkeys(self.executed, NO_OUTPUT)
        self._created: list[str] = []

    def create(self) -> None:
        """A rule for each; SQL that the cloud refuses is its answer."""
        iot, role_arn = self._target.client("iot"), self._access.role_arn
        for plan in self.executed.values():
            self._pause()
            self._created.append(plan.rule)
            topic = f"{plan.out}/{plan.template}" if plan.template else plan.out
            try:
                iot.create_topic_rule(ruleName=plan.rule, topicRulePayload={
                    "sql": plan.sql, "awsIotSqlVersion": SQL_VERSION, "ruleDisabled": False,
                    "actions": [{"republish": {"topic": topic, "qos": 1, "roleArn": role_arn}}]})
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("SqlParseException", "InvalidRequestException"):
                    raise
                self.cloud[plan.case_id] = {"$error": error.response["Error"]["Message"]}

    def _pause(self) -> None:
        if not self._target.is_local:
            time.sleep(1 / CALLS_PER_S)

    def run(self, connection: DeviceConnection) -> None:
        """Publish each case's message until what should answer has answered; a rule that is new may miss the first."""
        expected = {case_id for case_id, answer in self.local.items() if answer != NO_OUTPUT
                    and not (isinstance(answer, dict) and "$error" in answer)}
        within_s = self._target.deadline_s / ROUNDS
        for attempt in range(ROUNDS):
            waiting = [plan for case_id, plan in self.executed.items() if self.cloud[case_id] == NO_OUTPUT
                       and (attempt == 0 or case_id in expected)]
            for plan in waiting:
                connection.publish(plan.topic, plan.payload)
                time.sleep(1 / PER_S)
            if connection.wait_for(lambda: self._collected(connection.received) >= expected, within_s):
                break
        # What should not answer gets as long again, on AWS, to do so nevertheless.
        connection.wait_for(lambda: len(self._collected(connection.received)) == len(self.executed),
                            1.0 if self._target.is_local else within_s / 3)

    def _collected(self, received: list[tuple[str, bytes]]) -> set[str]:
        """Note every answer; the ids of the cases that have one."""
        by_out = {plan.out: plan for plan in self.executed.values()}
        for topic, payload in list(received):
            head = "/".join(topic.split("/")[:4])
            if head in by_out:
                plan = by_out[head]
                self.cloud[plan.case_id] = topic[len(head) + 1:] if plan.template else payload
        return {case_id for case_id, answer in self.cloud.items() if answer != NO_OUTPUT}

    def delete(self) -> list[str]:
        """Delete every rule that was begun; names what stays behind."""
        left = []
        for rule in self._created:
            self._pause()
            try:
                self._target.client("iot").delete_topic_rule(ruleName=rule)
            except (ClientError, BotoCoreError) as error:
                left.append(f"rule {rule}: {error}")
        return left

    def differences(self) -> list[dict[str, Any]]:
        """What does not agree, with everything needed to look into it."""
        return [{"id": plan.case_id, "sql": plan.sql, "topic": plan.topic, "payload_hex": plan.payload.hex(),
                 "local": self.local[plan.case_id], "cloud": _shown(self.cloud[plan.case_id])}
                for plan in self.executed.values() if not agrees(self.local[plan.case_id], self.cloud[plan.case_id])]


def _shown(answer: Any) -> Any:
    return {"text": answer.decode("utf-8", "replace"), "hex": answer.hex()} if isinstance(answer, bytes) else answer


def compare(target: Target, root_ca: Path, cases: Path, out: Path, say: Callable[[str], None] = print) -> bool:
    """Run the cases of a file, write the differences, clean up; True when there are none."""
    access = Access(target)
    comparison = Comparison(target, access, _loads(cases.read_text(encoding="utf-8")))
    say(f"rule SQL: {len(comparison.executed)} cases, each a temporary rule; {len(comparison.left_out)} left out")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            files = access.create(Path(scratch), root_ca)
            comparison.create()
            host, port = target.gateway()
            with DeviceConnection(host, port, access.name, files, is_ours=access.is_ours) as connection:
                connection.connect(target.deadline_s)
                connection.subscribe(f"{access.out_prefix}/#")
                comparison.run(connection)
        except ConnectionFault as fault:
            say(f"✗ rule SQL: {fault}")
            return False
        finally:
            for left in (*comparison.delete(), *access.delete()):
                say(f"left behind: {left}")
    found = comparison.differences()
    out.write_text(numbers.dumps({
        "region": target.settings.region, "local": target.is_local, "version": target.settings.version,
        "compared": len(comparison.executed), "left_out": comparison.left_out, "differences": found}) + "\n",
        encoding="utf-8")
    say(f"{'✗' if found else '✓'} rule SQL: {len(comparison.executed) - len(found)} of {len(comparison.executed)} agree"
        + f"; {out} has the details" + ("" if target.is_local or not found else ": please send it to us"))
    return not found
