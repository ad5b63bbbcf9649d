"""What a back-test is made of: a CSV file with a column `timestamp`, or archive objects (.gz, or their lines) copied to
disk; read here, for backtest.py.
"""
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from contract import batch, numbers, payloads
from contract.errors import BadPayload
from edge_bridge.judging import TOGETHER

_GZIP = b"\x1f\x8b"


class BadInput(Exception):
    """The file cannot be back-tested: what, where, expected."""


class Reading(NamedTuple):
    """timestamp, value: as they came; values: the numbers that are judged, one or several; device: whose."""

    device: str
    timestamp: str
    at_ms: int
    value: str
    values: tuple[float, ...]


def read(path: Path, column: str) -> list[Reading]:
    """The readings of a file in its order. Raises BadInput."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); expected CSV, or an archive object as it lies in the bucket"
                       ) from error
    found = list(_archive(path, text, column) if text.lstrip().startswith("{") else _csv(path, text, column))
    if not found:
        raise BadInput(f"{path} has no readings; expected a header and at least one row")
    return found


def _csv(path: Path, text: str, column: str) -> Iterator[Reading]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        yield from _rows(path, rows, column)
    except csv.Error as error:
        raise BadInput(f"{path}, line {rows.line_num}: no CSV ({error}); expected one row a line"
                       ) from error


def _rows(path: Path, rows: "csv.DictReader[str]", column: str) -> Iterator[Reading]:
    names = column.split(TOGETHER)
    missing = [name for name in ("timestamp", *names) if name not in (rows.fieldnames or ())]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]!r}; its columns are {', '.join(rows.fieldnames or ())}; "
                       "name the measurement with --column")
    for row in rows:
        at = f"{path}, line {rows.line_num}"
        if None in row or None in row.values():
            raise BadInput(f"{at}: {len(row)} fields; expected {len(rows.fieldnames or ())}")
        timestamp = row["timestamp"].strip()
        yield Reading(row.get("device_id") or "", timestamp, _at_ms(at, timestamp),
                      TOGETHER.join(row[name].strip() for name in names),
                      tuple(_number(f"{at}: {name}", row[name]) for name in names))


def _archive(path: Path, text: str, column: str) -> Iterator[Reading]:
    """Batches, one a line, as the archive's objects hold them; only of what has this measurement."""
    names = column.split(TOGETHER)
    for line_number, line in enumerate(text.rstrip().split("\n"), 1):  # a name may have other separators of lines
        try:
            opened = batch.read(line)
            for series in opened.series:
                for row in batch.unpack(series):
                    if all(name in row.values for name in names):
                        yield Reading(series["device"], str(row.timestamp), row.at_ms,
                                      TOGETHER.join(str(row.values[name]) for name in names),
                                      tuple(float(row.values[name]) for name in names))
        except (BadPayload, KeyError, TypeError, IndexError) as error:
            raise BadInput(f"{path}, line {line_number}: no batch ({error}); expected one sealed batch a line"
                           ) from error


def _number(what: str, text: str) -> float:
    try:
        number = Decimal(text.strip())
        if not number.is_finite():
            raise ValueError
        return float(numbers.check(number, what))
    except (ArithmeticError, BadPayload, ValueError) as error:
        raise BadInput(f"{what} is {text!r}; expected a number") from error


def _at_ms(at: str, timestamp: str) -> int:
    try:
        stamp: Any = Decimal(timestamp)
    except ArithmeticError:
        stamp = timestamp
    try:
        return int(payloads.at_ms(stamp))
    except BadPayload as error:
        raise BadInput(f"{at}: {error}") from error
