"""`make drill`: breaks a running demo in seven ways, shows the ledger meanwhile, looks for every reading afterwards.

Start `make demo` in one terminal and this in another; ONLY=cut,kill chooses. The demo is left as it was found.
"""
import argparse
import sys
import time
from typing import Any

from deploy.drill_demo import RunningDemo, find
from deploy.drill_faults import FAULTS, Fault
from deploy.processes import ROOT, PartFailed
from deploy.reconcile import held_readings, made_readings, recorded, scan
from deploy.target import TargetFault

SETTLE_S = 60.0


def ledger(status: dict[str, Any]) -> str:
    """One line: what is delivered, what waits, what is gone, what alarms."""
    if not status:
        return "no ledger"
    age_s = time.time() - status["at"] / 1000
    if age_s > 3:
        return f"no ledger for {age_s:.0f} s"
    reached = [side for side, connected in status["connected"].items() if connected]
    return (f"delivered {status['delivered']}  waiting {sum(status['waiting'].values())}  dropped {status['dropped']}  "
            f"dead-lettered {status['dead_lettered']}  reaches {'+'.join(reached) or 'nobody'}  "
            f"alarms {', '.join(sorted(status['alarms'])) or 'none'}")


def show(began_s: float, demo: RunningDemo) -> None:
    """The ledger as it is now."""
    print(f"  {time.monotonic() - began_s:4.0f} s  {ledger(demo.status())}", flush=True)


def break_it(demo: RunningDemo, fault: Fault) -> None:
    """One fault from its beginning to the recovery. PartFailed when there is none."""
    print(f"\n{fault.name}: {fault.sentence} for {fault.seconds:.0f} s", flush=True)
    began_s = time.monotonic()
    with fault.begin(demo):
        while time.monotonic() < began_s + fault.seconds:
            show(began_s, demo)
            time.sleep(1)
    print(f"{fault.name}: over", flush=True)
    over_s = demo.wait_recovered(lambda: show(began_s, demo))
    show(began_s, demo)
    print(f"{fault.name}: all is well again {over_s:.0f} s later", flush=True)


class Verdict:
    """What of the readings made so far is in the cloud. lost, doubled, misordered: how many, of the demo's own devices.
    """

    def __init__(self, made: list[dict[str, Any]], items: list[dict[str, Any]]) -> None:
        self.made = len(made)
        held, self.misordered = held_readings(items, {one["device"] for one in made})
        self.lost = (made_readings(made) - held).total()
        self.doubled = sum(count - 1 for count in held.values())

    @property
    def good(self) -> bool:
        """Nothing lost, nothing doubled, all in order."""
        return bool(self.made) and not (self.lost or self.doubled or self.misordered)

    def __str__(self) -> str:
        return (f"{self.made} readings were made since the demo began: lost {self.lost}, doubled {self.doubled}, "
                f"misordered {self.misordered}")


def judge(demo: RunningDemo, within_s: float = SETTLE_S) -> Verdict:
    """Everything made until now, looked for in the cloud until it is there, at most `within_s`."""
    made, deadline_s = recorded(demo.records()), time.monotonic() + within_s
    while True:
        verdict = Verdict(made, scan(demo.readings_table()))
        if verdict.good or time.monotonic() > deadline_s:
            return verdict
        time.sleep(1)


def chosen(text: str) -> list[Fault]:
    """The faults of ONLY, all for "". Raises ValueError for a name that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()] or [fault.name for fault in FAULTS]
    known = {fault.name: fault for fault in FAULTS}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ValueError(f"ONLY names {', '.join(wrong)}; expected of {', '.join(known)}")
    return [known[name] for name in names]


def main() -> int:
    """Exit 0: every fault was survived and nothing is lost; 1: not so; 2: no demo runs, or ONLY is wrong."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--only", default="", help="comma between, of: " + ", ".join(fault.name for fault in FAULTS))
    try:
        faults = chosen(parser.parse_args().only)
    except ValueError as error:
        print(f"drill: {error}", file=sys.stderr)
        return 2
    directory = find(ROOT / ".demo")
    if directory is None:
        print("drill: no demo runs here; start `make demo` in another terminal first", file=sys.stderr)
        return 2
    demo = RunningDemo(directory)
    try:
        demo.wait_recovered(lambda: print("waiting for the demo to run well ...", flush=True))
        for fault in faults:
            break_it(demo, fault)
        verdict = judge(demo)
    except (PartFailed, TargetFault) as failure:
        print(f"drill: {failure}", file=sys.stderr)
        return 1
    print(f"\n{len(faults)} faults; {verdict}", flush=True)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
