"""Alert messages on edgecloud/alerts: sealed by the bridge, stored by lambdas/alert.py, read by people in the console.

{"timestamp", "sensor2", "anomaly"} first, for the consumers that were there before; further fields only after these.
"""
from collections import namedtuple

from contract import batch, numbers
from contract.errors import BadPayload

# field: the measurement that was scored; value: its Decimal; the identity of an anomaly is (site, device, number).
Classified = namedtuple("Classified", "number received_ms timestamp at_ms field value sensor2 anomaly score")
Alert = namedtuple("Alert", "id device site classified")


def _members(c, with_head=True):
    head = [("timestamp", c.timestamp), ("sensor2", c.sensor2), ("anomaly", c.anomaly)] if with_head else []
    tail = [("number", c.number), ("received", c.received_ms), ("at", c.at_ms), ("field", c.field)]
    if c.field != "sensor2":
        tail.append(("value", c.value))
    if c.score is not None:
        tail.append(("score", c.score))
    return head + tail


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
                      message["anomaly"], message.get("score"))


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
