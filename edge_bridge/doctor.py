"""`python -m edge_bridge doctor`: settings, disk, sources and cloud are looked at all at once; a verdict per check out.

Each group of checks (doctor_*.py) runs in a thread of its own and yields its findings in the order of CHECKS; what has
not been yielded when the time is up is a finding, too. The doctor changes nothing that a running bridge uses.
"""
import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge_bridge import doctor_bridge, doctor_cloud, doctor_disk, doctor_policy, doctor_sources
from edge_bridge.doctor_case import FAULT, NOT_APPLICABLE, OK, Case, Finding, fault, not_applicable, read_env_file

TIMEOUT_S = 12.0
MARKS = {OK: "\u2713", FAULT: "\u2717", NOT_APPLICABLE: "\u2013"}
Group = Callable[[Case], Iterator[Finding]]

# The checks of each group, in the order in which they are yielded and shown.
GROUPS: tuple[tuple[Group, tuple[str, ...]], ...] = (
    (doctor_disk.settings, ("settings",)),
    (doctor_disk.disk, ("volume", "disk", "outbox")),
    (doctor_bridge.bridge, ("bridge", "alarms", "versions")),
    (doctor_sources.lan_broker, ("LAN broker", "LAN topics", "LAN queue")),
    (doctor_sources.kafka, ("Kafka", "Kafka topic", "Kafka listeners")),
    (doctor_cloud.identity, ("key and certificate", "expiry")),
    (doctor_cloud.way, ("endpoint", "DNS", "TCP", "CA", "SNI")),
    (doctor_cloud.clock, ("clock",)),
    (doctor_policy.policy, doctor_policy.NAMES),
)
CHECKS = tuple(name for _, names in GROUPS for name in names)


class _Examination(threading.Thread):
    """One group at work; `found` grows."""

    def __init__(self, group: Group, names: Sequence[str], case: Case) -> None:
        super().__init__(name=f"doctor {names[0]}", daemon=True)
        self._group, self._names, self._case = group, names, case
        self.found: list[Finding] = []

    def run(self) -> None:
        try:
            for finding in self._group(self._case):
                self.found.append(finding)
        except Exception as error:  # a check that breaks must not hide what the others found
            self.found.append(fault(self._names[min(len(self.found), len(self._names) - 1)],
                                    f"the check itself failed: {type(error).__name__}: {error}",
                                    "report it with this line; the other checks stand"))

    def findings(self) -> list[Finding]:
        """Everything found so far, and what was not reached."""
        found = self.found[:]
        left = self._names[len(found):]
        if left and self.is_alive():
            found.append(fault(left[0], f"no answer within {self._case.timeout_s:g} s",
                               "see whether something on the way swallows packets (a firewall, a dead DNS server)"))
            left = left[1:]
        why = f"needs {found[-1].check}" if found and found[-1].state == FAULT else "not reached"
        return found + [not_applicable(name, why) for name in left]


def examine(case: Case, groups: Sequence[tuple[Group, tuple[str, ...]]] = GROUPS) -> list[Finding]:
    """Every check of the groups, in that order, at most case.timeout_s long."""
    examinations = [_Examination(group, names, case) for group, names in groups]
    for examination in examinations:
        examination.start()
    for examination in examinations:
        examination.join(max(0.0, case.left_s()))
    return [finding for examination in examinations for finding in examination.findings()]


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m edge_bridge doctor", description="Looks at everything that a bridge with these settings needs.",
        epilog="Exit code: 0 when no check found a fault, 1 when one did, 2 for a wrong command line.")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.add_argument("--env-file", metavar="FILE", help="settings from this file (NAME=value lines) under those of "
                        "the environment")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=TIMEOUT_S,
                        help="most seconds to take; more for a large outbox [%(default)g]")
    parser.add_argument("--passive", action="store_true", help="do not connect to AWS IoT under the bridge's "
                        "client id, though no bridge runs here (it may run on another machine)")
    return parser.parse_args(arguments)


def command(arguments: Sequence[str], environ: Mapping[str, str], version: str) -> int:
    """Examine, print, and return the exit code."""
    options = _arguments(arguments)
    try:
        written = read_env_file(options.env_file) if options.env_file else {}
    except (OSError, UnicodeDecodeError) as error:
        print(f"doctor: {options.env_file} cannot be read ({getattr(error, 'strerror', error)}); expected a file of "
              "NAME=value lines in UTF-8", file=sys.stderr)
        return 2
    began_s = time.monotonic()
    case = Case.of({**written, **environ}, version=version, timeout_s=options.timeout, passive=options.passive,
                   written=written)
    findings = examine(case)
    took_s = time.monotonic() - began_s
    is_well = not any(finding.state == FAULT for finding in findings)
    if options.json:
        print(json.dumps(_as_json(case, findings, is_well, took_s, options.env_file), indent=1, ensure_ascii=False))
    else:
        print(_as_text(case, findings, took_s, options.env_file or "the environment"))
    return 0 if is_well else 1


def _as_json(case: Case, findings: list[Finding], is_well: bool, took_s: float, source: str | None) -> dict[str, Any]:
    return {"ok": is_well, "at": int(time.time() * 1000), "took_s": round(took_s, 3), "version": case.version,
            "thing": case.settings.thing, "settings": source or "environment",
            "checks": [finding._asdict() for finding in findings]}


def _as_text(case: Case, findings: list[Finding], took_s: float, source: str) -> str:
    width = max(map(len, CHECKS)) + 2
    chosen = case.settings
    lines = [f"EdgeCloud doctor {case.version}: thing {chosen.thing}, endpoint "
             f"{chosen.iot_endpoint or '(none)'}:{chosen.iot_port}, settings from {source}"]
    for finding in findings:
        lines.append(f"{MARKS[finding.state]} {finding.check:{width}}{finding.found}")
        if finding.fix:
            lines.append(" " * (width + 2) + f"fix: {finding.fix}")
    count = {state: sum(finding.state == state for finding in findings) for state in MARKS}
    lines.append(f"{count[OK]} {MARKS[OK]}, {count[FAULT]} {MARKS[FAULT]}, {count[NOT_APPLICABLE]} not applicable, "
                 f"in {took_s:.1f} s")
    return "\n".join(lines)
