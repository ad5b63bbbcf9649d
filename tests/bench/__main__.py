"""`python -m tests.bench [--only NAME] [--quick] [--minutes N]`: measures, prints a table, writes bench.json.

Ratios are of figures taken in turn in the same run; where a figure was taken more than once its median counts.
"""
import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import camera, dashboard, delivery, detector, ingest, queries, report, soak, store
from tests.bench.bridge_run import ROOT
from tests.bench.cloud import Cloud
from tests.bench.report import Row


def _ingest(directory: Path, quick: bool) -> list[Row]:
    cloud = Cloud(directory / "cloud")
    try:
        return ingest.measure(directory, cloud, quick)
    finally:
        cloud.close()


def measures(minutes: float) -> dict[str, Callable[[Path, bool], list[Row]]]:
    """What can be measured, by name, in the order of a whole run."""
    return {"ingest": _ingest, "delivery": delivery.delivery, "backlog": delivery.backlog,
            "store": store.store, "dashboard": dashboard.dashboard, "queries": queries.queries,
            "detector": detector.detector, "camera": camera.camera,
            "soak": lambda directory, _: soak.soak(directory, minutes)}


def main(arguments: list[str]) -> int:
    """Returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures the bridge on this machine.")
    parser.add_argument("--only", choices=measures(0), action="append", help="measure only this (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="small loads, to see that it runs")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the soak lasts")
    parser.add_argument("--out", type=Path, default=ROOT / "bench.json", help="where the figures go")
    chosen = parser.parse_args(arguments)
    rows: list[Row] = []
    directory = Path(tempfile.mkdtemp(prefix="edgecloud-bench-"))
    try:
        for name, measure in measures(chosen.minutes).items():
            if name in (chosen.only or measures(0)):
                print(f"bench: {name} …", file=sys.stderr, flush=True)
                rows += measure(directory / name, chosen.quick)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(report.table(rows))
    report.write(chosen.out, rows, {"only": chosen.only, "quick": chosen.quick, "minutes": chosen.minutes})
    return 1 if any(row.passed is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
