"""Adapting to the carbon intensity of electricity: feeds (carbon_feed.py), policy (carbon_policy.py) -> how the packer,
the uplink, the upkeep and the cameras work now; told in the status.

A thread of its own: a provider that hangs holds up nothing. Alerts are out of its reach, delivery goes on in any state.
"""
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from contract import carbon
from edge_bridge import carbon_curve, carbon_policy, carbon_sources
from edge_bridge.carbon_curve import CLOUD_G, Curve
from edge_bridge.carbon_estimate import Meter
from edge_bridge.carbon_feed import Feed
from edge_bridge.carbon_policy import USUAL, States, Terms
from edge_bridge.carbon_sources import Source
from edge_bridge.settings import Settings

log = logging.getLogger(__name__)

LOOK_S = 1.0
FALLBACKS = {"site": (carbon_sources.SCHEDULE, carbon_curve.built_in()),
             "cloud": (f"fixed:{CLOUD_G:.0f}", carbon_curve.fixed(CLOUD_G))}


class Reach(NamedTuple):
    """What is called to change something: with the batch age now and the longest that a live row may wait, in seconds;
    with the backlog's share of its pace."""

    batch_age: Callable[[float, float], None]
    backfill: Callable[[float], None]


class Around(NamedTuple):
    """What is asked: does somebody watch the dashboard; is the outbox filling up."""

    watched: Callable[[], bool]
    crowded: Callable[[], bool]


def feeds(chosen: Settings, now_s: Callable[[], float] = time.time,
          clock: Callable[[], float] = time.monotonic) -> dict[str, Feed]:
    """Those of the site and of the cloud, as the settings have them; none when CARBON is off."""
    if chosen.carbon is None:
        return {}

    def ask(source: Source) -> Curve:
        key = carbon_sources.key(chosen.carbon_key, chosen.carbon_key_file)
        return carbon_sources.ask(source, chosen.carbon_url, key)

    cloud = chosen.carbon_cloud or Source(*FALLBACKS["cloud"])
    return {place: Feed(source, ask, FALLBACKS[place], Path(f"{chosen.outbox}.carbon-{place}.json"),
                        chosen.carbon_max_age, now_s, clock)
            for place, source in (("site", chosen.carbon), ("cloud", cloud))}


class Carbon:
    """The carbon thread. usual_s: the batch age that is set; policy: its text, a valid one."""

    def __init__(self, found: dict[str, Feed], policy: str, usual_s: float, meter: Meter, reach: Reach, around: Around,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._feeds, self._meter, self._reach, self._around = found, meter, reach, around
        self._states = States(clock)
        self._lock = threading.Lock()  # of what follows: the shadow's thread changes it, too
        self._policy, self._age_s, self._usual_s = carbon.policy(policy), usual_s, usual_s
        self._measured = False
        self.terms = USUAL
        self._told: dict[str, Any] | None = None
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carbon", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End, and have everything go at its usual pace: what waits should go out before the process does."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._put(USUAL)

    def set_batch_age(self, age_s: float, usual_s: float) -> None:
        """From the shadow: the batch age at this moment, shorter than the usual one while somebody watches."""
        with self._lock:
            self._age_s, self._usual_s = age_s, usual_s
        self._adapt()

    def set_policy(self, text: str) -> None:
        """From the shadow: another policy. Raises BadPayload."""
        with self._lock:
            self._policy = carbon.policy(text)
        self._adapt()

    def status(self) -> dict[str, Any] | None:
        """For the status message; None: CARBON is off."""
        return self._told

    def heavy_work_waits(self) -> bool:
        """May what gives room back on disk wait for other electricity?"""
        return self.terms.postpone

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = LOOK_S
            try:
                for feed in self._feeds.values():
                    feed.refresh()
                self.look()
                self._failing = False
            except Exception:  # a fault of ours must not stop readings, nor slow them for ever
                if not self._failing:
                    log.exception("carbon: internal error; everything goes at its usual pace")
                self._failing = True
                self._put(USUAL)

    def look(self) -> None:
        """Judge the present intensity, and have what follows from it hold."""
        if not self._feeds:
            return
        site, cloud = self._feeds["site"].now(), self._feeds["cloud"].now()
        self._meter.add(site.g_per_kwh, cloud.g_per_kwh)
        with self._lock:
            policy, before = self._policy, self._states.state
        state = self._states.look(policy, site.g_per_kwh, site.day)
        self._measured = site.measured
        if state != before:
            log.info("carbon: %s (was %s), %.0f gCO2/kWh by %s", state, before, site.g_per_kwh, site.source)
        self._adapt()
        self._told = {
            "intensity_g_per_kwh": round(site.g_per_kwh, 1), "state": state, "source": site.source,
            "measured": site.measured, "cloud_intensity_g_per_kwh": round(cloud.g_per_kwh, 1),
            "cloud_source": cloud.source, **self._meter.told(), "terms": self.terms._asdict()}

    def _adapt(self) -> None:
        with self._lock:
            policy = self._policy
        state = self._states.state
        self._put(carbon_policy.terms(policy, state, self._states.lasted_s(), measured=self._measured,
                                      watched=self._around.watched(), crowded=self._around.crowded()))

    def _put(self, terms: Terms) -> None:
        with self._lock:
            usual_s = carbon_policy.batch_age_s(self._usual_s, terms.batch)
            age_s = usual_s if terms.batch != 1.0 else self._age_s
            self.terms = terms
            self._reach.batch_age(age_s, usual_s)
            self._reach.backfill(terms.backfill)
