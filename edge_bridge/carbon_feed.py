"""A feed: one source of intensities, asked at most every quarter of an hour, remembered on disk, and given up for a
schedule when it is too old; looked at by carbon.py."""
import json
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_bridge.carbon_curve import HOUR_S, BadCurve, Curve
from edge_bridge.carbon_sources import Source

log = logging.getLogger(__name__)

EVERY_S, JITTER_S = 900.0, 120.0
MOST_CACHE_BYTES = 256 * 1024


class Reading(NamedTuple):
    """The intensity now, who says so, the day around it; measured: not an assumption of ours."""

    g_per_kwh: float
    source: str
    day: list[float]
    measured: bool


class Feed:
    """ask: what the source says now; fallback: (its name, what holds instead); cache: file that a restart goes on with;
    most_age_s: what is older does not count. Used by one thread."""

    def __init__(self, source: Source, ask: Callable[[Source], Curve], fallback: tuple[str, Curve], cache: Path,
                 most_age_s: float, now_s: Callable[[], float] = time.time,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.source, self._ask, self._fallback = source, ask, fallback
        self._cache, self._most_age_s, self._now_s, self._clock = cache, most_age_s, now_s, clock
        self._curve: Curve | None = None
        self._got_s = 0.0  # by the wall clock, as the next
        self._asked_s = 0.0
        self._due_s = clock()
        self._said = ""
        if source.asks:
            self._remembered()

    def refresh(self) -> None:
        """Ask if it is time to. A source that fails is named in the log once, and what it said before goes on."""
        if not self.source.asks or self._clock() < self._due_s:
            return
        now_s = self._asked_s = self._now_s()
        self._due_s = self._clock() + EVERY_S + random.uniform(0.0, JITTER_S)
        try:
            curve = self._ask(self.source)
            self._curve = curve if self._curve is None or curve.daily or self.source.path else \
                self._curve.joined(curve, now_s)
            self._got_s = now_s
        except (OSError, BadCurve) as error:
            if not self._said:
                log.warning("carbon: %s gives no intensity (%s); what it said before counts for %.0f h, then %s; it is "
                            "asked again every %.0f min", self.source.name, error, self._most_age_s / HOUR_S,
                            self._fallback[0], EVERY_S / 60)
            self._said = str(error)
        else:
            if self._said:
                log.info("carbon: %s gives intensities again", self.source.name)
            self._said = ""
        self._remember()

    def now(self) -> Reading:
        """What holds now."""
        now_s = self._now_s()
        if self.source.curve is not None:
            g = self.source.curve.now(now_s, 0.0)
            return Reading(g or 0.0, self.source.name, self.source.curve.day(now_s),
                           measured=self.source.name != self._fallback[0])
        curve, age_s = self._curve, now_s - self._got_s
        if curve is not None and -HOUR_S <= age_s <= self._most_age_s:
            g = curve.now(now_s, self._most_age_s)
            if g is not None:
                return Reading(g, self.source.name, curve.day(now_s), measured=True)
        name, schedule = self._fallback
        because = "has said nothing" if curve is None else "is too old"
        return Reading(schedule.now(now_s, 0.0) or 0.0, f"{name} ({self.source.name} {because})", schedule.day(now_s),
                       measured=False)

    def _remembered(self) -> None:
        """Go on with what the file says, so that a restart asks nobody sooner."""
        try:
            if self._cache.stat().st_size > MOST_CACHE_BYTES:
                raise BadCurve(f"over {MOST_CACHE_BYTES} bytes")
            kept = json.loads(self._cache.read_text())
            if kept["source"] != self.source.name:
                return
            points = {float(at_s): float(g) for at_s, g in kept["points"]}
            if points:
                self._curve = Curve(points, bool(kept["daily"]))
            self._got_s, self._asked_s = float(kept["got"]), float(kept["asked"])
        except FileNotFoundError:
            return  # the first start
        except (OSError, BadCurve, KeyError, TypeError, ValueError) as error:
            log.warning("carbon: %s cannot be read (%s) and is made anew", self._cache, error)
            return
        if not self.source.path:
            since_s = self._now_s() - self._asked_s
            self._due_s = self._clock() + (EVERY_S - since_s if 0 <= since_s < EVERY_S else 0.0)

    def _remember(self) -> None:
        curve = self._curve or Curve({})
        kept = {"source": self.source.name, "asked": self._asked_s, "got": self._got_s, "daily": curve.daily,
                "points": list(zip(curve.at_s, curve.g, strict=True))}
        temporary = f"{self._cache}.{os.getpid()}"
        try:
            Path(temporary).write_text(json.dumps(kept))
            os.replace(temporary, self._cache)
        except OSError as error:
            log.warning("carbon: %s cannot be written (%s); a restart asks again", self._cache, error)
