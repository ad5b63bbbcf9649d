"""`python -m tests.scorecard [--full] [--only NAME] [--seed N]`: exit 0 when no run lost, doubled or misordered."""
import argparse
import datetime
import logging
import shutil
import sys
import time
from pathlib import Path

from deploy.pipeline import scratch_directory
from deploy.processes import ROOT
from tests.conftest import find_service
from tests.scorecard import (
    report,
    rows_cloud,
    rows_crash,
    rows_detector,
    rows_disk,
    rows_foreign,
    rows_identity,
    rows_kafka,
    rows_network,
    rows_protocol,
    rows_sources,
)
from tests.scorecard.faults import MATRIX, Fault
from tests.scorecard.run import Outcome, Workers, jobs

ROWS = (rows_crash, rows_disk, rows_network, rows_protocol, rows_sources, rows_foreign, rows_kafka, rows_identity,
        rows_cloud, rows_detector)
SEED = 20261122


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.scorecard", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every row many more times")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="only rows whose name or function contains this; writes no files; may be repeated")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the random instants [{SEED}]")
    parser.add_argument("--workers", type=int, default=4, help="rows at a time, each with a cloud of its own [4]")
    parser.add_argument("--keep", action="store_true", help="keep logs, outboxes and records of a run that passed")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    return parser.parse_args()


def chosen(only: list[str]) -> list[Fault]:
    """The rows to run."""
    return [one for one in MATRIX.values()
            if not only or any(word in one.name or word in one.act.__name__ for word in only)]


def main() -> int:
    """Run, print, write."""
    options = _arguments()
    rows = chosen(options.only)
    if options.list:
        print("\n".join(f"{one.act.__name__}: {one.name}" for one in rows))
        return 0
    if not rows:
        print(f"scorecard: no row is named {' or '.join(options.only)}; --list names them", file=sys.stderr)
        return 2
    if find_service("mosquitto") is None:
        print("scorecard: it needs mosquitto (apt-get install mosquitto, brew install mosquitto)", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    absent = {one.name: why for one in rows if (why := one.absent())}
    rows = [one for one in rows if one.name not in absent]
    directory = scratch_directory(ROOT / ".demo" / "scorecard")
    print(f"scorecard: {len(rows)} rows, seed {options.seed}, in {directory}", flush=True)
    began_s = time.monotonic()
    done = Workers(directory, options.workers).run(jobs(rows, options.seed, options.full))
    outcomes = [done[one.name] for one in rows]
    found = report.as_json(outcomes, options.seed)
    print(report.markdown(found, _today(), absent, options.full))
    if not options.only:
        report.write(ROOT, found, _today(), absent, options.full)
    return _conclude(outcomes, time.monotonic() - began_s, directory, options.keep)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _conclude(outcomes: list[Outcome], took_s: float, directory: Path, keep: bool) -> int:
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        said = sorted({text for verdict in outcome.verdicts for text in verdict.failures}) or ["lost nothing, but must"]
        print(f"scorecard: FAILED: {outcome.fault.name}: {'; '.join(said)}", file=sys.stderr)
    print(f"scorecard: {len(outcomes) - len(failed)} of {len(outcomes)} rows pass, {took_s:.0f} s"
          + (f"; logs in {directory}" if failed or keep else ""))
    if not failed and not keep:
        shutil.rmtree(directory)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
