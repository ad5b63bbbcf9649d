"""`make verify`: 200 readings, 20 events and an alert through the real endpoint, then every hop compared with them.

Prints ✓ or ✗ per hop with how long it took; cleans up behind itself. RULES=1 also compares the rule SQL, case by case
(verify_rules.py). Tested against the local cloud; nobody has run it on AWS yet.
"""
import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from contract import topics
from deploy import command
from deploy.certificates import ROOT_CA
from deploy.device_connection import ConnectionFault, DeviceConnection
from deploy.provision_files import find
from deploy.target import Target, TargetFault
from deploy.users import users_of, visitor
from deploy.verify_cleanup import Cleanup
from deploy.verify_hops import Hops, received_ids
from deploy.verify_messages import Message, Run
from deploy.verify_rules import compare

ARCHIVE_S = 900.0  # Firehose holds back for 5 minutes
BRIDGE_RUNS_S = 90.0


class Verification:
    """One run against one target. say: where the lines go."""

    def __init__(self, target: Target, thing: str, directory: Path, say: Callable[[str], None] = print) -> None:
        self._target, self._directory, self._say = target, directory, say
        self.run = Run(target.settings, thing)
        self.messages = self.run.messages()
        self._ids = {message.id for message in self.messages if message.id}
        self._receipted: set[str] = set()
        self.hops = Hops(target, self.run, self.messages)
        self.failed: list[str] = []

    def bridge_age_s(self) -> float | None:
        """Seconds since the thing's bridge last told its ledger; None when it never did."""
        sites = self._target.get("/status?limit=1000")["sites"]
        return next((float(site["age_s"]) for site in sites if site["site"] == self.run.thing
                     and not str(site.get("version", "")).startswith("verify")), None)

    def verify(self) -> bool:
        """Every hop, then the clean-up; True when all agree."""
        cleanup = Cleanup(self._target, self.run, self.hops, self._say)
        cleanup.remember()
        host, port = self._target.gateway()
        files = find(self._directory, self.run.thing).files(self._directory / ROOT_CA)
        try:
            with DeviceConnection(host, port, self.run.thing, files, is_ours=self._is_ours) as connection:
                if self._hop(f"connect     {host}:{port} as {self.run.thing}, mutual TLS", lambda: _connected(
                        connection, self._target.deadline_s)):
                    self._hop(f"publish     {len(self.messages)} messages, PUBACK 0", lambda: self._publish(connection))
                    self._hop(f"receipts    {len(self._ids)} messages stored", lambda: self._receipts(connection))
            if not self.failed or len(self._receipted):
                self._look()
        finally:
            cleanup.clean()
        return not self.failed

    def _look(self) -> None:
        within_s, hops = self._target.deadline_s, self.hops
        archive_s = within_s if self._target.is_local else ARCHIVE_S
        for title, hop, deadline_s in (
                ("tables      readings, events, alert in DynamoDB", hops.tables, within_s),
                ("roll-ups    the minutes add up", hops.minutes, within_s),
                ("API         the same over HTTP", hops.api, within_s),
                ("ledger      GET /status", hops.ledger, within_s),
                ("archive     every message in S3", hops.archive, archive_s)):
            self._hop(title, partial(self._eventually, hop, deadline_s))

    def _hop(self, title: str, work: Callable[[], str]) -> bool:
        """Run one hop, print its line; True when there is no fault."""
        started_s = time.monotonic()
        try:
            fault = work()
        except (ConnectionFault, TargetFault) as error:
            fault = str(error)
        took = f"{time.monotonic() - started_s:6.1f} s"
        self._say(f"{'✗' if fault else '✓'} {took}  {title}" + (f"\n            {fault}" if fault else ""))
        if fault:
            self.failed.append(title.split()[0])
        return not fault

    def _eventually(self, hop: Callable[[], str], within_s: float) -> str:
        """"" as soon as the hop has no fault, else its last one."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                fault = hop()
            except TargetFault as error:
                fault = str(error)
            if not fault or time.monotonic() > deadline_s:
                return fault
            time.sleep(self._target.poll_s)

    def _is_ours(self, topic: str, payload: bytes) -> bool:
        """A receipt for what this run published, and for nothing else."""
        ids = set(received_ids(payload))
        self._receipted |= ids & self._ids
        return bool(ids) and ids <= self._ids

    def _publish(self, connection: DeviceConnection) -> str:
        connection.subscribe(topics.receipts(self.run.thing))
        for message in self.messages:
            connection.publish(message.topic, message.payload)
        return ""

    def _receipts(self, connection: DeviceConnection) -> str:
        """Again what has no receipt yet: as a bridge does, since a rule that is new may miss the first."""
        if not self._target.settings.receipts:
            return ""
        for _ in range(3):
            if connection.wait_for(lambda: self._receipted >= self._ids, self._target.deadline_s / 3):
                return ""
            for message in self._unreceipted():
                connection.publish(message.topic, message.payload)
        missing = self._unreceipted()
        return f"no receipt for {len(missing)} of {len(self._ids)}: {', '.join(m.route for m in missing)}"

    def _unreceipted(self) -> list[Message]:
        return [message for message in self.messages if message.id and message.id not in self._receipted]


def _connected(connection: DeviceConnection, within_s: float) -> str:
    connection.connect(within_s)
    return ""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make verify", description=__doc__)
    command.where(parser)
    command.which_thing(parser)
    parser.add_argument("--force", action="store_true", help="also while the thing's bridge is connected")
    parser.add_argument("--rules", action="store_true", help="compare the rule SQL too, case by case")
    parser.add_argument("--cases", type=Path, default=Path("tests/data/rule_sql_cases.json"))
    parser.add_argument("--out", type=Path, default=Path("verify-rules.json"), help="file for the differences")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when every hop (and every rule case) agrees."""
    asked = arguments(argv)
    target, directory = command.target_of(asked), command.certs_directory(asked)
    with visitor(users_of(target.parameter, target.client("cognito-idp"))) as token:
        return _verify(replace(target, token=token), directory, asked)


def _verify(target: Target, directory: Path, asked: argparse.Namespace) -> int:
    verification = Verification(target, command.thing_of(asked, target), directory)
    thing, age_s = verification.run.thing, verification.bridge_age_s()
    if age_s is not None and age_s < BRIDGE_RUNS_S and not asked.force:
        raise TargetFault(f"a bridge told its ledger as {thing} {age_s:.0f} s ago, and AWS IoT lets a name connect "
                          "once: stop the bridge (it loses nothing, the LAN side waits) or take FORCE=1")
    print(f"verify: {target.settings.name} in {target.settings.region}"
          f"{' (local cloud)' if target.is_local else ''}, devices {verification.run.sensor} and "
          f"{verification.run.camera}")
    agree = verification.verify()
    if asked.rules:
        agree = compare(target, directory / ROOT_CA, asked.cases, asked.out) and agree
    print("verify: all agree" if agree else "verify: not all agree", file=sys.stdout if agree else sys.stderr)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(command.run(main, "verify"))
