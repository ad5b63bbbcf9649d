"""Batches: the bridge packs and seals rows here, the Lambdas open and unpack them; layout version 1.

{"v": 1, "id": "<24 hex digits>", "outbox": "<random id>", "kind": "readings" | "events", "series": [<series>, ...]}
A series is one device's rows, column by column, in receive order (see `pack`). Every version ever released stays
readable.
"""
import hashlib
import zlib
from collections import namedtuple
from decimal import Decimal
from operator import sub

from contract import numbers, payloads
from contract.errors import BadPayload

VERSION = 1
MAX_BYTES = 128 * 1024
_NUMBERS = {int, Decimal}
_ZLIB = b"x"  # what zlib's bytes begin with, and JSON never
ANOMALY, UNCLASSIFIED = "anomaly", "unclassified"  # marks of rows, and where a series lists them
METER_BYTES = 5120  # AWS meters messages, rules and actions in steps of this size

# number: per-device receive number; kafka: None or (topic, partition, offset, record timestamp in ms);
# mark: None, ANOMALY or UNCLASSIFIED; the rest as in payloads.Reading.
Row = namedtuple("Row", "number received_ms timestamp at_ms seq spool values extra mark kafka")
Batch = namedtuple("Batch", "id outbox kind series site")


def seal(body, head='{"v":1,'):
    """The exact bytes to publish, and their id: 24 hex digits of the SHA-256 of what follows the id field.

    body: JSON text of the members after the id, with the closing brace, among them the outbox's random id.
    head: JSON text before the id. Returns (id, bytes); raises BadPayload over 128 KiB.
    """
    rest = body.encode("utf-8")
    batch_id = hashlib.sha256(rest).hexdigest()[:24]
    sealed = head.encode("utf-8") + ('"id":"%s",' % batch_id).encode("ascii") + rest
    if len(sealed) > MAX_BYTES:
        raise BadPayload("batch too large", "got %d bytes, expected at most %d" % (len(sealed), MAX_BYTES))
    return batch_id, sealed


def seal_series(kind, outbox, series):
    """Seal packed series (JSON texts, one per device) into one batch: (id, bytes)."""
    return seal('"outbox":%s,"kind":"%s","series":[%s]}' % (numbers.dumps(outbox), kind, ",".join(series)))


def _steps(column):
    return [column[0]] + list(map(sub, column[1:], column))


def _unsteps(steps):
    total, column = 0, []
    for step in steps:
        total += step
        column.append(total)
    return column


def _count(column):
    """[7, 8, 9] -> 7 (counting by one from 7); anything else stays a list."""
    first = column[0]
    if first is not None and column == list(range(first, first + len(column))):
        return first
    return column


def _uncount(packed, length):
    return packed if isinstance(packed, list) else list(range(packed, packed + length))


def _same(column):
    """["a", "a"] -> "a"; anything else stays a list."""
    return column[0] if column.count(column[0]) == len(column) else column


def _runs(flags):
    """Indices of the true flags: single ones as int, neighbours as [first, count]."""
    runs = []
    for index, flag in enumerate(flags):
        if not flag:
            continue
        if runs and runs[-1][0] + runs[-1][1] == index:
            runs[-1][1] += 1
        else:
            runs.append([index, 1])
    return [first if count == 1 else [first, count] for first, count in runs]


def _unruns(runs):
    indices = set()
    for run in runs:
        indices.update((run,) if isinstance(run, int) else range(run[0], run[0] + run[1]))
    return indices


