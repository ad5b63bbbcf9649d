"""What the bridge reports in its shadow, and when: made of the status and of what shadow.py has applied. Every report
is paid for, so only what changed goes out, at once only when it answers somebody."""
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from contract import shadow

LEDGER = ("committed", "sent", "delivered", "dropped", "dead_lettered", "lost", "anomalies")
LEDGER_EVERY_S = 900.0  # the status topic has it every STATUS_INTERVAL
LEAST_S = 0.25  # between any two: batches share the connection's limits with them
AGAIN_S = 60.0  # before the very same is sent again: it did not hold the last time
_ANSWERING = {*shadow.NAMES, shadow.ANSWERS, shadow.REFUSED}
_SLOW = {"ledger"}


def summary(status: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The reported state, under 1 kB: what answers the desired one, and the status in short."""
    return {
        "v": 1, "version": status["version"], "started": status["started"], **answer,
        "connected": dict(status["connected"]), "alarms": sorted(status["alarms"]),
        "ledger": {"at": status["at"], **{name: status[name] for name in LEDGER},
                   "waiting": sum(status["waiting"].values())},
    }


def merged(before: Mapping[str, Any], patch: Mapping[str, Any] | None) -> dict[str, Any]:
    """A section after a patch, as the cloud merges it: None takes a member away."""
    after = dict(before) if patch is not None else {}
    for name, value in (patch or {}).items():
        if isinstance(value, dict):
            held = after.get(name)
            value = merged(held if isinstance(held, dict) else {}, value) or None
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest one that makes `after` of `before`."""
    found: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            if within := patch(held, value):
                found[name] = within
        elif value != held:
            found[name] = value
    return found


def plain(value: Any) -> Any:
    """What numbers.loads read, as the summary has it: 0.3 is not equal to Decimal("0.3")."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    return float(value) if isinstance(value, Decimal) else value


class Report:
    """held: the reported state in the cloud, as far as it is known. interval_s: between two that answer nobody."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._sent_s = float("-inf")
        self._sent: dict[str, Any] = {}
        self.held: dict[str, Any] = {}

    def due(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """What to report now; empty: nothing."""
        changes = patch(self.held, current)
        since_s = self._clock() - self._sent_s
        if since_s < LEAST_S or (changes == self._sent and since_s < AGAIN_S):
            return {}
        if not self.held or changes.keys() & _ANSWERING:
            return changes
        notable = changes.keys() - _SLOW or _grew(changes, self.held)
        wait_s = self._interval_s if notable else max(self._interval_s, LEDGER_EVERY_S)
        return changes if since_s >= wait_s and _tells(changes) else {}

    def fetched(self, reported: dict[str, Any]) -> None:
        """This is held: what was sent and is not in it was lost."""
        self.held, self._sent = plain(reported), {}

    def updated(self, changes: dict[str, Any] | None) -> None:
        """This was merged into what is held."""
        self.held = merged(self.held, plain(changes))

    def sent(self, changes: dict[str, Any]) -> None:
        """This went out."""
        self._sent_s, self._sent = self._clock(), changes


def _grew(changes: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Is something lost or refused for the first time? From then on the slow pace is enough."""
    before = held.get("ledger", {})
    return any(changes.get("ledger", {}).get(name) and not before.get(name)
               for name in ("dropped", "dead_lettered", "lost"))


def _tells(changes: Mapping[str, Any]) -> bool:
    """More than that time went by?"""
    return bool(changes.keys() - _SLOW) or set(changes.get("ledger", {})) != {"at"}
