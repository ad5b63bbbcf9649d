"""What the carbon policy saves: a day's curve (a file as CARBON=file: takes it) is replayed once as always normal and
once with the policy; a table to the terminal. `make carbon-report CURVE=day.csv`; reckoned by carbon_estimate.py.

A model, minute by minute: batches by their age, a backlog after one outage, live cameras. What a batch or a frame costs
was measured (COSTS); the states, the terms and the pace are those of the running bridge.
"""
import argparse
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contract import carbon
from contract.carbon import ALWAYS, HIGH, OFF
from contract.errors import BadPayload
from edge_bridge import carbon_policy, carbon_sources
from edge_bridge.carbon_curve import CLOUD_G, DAY_S, HOUR_S, BadCurve, Curve
from edge_bridge.carbon_estimate import J_PER_KWH, TABLE, joules
from edge_bridge.carbon_policy import USUAL, States
from edge_bridge.pacing import BYTES_PER_S

STEP_S = 60.0
LINK_BACK_S = 18 * HOUR_S  # after the replay's start
READING_BYTES = 20.0
BACKLOG_BATCH_BYTES = 127_000.0
HOLD_S = 6 * HOUR_S
PARTS = ("bridge", "network", "cloud", "cameras")
COSTS = {  # seconds of one core, measured on a 2-core machine with the real bridge between a LAN broker and the gateway
    "reading": (0.0021, "taken in, committed, scored and sealed, 20 a second"),
    "batch": (0.0018, "sealed, sent over TLS, receipted; one of 4 a second against one of 0.2"),
    "idle_second": (0.0104, "nothing to do: a status every second, threads that look"),
    "frame": (0.045, "one frame through the built-in eye (docs/camera.md)"),
    "shrink": (20.0, "a file that an outage made large gives its pages back; assumed"),
}
FRAMES_PER_S = 10.0


class Work(NamedTuple):
    """What a site has to do. rate: readings a second of each device; outage_h: hours without the cloud, up to 18:00."""

    devices: int
    rate: float
    batch_age_s: float
    cameras: int
    outage_h: float
    core_w: float
    cloud_g: float


@dataclass
class Day:
    """What one replay came to: gCO2 and J by part, and what was paid for it."""

    grams: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    used_j: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    high_h: float = 0.0
    batches: float = 0.0
    longest_age_s: float = 0.0
    drained_s: float | None = None
    frames_share: float = 0.0

    def add(self, part: str, used_j: float, g_per_kwh: float) -> None:
        """So much energy at this intensity."""
        self.used_j[part] += used_j
        self.grams[part] += used_j / J_PER_KWH * g_per_kwh


