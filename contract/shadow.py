"""Remote settings: what the device shadow `bridge` of a thing may desire, checked here; written by the cloud (API, make
shadow), answered by the bridge in the shadow's reported state.

desired: any of KEYS, at the top level. A key that is not there is set by the bridge's own settings.
reported: the same keys as they are applied, and ANSWERS, REFUSED, what status.py tells in short.
"""
from collections import namedtuple

from contract import carbon
from contract.errors import BadPayload
from contract.numbers import is_number

ANSWERS = "answers"  # the version of the shadow whose desired state the bridge has judged last
REFUSED = "refused"  # {"version", "reason"}: that state was refused as a whole, and changed nothing
LIVE_BATCH_AGE_S = 0.5  # the batch age while somebody watches
MAX_LIVE_S = 900  # of live_until, from now on: who watches longer renews it
MAX_REASON = 300

BATCH_AGE_RANGE_S = (1, 300)
EPOCH_RANGE_S = (0, 2 ** 33)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

Key = namedtuple("Key", "name expected fits")


def _number_within(lowest, highest):
    return lambda value: is_number(value) and lowest <= value <= highest


def _text(value):
    return isinstance(value, str) and 0 < len(value) <= 64


KEYS = (
    Key("detector", "the name of a detector", _text),  # which there are is known to the bridge
    Key("batch_age_s", "a number of seconds from %d to %d" % BATCH_AGE_RANGE_S, _number_within(*BATCH_AGE_RANGE_S)),
    Key("live_until", "seconds since 1970 until which somebody watches", _number_within(*EPOCH_RANGE_S)),
    Key("carbon_policy", "a carbon policy such as high=400,batch=2 (docs/carbon.md)", carbon.is_policy),
    Key("log_level", "one of " + ", ".join(LOG_LEVELS), LOG_LEVELS.__contains__),
)
NAMES = tuple(key.name for key in KEYS)


def check(desired, detectors):
    """Return the desired state, a dict decoded by numbers.loads, if every member of it can be applied.

    detectors: names that may be asked for. Raises BadPayload("bad desired state") that names every fault.
    """
    if not isinstance(desired, dict):
        raise BadPayload("bad desired state", "got %.60r, expected an object" % (desired,))
    faults = []
    for name in sorted(set(desired) - set(NAMES)):
        faults.append("%.40s is unknown; expected any of %s" % (name, ", ".join(NAMES)))
    for key in KEYS:
        if key.name not in desired:
            continue
        value = desired[key.name]
        if isinstance(value, (dict, list)) or not key.fits(value):
            faults.append("%s is %.40r; expected %s" % (key.name, value, key.expected))
        elif key.name == "detector" and value not in detectors:
            known = ", ".join(sorted(detectors)) or "none: this bridge scores nothing"
            faults.append("detector is %.40r; expected one of %s" % (value, known))
    if faults:
        raise BadPayload("bad desired state", "; ".join(faults)[:MAX_REASON])
    return desired


def update(section, values, token=None):
    """The request that merges values into `desired` or `reported`; None takes a member away."""
    request = {"state": {section: values}}
    if token is not None:
        request["clientToken"] = token
    return request
