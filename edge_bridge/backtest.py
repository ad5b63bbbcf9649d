"""`python -m edge_bridge.backtest FILE`: what a detector would have said of readings that are there already.

Readings come from backtest_input.py and go through the very detectors that the bridge runs; CSV to standard output, one
row a reading, in order; a summary to standard error.
"""
import argparse
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from contract.alerts import OPENED, Classified
from edge_bridge import detectors
from edge_bridge.backtest_input import BadInput, Reading, read
from edge_bridge.detectors import Verdict
from edge_bridge.incidents import Incidents

HEADER = ("timestamp", "value", "score", "anomaly", "low", "high", "reason")


class Tested(NamedTuple):
    """One mode's verdicts on the readings, and the (first, last) indices of each incident; took_s: the detector's."""

    mode: str
    verdicts: list[Verdict]
    incidents: list[tuple[int, int]]
    took_s: float

    @property
    def flagged(self) -> int:
        """How many readings are anomalies."""
        return sum(verdict.anomaly for verdict in self.verdicts)

    @property
    def share_percent(self) -> float:
        """Of all readings."""
        return 100 * self.flagged / len(self.verdicts)

    @property
    def incidents_in_words(self) -> str:
        """1 incident, 2 incidents, ..."""
        return f"{len(self.incidents)} incident{'' if len(self.incidents) == 1 else 's'}"


# --- judging

def judge(mode: str, readings: Sequence[Reading]) -> Tested:
    """Hand the readings to a detector per device, as the bridge does. Raises KeyError for an unknown mode."""
    width = len(readings[0].values)
    make: Callable[[], Any] = detectors.factory(mode) if width == 1 else lambda: detectors.together(width)
    verdicts: list[Verdict] = [Verdict(False)] * len(readings)
    spans: list[tuple[int, int]] = []
    took_s = 0.0
    by_device = sorted(range(len(readings)), key=lambda index: readings[index].device)  # stable: in order within each
    for device, indices in groupby(by_device, key=lambda index: readings[index].device):
        own = list(indices)
        values: list[tuple[Any, int]] = [
            (readings[i].values if width > 1 else readings[i].values[0], readings[i].at_ms) for i in own]
        detector = make()
        started_s = time.perf_counter()
        found = detectors.judged(detector, values)
        took_s += time.perf_counter() - started_s
        for index, verdict in zip(own, found, strict=True):
            verdicts[index] = verdict
        spans += _incidents(device, own, readings, verdicts)
    return Tested(mode, verdicts, sorted(spans), took_s)


def _incidents(device: str, own: list[int], readings: Sequence[Reading], verdicts: list[Verdict],
               ) -> Iterator[tuple[int, int]]:
    """(first, last anomaly) of each incident, had the readings been received when they were made."""
    incidents, first, last = Incidents(device), -1, -1
    for index in own:
        at_ms, verdict = readings[index].at_ms, verdicts[index]
        if incidents.silent(at_ms):
            yield first, last
        if verdict.anomaly:
            score = None if verdict.score is None else Decimal(f"{verdict.score:.6f}")
            told = incidents.anomaly(Classified(index, at_ms, at_ms, at_ms, "", Decimal(0), Decimal(0), True, score,
                                                None, None, verdict.reason, None))
            first, last = (index if told.incident["state"] == OPENED else first), index
        elif incidents.normal(at_ms):
            yield first, last
    if incidents.is_open:
        yield first, last


# --- telling

def write(readings: Sequence[Reading], tested: Tested, to: TextIO) -> None:
    """The verdicts as CSV. score: the higher the stranger, above 0 for an anomaly; 0 where there is no model yet."""
    rows = csv.writer(to, lineterminator="\n")
    rows.writerow(HEADER)
    for reading, verdict in zip(readings, tested.verdicts, strict=True):
        rows.writerow((reading.timestamp, reading.value, f"{-(verdict.score or 0.0) + 0.0:.9g}",
                       "true" if verdict.anomaly else "false", _shown(verdict.low), _shown(verdict.high),
                       verdict.reason or ""))


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def summary(tested: Tested) -> str:
    """One mode in a few lines."""
    count = len(tested.verdicts)
    reasons = Counter(verdict.reason or "no reason given" for verdict in tested.verdicts if verdict.anomaly)
    why = ", ".join(f"{reason} {n}" for reason, n in reasons.most_common())
    return (f"{tested.mode}: {count} readings, {tested.flagged} anomalies ({tested.share_percent:.3g} %), "
            f"{tested.incidents_in_words}{': ' + why if why else ''}; "
            f"{count / max(tested.took_s, 1e-9):,.0f} readings/s")


def compared(one: Tested, other: Tested) -> str:
    """On how many readings two modes agree."""
    pairs = Counter((a.anomaly, b.anomaly) for a, b in zip(one.verdicts, other.verdicts, strict=True))
    return (f"{one.mode} and {other.mode}: both {pairs[True, True]}, only {one.mode} {pairs[True, False]}, "
            f"only {other.mode} {pairs[False, True]}, neither {pairs[False, False]}")


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m edge_bridge.backtest", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="CSV with a column timestamp, or an archive object (.gz)")
    parser.add_argument("--column", default="sensor2",
                        help="the measurement; sensor1+sensor2: these two beside each other")
    parser.add_argument("--mode", default="forest",
                        help=f"{', '.join(detectors.REGISTRY)}, or module:class; default forest")
    parser.add_argument("--compare", metavar="MODE", help="judge by this one too, and show both")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw it")
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    """Returns the exit code: 2 for what was asked wrongly, 1 for a file that cannot be read."""
    asked = arguments(given)
    modes = [asked.mode] + ([asked.compare] if asked.compare else [])
    for mode in modes:
        try:
            detectors.factory(mode)
        except (KeyError, ImportError, AttributeError) as error:
            print(f"backtest: there is no mode {mode!r} ({error}); expected {', '.join(detectors.REGISTRY)}, or "
                  "module:class of one that can be imported", file=sys.stderr)
            return 2
    try:
        readings = read(asked.file, asked.column)
        tested = [judge(mode, readings) for mode in modes]
        write(readings, tested[0], sys.stdout)
        if asked.plot:
            from edge_bridge.backtest_plot import draw
            draw(asked.plot, readings, tested, title=f"{asked.file.name}, {asked.column}")
    except BadInput as error:
        print(f"backtest: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    _tell(tested)
    return 0


def _tell(tested: Iterable[Tested]) -> None:
    found = list(tested)
    for one in found:
        print(summary(one), file=sys.stderr)
    if len(found) > 1:
        print(compared(*found), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