class Replay:
    """One site through one day. policy: None for always normal."""

    def __init__(self, curve: Curve, start_s: float, work: Work, policy: dict[str, Any] | None) -> None:
        self._curve, self._work, self._policy = curve, work, policy
        self._start_s = self._now_s = start_s
        self._states = States(lambda: self._now_s)
        self._backlog_bytes, self._to_shrink = 0.0, False
        self.day = Day()

    def run(self) -> Day:
        """All of its minutes."""
        steps = int(DAY_S / STEP_S)
        for step in range(steps):
            self._now_s = self._start_s + step * STEP_S
            self._minute(step * STEP_S)
        self.day.frames_share /= steps
        return self.day

    def _minute(self, since_s: float) -> None:
        work, day, g = self._work, self.day, self._curve.now(self._now_s, HOLD_S)
        terms = USUAL
        if self._policy is not None:
            state = self._states.look(self._policy, g, self._curve.day(self._now_s))
            day.high_h += (state == HIGH) * STEP_S / HOUR_S
            terms = carbon_policy.terms(self._policy, state, self._states.lasted_s(), measured=True, watched=False,
                                        crowded=False)
        if g is None:
            raise BadCurve(f"no intensity {since_s / HOUR_S:.1f} h after its start; expected a whole day, and no gap "
                           f"of {HOLD_S / HOUR_S:.0f} h")
        age_s = carbon_policy.batch_age_s(work.batch_age_s, terms.batch)
        readings = work.devices * work.rate * STEP_S
        away = LINK_BACK_S - work.outage_h * HOUR_S <= since_s < LINK_BACK_S
        batches, sent_bytes = (0.0, 0.0) if away else self._sent(readings, age_s, terms.backfill, since_s)
        self._backlog_bytes += readings * READING_BYTES if away else 0.0
        cpu_s = readings * COSTS["reading"][0] + batches * COSTS["batch"][0] + STEP_S * COSTS["idle_second"][0]
        if self._to_shrink and not terms.postpone:
            cpu_s, self._to_shrink = cpu_s + COSTS["shrink"][0], False
        used = joules(cpu_s, STEP_S, sent_bytes, batches, work.core_w)
        frames = work.cameras * FRAMES_PER_S * STEP_S * terms.frames
        for part, used_j, at_g in (("bridge", used.bridge, g), ("network", used.network, g),
                                   ("cloud", used.cloud, work.cloud_g),
                                   ("cameras", frames * COSTS["frame"][0] * work.core_w, g)):
            day.add(part, used_j, at_g)
        day.batches += batches
        day.longest_age_s = max(day.longest_age_s, age_s)
        day.frames_share += terms.frames

    def _sent(self, readings: float, age_s: float, share: float, since_s: float) -> tuple[float, float]:
        """(batches, bytes) of this minute: the live ones, and what goes of the backlog."""
        drained_bytes = min(self._backlog_bytes, BYTES_PER_S * share * STEP_S)
        self._backlog_bytes -= drained_bytes
        if drained_bytes and not self._backlog_bytes:
            self.day.drained_s, self._to_shrink = since_s + STEP_S - LINK_BACK_S, True
        return ((STEP_S / age_s if readings else 0.0) + drained_bytes / BACKLOG_BATCH_BYTES,
                readings * READING_BYTES + drained_bytes)


def start_of(curve: Curve) -> float:
    """Where the replayed day begins: at the curve's first point, or at any midnight."""
    return 0.0 if curve.daily else curve.at_s[0]


def in_words(curve: Curve, name: str, work: Work, policy: dict[str, Any], *, measured: bool) -> str:
    """The table, and what it took. measured: the curve is not the built-in schedule. Raises BadCurve."""
    start_s = start_of(curve)
    normal, adapted = (Replay(curve, start_s, work, chosen).run() for chosen in (None, policy))
    lines = [f"curve: {name}; {len(curve.g)} points, {min(curve.g):.0f} to {max(curve.g):.0f} gCO2/kWh; cloud "
             f"{work.cloud_g:.0f}",
             f"site:  {work.devices} devices at {work.rate:g}/s, BATCH_AGE {work.batch_age_s:g} s, {work.cameras} "
             f"cameras, {work.outage_h:g} h without the cloud; {work.core_w:g} W a core", "",
             f"{'gCO2 of the day':<18}{'always normal':>15}{'adapted':>12}{'saved':>12}{'':>9}"]
    lines += [_row(part, normal.grams[part], adapted.grams[part]) for part in PARTS]
    before, after = sum(normal.grams.values()), sum(adapted.grams.values())
    lines += [_row("in all", before, after), "", *_paid(normal, adapted), *_how_sure(work)]
    lines.append("Verdict: " + _verdict(before, after, policy["adapt"], measured))
    return "\n".join(lines)


