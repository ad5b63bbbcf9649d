"""`make rebuild FROM=… TO=…`: applies the archive's messages again to empty or damaged tables; safe to repeat, over
live data too. FROM and TO are times of arrival; the rest of an archive object that holds one is applied with it.

It reads what is there and writes what is missing or different (rebuild_tables.py); after each hour of arrival it writes
down how far it is, and goes on from there when it is started again with the same FROM, TO and SITE.
"""
import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from contract import payloads
from contract.errors import BadPayload
from deploy import rebuild_archive, target
from deploy.aws_cli import CliFault
from deploy.processes import ROOT
from deploy.rebuild_tables import Pace, Rebuilder
from deploy.target import Target, TargetFault
from infra.errors import SynthesisFault
from infra.settings import product_version, read
from lambdas import table

TABLES = ("readings", "rollups", "alerts", "incidents")
PROGRESS = ROOT / ".rebuild"
WRITES_PER_S = 500.0


class Range(NamedTuple):
    """What is to be rebuilt: from <= arrival < to, of one site or of all."""

    from_ms: int
    to_ms: int
    site: str | None


def moment_of(text: str, what: str) -> int:
    """Epoch seconds, ISO 8601, or a day (its first moment, UTC) in ms. Raises TargetFault."""
    try:
        whole = text.replace(".", "", 1).isdigit()
        return int(payloads.at_ms(json.loads(text) if whole else text if "T" in text else f"{text}T00:00Z"))
    except (BadPayload, ValueError):
        raise TargetFault(f"{what} is {text!r}; expected such as 2026-11-22, 2026-11-22T07:24Z or epoch "
                          "seconds") from None


class Progress:
    """How far a rebuild of a range is, in a file; `path` is gone when it has ended."""

    def __init__(self, path: Path, wanted: Range) -> None:
        self.path, self._wanted = path, list(wanted)

    def done_ms(self) -> int:
        """Start of the first hour of arrival that is not done; 0 at the beginning, or of another range."""
        if not self.path.exists():
            return 0
        told = json.loads(self.path.read_text(encoding="utf-8"))
        return int(told["next_ms"]) if told["range"] == self._wanted else 0

    def note(self, next_ms: int) -> None:
        """All before this is done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".new")
        whole.write_text(json.dumps({"range": self._wanted, "next_ms": next_ms}), encoding="utf-8")
        whole.replace(self.path)

    def end(self) -> None:
        """Nothing is left to be done."""
        self.path.unlink(missing_ok=True)


def use(place: Target) -> None:
    """Let the functions' modules work on this deployment's tables, with its functions' settings."""
    os.environ.update(json.loads(place.parameter("rebuild-environment")))
    os.environ.update({f"{what.upper()}_TABLE": place.parameter(f"{what}-table") for what in TABLES})
    table.CLIENTS["dynamodb"] = place.client("dynamodb")


def rebuild(s3: Any, bucket: str, wanted: Range, rebuilder: Rebuilder, progress: Progress,
            say: Callable[[str], None] = print) -> int:
    """Apply all that arrived in the range, hour by hour. Returns how many objects and lines had to be left."""
    left, since_ms = 0, progress.done_ms()
    if since_ms:
        say(f"rebuild: goes on from {_text(since_ms)}")
    for hour_ms, objects, strange in rebuild_archive.by_hour(s3, bucket, wanted.from_ms, wanted.to_ms):
        if hour_ms < since_ms:
            continue
        for key in strange:
            left += 1
            say(f"rebuild: s3://{bucket}/{key} is left: not named as Firehose names objects; look at it by hand")
        for one in objects:
            left += _object(s3, bucket, one, rebuilder, say)
        rebuilder.finish()
        if objects and not rebuilder.failed_hours:  # without any it is but the place where strange keys are told of
            progress.note(hour_ms + rebuild_archive.HOUR_MS)
        say(f"{_text(hour_ms)}: {len(objects)} objects; so far {_told(rebuilder)}")
    return left


def _object(s3: Any, bucket: str, one: rebuild_archive.Archived, rebuilder: Rebuilder,
            say: Callable[[str], None]) -> int:
    """Apply one object's messages; a message that cannot be applied is named and left, as in a dead-letter queue."""
    left = 0
    try:
        for number, text in rebuild_archive.messages(s3, bucket, one.key):
            try:
                rebuilder.apply(one.route, text, one.arrived_ms)
            except (ClientError, BotoCoreError, table.NotStored):
                raise
            except Exception as fault:  # whatever it was: its function would have made a dead letter of it
                left += 1
                say(f"rebuild: line {number} of s3://{bucket}/{one.key} is left: {fault!r:.200}")
    except rebuild_archive.Unreadable as fault:
        left += 1
        say(f"rebuild: left: {fault}")
    return left


def _text(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(moment_ms // 1000))


def _told(rebuilder: Rebuilder) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(rebuilder.counts.items())) or "nothing"


def main() -> int:
    """Command line of `make rebuild`: 0 when all was applied, 1 when something had to be left, 2 for a fault."""
    options = _options()
    try:
        settings = read(json.loads(os.environ.get("CDK_CONTEXT_JSON") or "{}"), product_version())
        wanted = Range(moment_of(options.from_, "FROM"), moment_of(options.to, "TO") if options.to
                       else int(time.time() * 1000), options.site or None)
        if wanted.from_ms >= wanted.to_ms:
            raise TargetFault("FROM is not before TO; expected from <= arrival < to")
        place = target.of(options.target, settings, Path(options.cloud) if options.cloud else None)
        place.flush()  # what a local Firehose still holds
        use(place)
        rebuilder = Rebuilder(Pace(options.rate), wanted.site, options.dry_run)
        name = f"{options.target}-{settings.name}{'-dry' if options.dry_run else ''}.json"
        progress = Progress(PROGRESS / name, wanted)
        left = rebuild(place.client("s3"), place.parameter("archive-bucket"), wanted, rebuilder, progress)
    except (TargetFault, CliFault, SynthesisFault, ClientError, BotoCoreError, table.NotStored) as fault:
        print(f"rebuild: {fault}", file=sys.stderr)
        return 2
    if not rebuilder.failed_hours:
        progress.end()
    for pk, hour_ms in rebuilder.failed_hours:
        print(f"rebuild: the hour {_text(hour_ms)} of {pk} could not be made; run it again", file=sys.stderr)
    print(f"rebuild: {'would have been ' if options.dry_run else ''}done; {_told(rebuilder)}; {left} left")
    return 1 if left or rebuilder.failed_hours else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make rebuild", description=__doc__)
    parser.add_argument("--from", dest="from_", required=True, help="first moment of arrival: 2026-11-22, ISO 8601 or "
                        "epoch seconds")
    parser.add_argument("--to", default="", help="moment before which it arrived; default: now")
    parser.add_argument("--site", default="", help="only this site")
    parser.add_argument("--dry-run", action="store_true", help="compare and count, write nothing")
    parser.add_argument("--rate", type=float, default=WRITES_PER_S, help="writes a second (default: %(default)s)")
    parser.add_argument("--target", default=target.AWS)
    parser.add_argument("--cloud", default="", help="the local cloud's ready file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
