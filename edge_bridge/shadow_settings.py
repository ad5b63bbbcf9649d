"""Settings that the cloud may change while the bridge runs: shadow.py hands over the desired state, and what holds then
goes to the packer, the scorer and the log. The outbox remembers it, so that a restart goes on with it."""
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from contract import numbers, shadow
from contract.errors import BadPayload
from edge_bridge import detectors
from edge_bridge.settings import Settings
from edge_bridge.store import Store

log = logging.getLogger(__name__)

_ROW = "remote"  # in the outbox's table meta


class InForce(NamedTuple):
    """What holds now; all of it can be asked for, what is not asked for is the bridge's own setting."""

    detector: str
    batch_age_s: float
    log_level: str
    carbon_policy: str = ""


class Reach(NamedTuple):
    """What is called to change something: with the batch age and the one without anybody watching, both in seconds;
    with what makes detectors (None: nothing is scored here); with the name of a log level; with a carbon policy."""

    batch_age: Callable[[float, float], None]
    detector: Callable[[Callable[[], Any]], None] | None
    log_level: Callable[[str], None]
    carbon_policy: Callable[[str], None] = lambda text: None


def _in_force(desired: dict[str, Any], chosen: Settings) -> InForce:
    own: dict[str, Any] = {"detector": chosen.detector, "batch_age_s": chosen.batch_age, "log_level": chosen.log_level,
                           "carbon_policy": chosen.carbon_policy}
    asked = {**own, **{name: value for name, value in desired.items() if name in own}}
    age_s = float(asked["batch_age_s"])
    return InForce(asked["detector"], int(age_s) if age_s.is_integer() else age_s, asked["log_level"],
                   asked["carbon_policy"])


def _detectors(chosen: Settings) -> set[str]:
    """Modes that may be asked for: what code runs here is not for the cloud to say, so no module:class but our own."""
    return {*detectors.REGISTRY, chosen.detector} if chosen.scored_fields else set()


def _loaded(name: str) -> Callable[[], Any]:
    """What makes such detectors, with its imports done. Raises BadPayload when this machine cannot."""
    try:
        make = detectors.factory(name)
        make()
    except Exception as error:  # whatever it lacks: the mode that runs goes on
        raise BadPayload("bad desired state", f"detector {name} cannot be used here: {error!r}"[:shadow.MAX_REASON],
                         ) from error
    return make


def remembered(store: Store, chosen: Settings) -> InForce:
    """What held when the bridge stopped; the bridge's own settings if nothing else was asked for."""
    found = store.read().execute("SELECT value FROM meta WHERE name = ?", (_ROW,)).fetchone()
    if found is None or not chosen.shadow:
        return _in_force({}, chosen)
    try:
        in_force = _in_force(shadow.check(numbers.loads(found[0]), _detectors(chosen)), chosen)
        if in_force.detector != chosen.detector:
            _loaded(in_force.detector)
        return in_force
    except BadPayload as error:  # of another version, or a detector that is no more
        log.warning("shadow: the remembered settings cannot be used (%s); the bridge's own hold until the cloud tells",
                    error)
        return _in_force({}, chosen)


class RemoteSettings:
    """Used by the shadow's thread alone."""

    def __init__(self, chosen: Settings, store: Store, in_force: InForce, reach: Reach,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._chosen, self._store, self._reach, self._clock = chosen, store, reach, clock
        self.in_force = in_force
        self._live_until_s = 0.0  # on our clock, which nobody sets
        self._answer_live: int | None = None
        self._is_live = False

    def apply(self, desired: dict[str, Any], cloud_s: float) -> None:
        """Have this desired state hold, as a whole. cloud_s: the cloud's time, by which live_until is meant, whatever
        our clock says. Raises BadPayload with every fault, and then nothing has changed."""
        shadow.check(desired, _detectors(self._chosen))
        wanted = _in_force(desired, self._chosen)
        make = _loaded(wanted.detector) if wanted.detector != self.in_force.detector else None
        if make is not None and self._reach.detector is not None:
            self._reach.detector(make)
        if wanted != self.in_force:
            log.info("shadow: from now on %s", ", ".join(
                f"{name} is {value} (was {getattr(self.in_force, name)})"
                for name, value in wanted._asdict().items() if value != getattr(self.in_force, name)))
            self._reach.log_level(wanted.log_level)
            self._reach.carbon_policy(wanted.carbon_policy)
            self.in_force = wanted
            self._remember(desired)
        self._watch_until(desired.get("live_until"), cloud_s)
        self._reach.batch_age(*self._batch_ages_s())

    def _watch_until(self, live_until: Any, cloud_s: float) -> None:
        left_s = 0.0 if live_until is None else min(float(live_until) - cloud_s, shadow.MAX_LIVE_S)
        self._live_until_s = self._clock() + left_s
        self._is_live = left_s > 0
        self._answer_live = None if live_until is None else \
            int(live_until) if left_s < shadow.MAX_LIVE_S else int(cloud_s) + shadow.MAX_LIVE_S

    def _batch_ages_s(self) -> tuple[float, float]:
        age_s = self.in_force.batch_age_s
        return min(age_s, shadow.LIVE_BATCH_AGE_S) if self._is_live else age_s, age_s

    def live_left_s(self) -> float:
        """For how long somebody still watches, in seconds."""
        return max(0.0, self._live_until_s - self._clock())

    def look(self) -> None:
        """When nobody watches any more the batch age is the usual one again."""
        if self._is_live and not self.live_left_s():
            self._is_live = False
            self._reach.batch_age(*self._batch_ages_s())

    def answer(self) -> dict[str, Any]:
        """What holds, by the names of the desired state; live_until as it was cut short."""
        live = {} if self._answer_live is None else {"live_until": self._answer_live}
        return {**self.in_force._asdict(), **live}

    def _remember(self, desired: dict[str, Any]) -> None:
        kept = {name: value for name, value in desired.items() if name != "live_until"}
        try:
            with self._store.write() as db:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_ROW, numbers.dumps(kept)))
        except sqlite3.Error as error:
            log.error("outbox: the settings from the shadow cannot be kept (%s); they hold until the next start", error)
