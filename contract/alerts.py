"""Alert messages on edgecloud/alerts: sealed by the bridge, stored by lambdas/alert.py, read by people in the console.

{"timestamp", "sensor2", "anomaly"} first, for the consumers that were there before; further fields only after these.
An anomaly names its incident: one message opens it, later ones continue it, a message with "anomaly": false closes it.
"""
import hashlib
from collections import OrderedDict, namedtuple

from contract import batch, numbers
from contract.errors import BadPayload

OPENED, OPEN, CLOSED = "opened", "open", "closed"

# field: the measurement that was scored; value: its Decimal; the identity of an anomaly is (site, device, number).
# low, high: Decimals, where a normal value would have been; reason: spike, shift, flat or unusual; incident: see
# `incident`. These four are None where the detector did not say, and in messages of before there were any.
Classified = namedtuple("Classified", "number received_ms timestamp at_ms field value sensor2 anomaly score "
                        "low high reason incident")
Classified.__new__.__defaults__ = (None, None, None, None)
Alert = namedtuple("Alert", "id device site classified")


def _members(c, with_head=True):
    head = [("timestamp", c.timestamp), ("sensor2", c.sensor2), ("anomaly", c.anomaly)] if with_head else []
    tail = [("number", c.number), ("received", c.received_ms), ("at", c.at_ms), ("field", c.field)]
    if c.field != "sensor2":
        tail.append(("value", c.value))
    for name in ("score", "low", "high", "reason", "incident"):
        if getattr(c, name) is not None:
            tail.append((name, getattr(c, name)))
    return head + tail


def incident(device, field, number, state, opened_ms, count, peak, reason):
    """What a message says of its incident. device, field, number: of the anomaly that opened it; of these its id is
    made, so that a bridge that comes to it again gives it the same. state: opened (by this message), open or closed;
    count: anomalies in it so far; peak: the value that was farthest out, of the field of the last one (beside its band
    it is read); reason: what most of them were.

    Readers put `count`, `peak`, `reason` and `state` in place of what they had: nothing is to be added up.
    """
    identity = numbers.dumps([device, field, number]).encode("utf-8")
    return OrderedDict([("id", hashlib.sha256(identity).hexdigest()[:24]), ("state", state), ("opened", opened_ms),
                        ("count", count), ("peak", peak), ("reason", reason)])


def _text(members):
    return ",".join("%s:%s" % (numbers.dumps(k), numbers.dumps(v)) for k, v in members)


def seal(outbox, device, classified):
    """Seal one device's classified readings (newest last) as one message: (id, bytes).

    The newest is in the message's own fields, the others, oldest first, in `also`. Raises BadPayload over 128 KiB.
    """
    newest = classified[-1]
    head = "{%s,\"v\":1," % _text(_members(newest)[:3])
    body = [("outbox", outbox), ("device_id", device)] + _members(newest, with_head=False)
    if len(classified) > 1:
        body.append(("also", [dict_of(c) for c in classified[:-1]]))
    return batch.seal(_text(body) + "}", head)


def dict_of(c):
    """One classified reading as a JSON object."""
    return dict(_members(c))


def _classified(message):
    field = message["field"]
    return Classified(message["number"], message["received"], message["timestamp"], message["at"], field,
                      message["sensor2"] if field == "sensor2" else message["value"], message["sensor2"],
                      message["anomaly"], message.get("score"), message.get("low"), message.get("high"),
                      message.get("reason"), message.get("incident"))


def read(message):
    """Open an alert message as the rule hands it on (JSON text or object): an Alert, its readings oldest first.

    Raises BadPayload for what is no alert of the bridge's.
    """
    if isinstance(message, (str, bytes)):
        message = numbers.loads(message)
    if not isinstance(message, dict) or message.get("v") != batch.VERSION:
        raise BadPayload("unknown alert version", "expected an object with \"v\": %d" % batch.VERSION)
    try:
        classified = [_classified(m) for m in list(message.get("also", ())) + [message]]
        return Alert(message["id"], message["device_id"], message.get("site"), classified)
    except (KeyError, TypeError) as error:
        raise BadPayload("broken alert", "missing or wrong: %s" % error)