def _verdict(before: float, after: float, adapt: str, measured: bool) -> str:
    if adapt == OFF:
        return "a bridge with these settings saves nothing: adapt=off shows the intensity and changes nothing."
    if before - after < 0.01 * before:
        return "it saves nearly nothing here (under 1 %)."
    saved = (f"{before - after:.3g} g a day, {100 * (before - after) / before:.1f} %; "
             f"{(before - after) * 365 / 1000:.2g} kg a year if every day were like this one.")
    if measured or adapt == ALWAYS:
        return saved
    return (f"a bridge with these settings saves nothing: with adapt={adapt} it does not act on the built-in schedule. "
            f"CARBON=... gives it a real intensity, adapt=always has it act on this one; it would be {saved}")


def _row(name: str, before: float, after: float) -> str:
    share = f"{100 * (before - after) / before:.1f} %" if before else "-"
    return f"{name:<18}{before:>15.4f}{after:>12.4f}{before - after:>12.4f}{share:>9}"


def _paid(normal: Day, adapted: Day) -> list[str]:
    lines = [f"paid with: {adapted.high_h:.1f} h in the state high, live readings up to {adapted.longest_age_s:.0f} s "
             f"old, not {normal.longest_age_s:.0f}; {normal.batches:.0f} batches became {adapted.batches:.0f}; cameras "
             f"looked at {100 * adapted.frames_share:.0f} % of their frames"]
    if normal.drained_s is not None and adapted.drained_s is not None:
        lines.append(f"backlog gone {adapted.drained_s / 60:.0f} min after the link was back instead of "
                     f"{normal.drained_s / 60:.0f}: the same work at another hour; alerts waited in neither")
    return lines


def _how_sure(work: Work) -> list[str]:
    one = joules(100, 1000, 1e6, 100, work.core_w)
    middle = one.bridge + one.network + one.cloud
    return [f"how sure: coefficients of the table may make the whole {middle / one.low:.0f} times less or "
            f"{one.high / middle:.0f} times more; of what is saved, cloud and network are the least sure:",
            *(f"  {name} {row.value:g} ({row.lowest:g} to {row.highest:g}) {row.unit}".rstrip()
              for name, row in TABLE.items())]


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="carbon_report", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--curve", default="", help="CSV or JSON of time,gCO2; none: the built-in schedule, an assumption")
    add("--policy", default="", help="as CARBON_POLICY")
    add("--devices", type=int, default=1)
    add("--rate", type=float, default=10.0, help="readings a second of each")
    add("--batch-age", type=float, default=10.0)
    add("--cameras", type=int, default=0)
    add("--outage", type=float, default=0.0, help="hours without the cloud, up to the 18th hour")
    add("--core-watts", type=float, default=TABLE["core_w"].value)
    add("--cloud-g", type=float, default=CLOUD_G, help="gCO2/kWh in the cloud's region")
    parsed = parser.parse_args(given)
    if min(parsed.devices, parsed.cameras, parsed.rate, parsed.cloud_g) < 0 or not 0 <= parsed.outage <= 18 or min(
            parsed.batch_age, parsed.core_watts) <= 0:
        parser.error("expected no figure below 0, --batch-age and --core-watts above 0, --outage up to 18")
    return parsed


def main(given: list[str]) -> int:
    """Returns the exit code: 2 for a curve or policy that cannot be used."""
    parsed = _arguments(given)
    work = Work(parsed.devices, parsed.rate, parsed.batch_age, parsed.cameras, parsed.outage, parsed.core_watts,
                parsed.cloud_g)
    try:
        source = carbon_sources.chosen(f"file:{parsed.curve}" if parsed.curve else carbon_sources.SCHEDULE)
        assert source is not None, "a file or the schedule"
        curve = source.curve if source.curve is not None else carbon_sources.ask(source)
        name = parsed.curve or "the built-in schedule, which is an assumption"
        print(in_words(curve, name, work, carbon.policy(parsed.policy), measured=bool(parsed.curve)))
    except (OSError, BadCurve) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print("carbon_report: CURVE " + (why if why.startswith(parsed.curve) else f"{parsed.curve}: {why}"),
              file=sys.stderr)
        return 2
    except BadPayload as error:
        print(f"carbon_report: POLICY: {error.detail}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
