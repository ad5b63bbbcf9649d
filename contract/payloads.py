"""The JSON that devices send: built by device/, read and checked by the bridge and the API before it is stored."""
import calendar
import decimal
import re
from collections import OrderedDict, namedtuple
from decimal import Decimal

from contract import numbers, topics
from contract.errors import BadPayload

MAX_MESSAGE_BYTES = 64 * 1024  # one reading; a batch of 128 KiB must be able to carry it
MAX_FIELDS = 256
MAX_DEPTH = 8
LAST_SECOND = 253402300800  # the year 10000: beyond it a number of seconds is in fact milliseconds
RESERVED = frozenset(("timestamp", "device_id", "seq", "spool", "first"))

_NO_TURN = (None, None, None)
_HALF = Decimal("0.5")

# timestamp: as it came (Decimal, int or str); at_ms: UTC milliseconds; values: {name: Decimal}; extra: all else.
Reading = namedtuple("Reading", "device_id timestamp at_ms seq spool first values extra")

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d{0,9})?)?"
    r"(Z|z|[+-]\d\d(?::?\d\d)?)?\Z", re.ASCII)


def sensor_reading(timestamp, values, device_id=None, spool=None, seq=None, first=None):
    """Build what the Pi publishes: {"timestamp", "sensor1", "sensor2", ...}; if given, who, and which of its spool."""
    message = OrderedDict([("timestamp", timestamp)])
    message.update(values)
    for name, value in (("device_id", device_id), ("spool", spool), ("seq", seq), ("first", first)):
        if value is not None:
            message[name] = value
    return message


def camera_event(device_id, timestamp, persons_detected):
    """Build what a camera sends: {"device_id", "timestamp", "persons_detected"}."""
    return OrderedDict([("device_id", device_id), ("timestamp", timestamp), ("persons_detected", persons_detected)])


def ack(spool, seq):
    """Build what the bridge answers on sensor/ack/<device>: all of this spool up to seq is on disk."""
    return {"spool": spool, "seq": seq}


def at_ms(timestamp):
    """UTC milliseconds (int, half up) of epoch seconds (int, Decimal) or of an ISO 8601 text; no zone means UTC.

    Raises BadPayload("bad timestamp").
    """
    if numbers.is_number(timestamp):
        if not 0 <= timestamp < LAST_SECOND:
            raise BadPayload("bad timestamp", "got %.40s; expected epoch seconds, from 0 to the year 9999" % timestamp)
        return int(timestamp * 1000 + _HALF)
    match = _ISO.match(timestamp) if isinstance(timestamp, str) else None
    if match is None:
        raise BadPayload("bad timestamp", "got %.60r; expected epoch seconds or ISO 8601" % (timestamp,))
    return _iso_ms(match, timestamp)


def _iso_ms(match, text):
    year, month, day, hour, minute, second = [int(part or 0) for part in match.groups()[:6]]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= days[month - 1]
            and hour < 24 and minute < 60 and second <= 60):
        raise BadPayload("bad timestamp", "got %.60r; no such date or time since 1970" % text)
    offset_min = 0
    zone = match.group(8)
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset_min = (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    fraction_ms = int((match.group(7) or "0").ljust(9, "0")) // 1000000
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - offset_min * 60
    return seconds * 1000 + fraction_ms


def read(raw, required="sensor2"):
    """Read one reading or event from its bytes: every rule of the contract is checked here.

    raw: UTF-8 JSON, at most 64 KiB. required: the field that must be there and be a number (`sensor2` of a Pi,
    `persons_detected` of a camera). Returns a Reading. Raises BadPayload with the reason.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise BadPayload("message too large", "got %d bytes, expected at most %d" % (len(raw), MAX_MESSAGE_BYTES))
    message = numbers.loads(raw)
    if not isinstance(message, dict):
        raise BadPayload("not an object", "got a JSON %s, expected an object" % type(message).__name__)
    return _reading(message, required)


def read_again(raws, required="sensor2"):
    """What `read` makes of each of many payloads that it accepted before: [Reading, ...], decoded in one go.

    Raises BadPayload when this version of the contract refuses any of them; `read` then tells which.
    """
    messages = numbers.loads(b"[" + b",".join(raws) + b"]")
    if len(messages) != len(raws) or not all(type(message) is dict for message in messages):
        raise BadPayload("not an object", "one of %d payloads is not one JSON object" % len(raws))
    return [_reading(message, required) for message in messages]


def _reading(message, required):
    if len(message) > MAX_FIELDS:
        raise BadPayload("too many fields", "got %d, expected at most %d" % (len(message), MAX_FIELDS))
    if "" in message:
        raise BadPayload("bad field name", "got an empty one, expected 1 character or more (DynamoDB refuses it)")
    values, extra, fit = {}, {}, numbers.fit
    try:
        for name, value in message.items():
            if name in RESERVED:
                continue
            kind = type(value)
            if kind is Decimal:
                values[name] = fit(value)
            elif kind is int:
                values[name] = fit(Decimal(value))
            else:
                extra[name] = _checked_extra(name, value)
    except decimal.DecimalException:
        numbers.check(value, name)  # raises the same with words
        raise
    if required not in values:
        raise BadPayload(
            "missing " + required if required not in message else "not a number",
            "%s is %.60r; expected a number" % (required, message.get(required)))
    if "sensor1" in extra:
        raise BadPayload("not a number", "sensor1 is %.60r; expected a number" % (extra["sensor1"],))
    if "timestamp" not in message:
        raise BadPayload("missing timestamp", "expected epoch seconds or ISO 8601")
    timestamp = message["timestamp"]
    if type(timestamp) is Decimal:
        numbers.check(timestamp, "timestamp")
    device_id = message.get("device_id")
    if device_id is not None:
        topics.check_device(device_id)
    spool, seq, first = turn(message) if "seq" in message or "spool" in message or "first" in message else _NO_TURN
    return Reading(device_id, timestamp, at_ms(timestamp), seq, spool, first, values, extra)


def turn(message):
    """The publisher's (spool, seq, first) in a decoded object, each None when absent; seq alone needs no spool.

    Raises BadPayload.
    """
    spool, seq, first = message.get("spool"), message.get("seq"), message.get("first")
    for name, value in (("seq", seq), ("first", first)):
        if value is not None and not (type(value) is int and 0 <= value < 10 ** 18):
            raise BadPayload("bad " + name, "got %.60r, expected a whole number from 0" % (value,))
    if spool is not None:
        if not isinstance(spool, str) or not 1 <= len(spool) <= 64:
            raise BadPayload("bad spool", "got %.80r, expected 1 to 64 characters" % (spool,))
        if seq is None or first is None or first > seq:
            raise BadPayload("bad spool", "seq is %r, first is %r; with a spool expected first <= seq" % (seq, first))
    return spool, seq, first


def _checked_extra(name, value, depth=1):
    """An unknown field is kept, but its numbers must fit and its nesting end."""
    if depth > MAX_DEPTH:
        raise BadPayload("nested too deeply", "%s has more than %d levels" % (name, MAX_DEPTH))
    if numbers.is_number(value):
        numbers.check(value, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            _checked_extra("%s.%s" % (name, key), item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _checked_extra(name, item, depth + 1)
    return value