def _timestamps(column):
    """Epoch seconds as [exponent, first, usual step, deviation from it, ...]; with a text, ["as is", value, ...]."""
    if set(map(type, column)) <= _NUMBERS:
        packed = numbers.pack(column)
        if packed[0] != "text":
            steps = _steps(packed[1:])
            usual = sorted(steps[1:])[len(steps) // 2 - 1] if len(steps) > 1 else 0
            return packed[:1] + steps[:1] + [usual] + [step - usual for step in steps[1:]]
    return ["as is"] + [t if isinstance(t, str) else numbers.canonical(Decimal(t)) for t in column]


def _untimestamps(packed):
    if packed[0] == "as is":
        return packed[1:]
    exponent, first, usual = packed[:3]
    return numbers.unpack([exponent] + _unsteps([first] + [usual + deviation for deviation in packed[3:]]))


def _received(received, at):
    """Receive times as steps in ms, or as lag behind `timestamp` where that is shorter (a live stream)."""
    steps, lags = _steps(received), _steps([r - a for r, a in zip(received, at)])
    if len(str(lags)) < len(str(steps)):
        return "lag", lags
    return "received", steps


def pack(device, rows):
    """Pack one device's rows (a non-empty list of Row, in receive order) as the JSON text of one series."""
    n = len(rows)
    # Column by column from here on: row by row would cost three times as much.
    number, received, timestamp, at, seq, spool, values, extra, mark, kafka = map(list, zip(*rows))
    name, received = _received(received, at)
    series = [("device", device), ("n", n), ("number", _count(number)), (name, received)]
    if kafka[0] is not None:
        topic, partition, offset, recorded = map(list, zip(*kafka))
        series += [("topic", _same(topic)), ("partition", _same(partition)),
                   ("offset", _count(offset)), ("recorded", _steps(recorded))]
    if spool.count(None) < n:
        series.append(("spool", _same(spool)))
    if seq.count(None) < n:
        series.append(("seq", _count(seq)))
    series.append(("timestamp", _timestamps(timestamp)))
    names = sorted(set().union(*values))
    series.append(("values", dict((k, numbers.pack([value.get(k) for value in values])) for k in names)))
    for found in (ANOMALY, UNCLASSIFIED):
        if found in mark:
            series.append((found, _runs([one == found for one in mark])))
    if any(extra):
        series.append(("extra", [[i, fields] for i, fields in enumerate(extra) if fields]))
    return "{%s}" % ",".join("%s:%s" % (numbers.dumps(k), numbers.dumps(v)) for k, v in series)


def stored(series):
    """A series (a decoded object) as the cloud's table keeps it: JSON text, compressed to less than half.

    A table is billed by the KB written and stored. Bytes that differ with the version of zlib are no harm: `unpack`
    reads them all, as it reads the plain text that older items hold.
    """
    return zlib.compress(numbers.dumps(series).encode("utf-8"), 9)


def unpack(series):
    """The rows of one series (a decoded object, its JSON text, or what `stored` made), in receive order: a list of Row.
    """
    if not isinstance(series, (str, dict)):
        series = bytes(series)  # a library may wrap them
        series = numbers.loads(zlib.decompress(series) if series[:1] == _ZLIB else series)
    elif isinstance(series, str):
        series = numbers.loads(series)
    n = series["n"]
    timestamps = _untimestamps(series["timestamp"])
    at = [payloads.at_ms(timestamp) for timestamp in timestamps]
    if "lag" in series:
        received = [lag + a for lag, a in zip(_unsteps(series["lag"]), at)]
    else:
        received = _unsteps(series["received"])
    columns = dict((name, numbers.unpack(packed)) for name, packed in series["values"].items())
    anomalies, unclassified = _unruns(series.get(ANOMALY, ())), _unruns(series.get(UNCLASSIFIED, ()))
    extra = dict((index, fields) for index, fields in series.get("extra", ()))
    numbers_, seqs = _uncount(series["number"], n), _uncount(series.get("seq", [None] * n), n)
    spools, kafka = _spread(series.get("spool"), n), _kafka(series, n)
    return [
        Row(numbers_[i], received[i], timestamps[i], at[i], seqs[i], spools[i],
            dict((name, column[i]) for name, column in columns.items() if column[i] is not None),
            extra.get(i, {}),
            ANOMALY if i in anomalies else UNCLASSIFIED if i in unclassified else None, kafka[i])
        for i in range(n)
    ]


def _spread(packed, n):
    return packed if isinstance(packed, list) else [packed] * n


def _kafka(series, n):
    if "offset" not in series:
        return [None] * n
    return list(zip(_spread(series["topic"], n), _spread(series["partition"], n),
                    _uncount(series["offset"], n), _unsteps(series["recorded"])))


def read(message):
    """Check and open a batch as the rule hands it on: JSON text or the decoded object, `site` added by the rule.

    Returns a Batch whose series are decoded objects (see `unpack`). Raises BadPayload for what no version ever was.
    """
    if isinstance(message, (str, bytes)):
        message = numbers.loads(message)
    if not isinstance(message, dict) or message.get("v") != VERSION:
        raise BadPayload("unknown batch version", "got %.40r, expected %d" % (
            message.get("v") if isinstance(message, dict) else message, VERSION))
    missing = [name for name in ("id", "outbox", "kind", "series") if name not in message]
    if missing:
        raise BadPayload("broken batch", "missing %s" % ", ".join(missing))
    return Batch(message["id"], message["outbox"], message["kind"], message["series"], message.get("site"))


def event_id(topic, partition, offset, recorded_ms):
    """24 hex digits that name one Kafka event, whichever bridge delivered it in whichever batch."""
    identity = numbers.dumps([topic, partition, offset, recorded_ms])
    return hashlib.sha256(identity.encode("utf-8")).hexdigest()[:24]
