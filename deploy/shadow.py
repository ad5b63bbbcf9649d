"""`make shadow`: shows how a site's bridge is set and how it goes, from its device shadow; SET="name=value …" changes
settings of the running bridge and waits for its answer, SET="name=" and CLEAR=1 give them back to the bridge."""
import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from contract import numbers, shadow, topics
from contract.errors import BadPayload
from deploy import command
from deploy.target import Target, TargetFault

ANSWER_S = 30.0
LIVE = "live"  # in SET: live=10m in place of live_until
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def parsed(text: str, now_s: float) -> dict[str, Any]:
    """What SET asks for: {name: value, None to take it away}. Raises TargetFault."""
    desired: dict[str, Any] = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise TargetFault(f"SET: {word!r}; expected name=value, such as SET=\"batch_age_s=2 log_level=DEBUG\"")
        if name == LIVE:
            name, value = "live_until", _until(value, now_s) if value else ""
        desired[name] = _value(value)
    wanted = {name: value for name, value in desired.items() if value is not None}
    try:
        shadow.check(wanted, {str(wanted.get("detector"))})  # which detectors there are, the bridge knows
        shadow.check(dict.fromkeys(desired.keys() - set(shadow.NAMES)), ())
    except BadPayload as error:
        raise TargetFault(f"SET: {error.detail}") from None
    return desired


def _until(text: str, now_s: float) -> str:
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if not found:
        raise TargetFault(f"SET: live={text}; expected how long, such as live=10m")
    return str(int(now_s) + int(found.group(1)) * _UNITS_S[found.group(2)])


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        return numbers.loads(text)
    except BadPayload:
        return text


class Remote:
    """One thing's shadow, through the data API. say: where the lines go."""

    def __init__(self, target: Target, thing: str, say: Callable[[str], None] = print) -> None:
        self._target, self._thing, self._say = target, thing, say
        self._client = target.client("iot-data")

    def document(self) -> dict[str, Any]:
        """Its state and version; {} when the bridge never reported and nobody asked. Raises TargetFault."""
        try:
            answer = self._client.get_thing_shadow(thingName=self._thing, shadowName=topics.SHADOW)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return {}
        document: dict[str, Any] = json.loads(answer["payload"].read())
        return document

    def desire(self, desired: dict[str, Any] | None) -> int:
        """Ask for this; None: for nothing any more. Returns the version that the bridge will answer."""
        request = numbers.dumps({"state": {"desired": desired}})
        answer = self._client.update_thing_shadow(thingName=self._thing, shadowName=topics.SHADOW,
                                                  payload=request.encode())
        return int(json.loads(answer["payload"].read())["version"])

    def answered(self, version: int, within_s: float) -> bool:
        """Wait for the bridge's answer and say it; False when there is none, or it refuses."""
        deadline_s = time.monotonic() + within_s
        while (reported := _reported(self.document())).get(shadow.ANSWERS, -1) < version:
            if time.monotonic() >= deadline_s:
                self._say(f"no answer from the bridge in {within_s:g} s; it answers when it is connected (does it run? "
                          "SHADOW=on? a policy of this version? see docs/remote.md)")
                return False
            time.sleep(self._target.poll_s)
        refused = reported.get(shadow.REFUSED)
        self._say(f"refused, nothing changed: {refused['reason']}" if refused else "applied")
        return not refused

    def show(self) -> None:
        """Say what is asked for, what holds, and how the bridge goes."""
        document = self.document()
        if not document:
            self._say(f"{self._thing} has no shadow {topics.SHADOW}: its bridge never reported; see docs/remote.md")
            return
        state, reported = document["state"], _reported(document)
        self._say(f"shadow {topics.SHADOW} of {self._thing}, version {document['version']}")
        self._say(f"asked for:  {_pairs(state.get('desired', {})) or 'nothing; the bridge has its own settings'}")
        if reported:
            self._say(f"holds:      {_pairs({name: reported[name] for name in shadow.NAMES if name in reported})}")
            for line in _how_it_goes(reported):
                self._say(line)


def _reported(document: dict[str, Any]) -> dict[str, Any]:
    return dict(document.get("state", {}).get("reported", {}))


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_time(value) if name == 'live_until' else value}" for name, value in values.items())


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(float(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _how_it_goes(reported: dict[str, Any]) -> list[str]:
    ledger = dict(reported.get("ledger", {}))
    at_ms = ledger.pop("at", 0)
    links = ", ".join(f"{link} {'up' if up else 'down'}" for link, up in reported.get("connected", {}).items())
    alarms = ", ".join(reported.get("alarms", [])) or "none"
    lines = [f"bridge:     {reported.get('version')}, {links}; alarms: {alarms}",
             f"ledger:     {_pairs(ledger)} (at {_time(at_ms / 1000)}; the status topic has it every 30 s)"]
    refused = reported.get(shadow.REFUSED)
    return [*lines, f"refused:    version {refused['version']}: {refused['reason']}"] if refused else lines


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; empty strings are what an unset make variable gives."""
    parser = argparse.ArgumentParser(prog="make shadow", description=__doc__)
    command.where(parser)
    command.which_thing(parser)
    parser.add_argument("--set", default="", metavar="NAME=VALUE …", help=f"of {', '.join(shadow.NAMES)}, {LIVE}=10m")
    parser.add_argument("--clear", action="store_true", help="ask for nothing any more")
    parser.add_argument("--wait", type=float, default=ANSWER_S, metavar="SECONDS", help="for the bridge's answer")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when what was asked for holds; 1 when the bridge refuses it or does not answer."""
    asked = arguments(argv)
    place = command.target_of(asked)
    remote = Remote(place, command.thing_of(asked, place))
    done = True
    if asked.clear or asked.set:
        done = remote.answered(remote.desire(None if asked.clear else parsed(asked.set, time.time())), asked.wait)
    remote.show()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(command.run(main, "shadow"))
