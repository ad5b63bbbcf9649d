"""Outcomes to scorecard.json (for scripts) and docs/scorecard.md (for people)."""
import json
import textwrap
from pathlib import Path
from typing import Any

from tests.scorecard.run import Outcome

SUMMED = ("published", "stored", "lost", "doubled", "misordered", "dropped_counted", "lost_before_bridge")
HEAD = ("fault", "runs", *SUMMED, "recover_s", "pass")


def row(outcome: Outcome) -> dict[str, Any]:
    """One fault's runs added up; recover_s is the longest."""
    verdicts = outcome.verdicts
    return {"fault": outcome.fault.name, "runs": len(verdicts),
            **{name: sum(getattr(verdict, name) for verdict in verdicts) for name in SUMMED},
            "recover_s": max((verdict.recover_s for verdict in verdicts), default=0.0), "pass": outcome.passed}


def as_json(outcomes: list[Outcome], seed: int) -> dict[str, Any]:
    """{"faults": [...], "controls": [...], "seed": n}."""
    return {"faults": [row(outcome) for outcome in outcomes if not outcome.fault.control],
            "controls": [row(outcome) for outcome in outcomes if outcome.fault.control], "seed": seed}


def write(directory: Path, found: dict[str, Any], day: str, absent: dict[str, str], full: bool) -> None:
    """scorecard.json and docs/scorecard.md under `directory`."""
    (directory / "scorecard.json").write_text(json.dumps(found, indent=1) + "\n")
    (directory / "docs" / "scorecard.md").write_text(markdown(found, day, absent, full))


def markdown(found: dict[str, Any], day: str, absent: dict[str, str], full: bool) -> str:
    """The dated table, and how to run it again."""
    runs = sum(row["runs"] for row in found["faults"])
    readings = sum(row["published"] for row in found["faults"])
    told = (
        f"Written by `make scorecard{' FULL=1' if full else ''}` on {day}, seed {found['seed']}: {runs} runs of "
        f"{len(found['faults'])} faults, {readings:,} readings and events. "
        f"Again: `make scorecard SEED={found['seed']}`; one row: `python -m tests.scorecard --only NAME`.",
        "Published is what the publishers wrote down when they made it; stored is what DynamoDB holds, read by "
        "(device, spool, seq), timestamp and every value; misordered are inversions when a device is read in the "
        "cloud's order. Nothing asks the bridge, but for the drops it owns up to. Lost before the bridge: of a "
        "publisher without our spool, what the bridge never acknowledged (a recording proxy saw its PUBACKs). "
        "Recovery is the longest time from the end of the fault until all that was made by then was stored.")
    lines = [
        "# Scorecard: what is lost, doubled or turned round under faults", "",
        *(line for text in told for line in (*textwrap.wrap(text, 118, break_on_hyphens=False), "")),
        *_table(found["faults"]), "",
        "Controls must lose, or the test that uses them proves nothing:", "",
        *_table(found["controls"]), ""]
    if absent:
        lines += ["Not run on this machine:", "", *(f"- {name}: {why}" for name, why in sorted(absent.items())), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = [name.replace("_", " ").replace("recover s", "recovery, s") for name in HEAD]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(HEAD) - 2) + "---|"]
    for one in rows:
        cells = [one["fault"], *(f"{one[name]:,}" for name in HEAD[1:-1]), "yes" if one["pass"] else "**no**"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
