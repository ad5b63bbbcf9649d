"""A reading as text: made of what a sensor gave, kept by spool.py, sent by publisher.py with its turn added."""
from collections import OrderedDict
from decimal import Decimal

from contract import numbers, payloads
from contract.errors import BadPayload

_LONGEST_TURN = ("0" * 16, 10 ** 17, 10 ** 17)


def reading_text(values, now_s, device):
    """JSON text of what a sensor gave, its place in the spool aside.

    A `timestamp` among the values is kept, else it is now. Raises BadPayload for what the bridge would not take: once
    it were spooled, everything after it would wait for its acknowledgement.
    """
    values = OrderedDict(values)
    timestamp = values.pop("timestamp", Decimal("%.3f" % now_s))
    taken = payloads.RESERVED.intersection(values)
    if taken:
        raise BadPayload("reserved name", "the sensor gave %s; expected other names" % ", ".join(sorted(taken)))
    text = numbers.dumps(payloads.sensor_reading(timestamp, values))
    payloads.read(message(text, device, *_LONGEST_TURN))
    return text


def message(text, device, spool, seq, first):
    """The bytes to publish: the spooled text with the turn added; `first` is only known when it is sent.

    Spliced rather than decoded and encoded again: every digit and the order of the fields stay.
    """
    turn = numbers.dumps(OrderedDict([("device_id", device), ("spool", spool), ("seq", seq), ("first", first)]))
    return (text[:-1] + "," + turn[1:]).encode("utf-8")
