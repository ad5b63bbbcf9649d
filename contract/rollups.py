"""Roll-ups: a minute item holds an entry per batch (or event), made by lambdas/aggregate.py, summed on reading; hours
and days are made of them by lambdas/hours.py."""
from collections import namedtuple
from decimal import Context, Decimal

from contract import batch

LATE_MS = 7 * 24 * 3600 * 1000
AHEAD_MS = 5 * 60 * 1000
MINUTE_MS = 60 * 1000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_ROUND = Context(prec=34)

# n readings of one field in one minute: their sum, smallest, largest, and how many were anomalous.
Total = namedtuple("Total", "n sum min max anomalies")


def minute_of(at_ms, received_ms):
    """(start of the minute in ms, trusted): the minute of `timestamp` when it lies within 7 days before and 5 minutes
    after receipt, else the minute of receipt, untrusted."""
    trusted = received_ms - LATE_MS <= at_ms <= received_ms + AHEAD_MS
    moment = at_ms if trusted else received_ms
    return moment - moment % MINUTE_MS, trusted


def totals(rows):
    """{(minute_ms, field): Total} of rows (batch.Row), sums rounded to 34 digits."""
    found = {}
    for row in rows:
        minute, _ = minute_of(row.at_ms, row.received_ms)
        for field, value in row.values.items():
            one = Total(1, value, value, value, 1 if row.mark == batch.ANOMALY else 0)
            found[minute, field] = merge(found[minute, field], one) if (minute, field) in found else one
    return found


def merge(a, b):
    """The total of two totals."""
    return Total(a.n + b.n, _ROUND.add(Decimal(a.sum), Decimal(b.sum)), min(a.min, b.min), max(a.max, b.max),
                 a.anomalies + b.anomalies)
