"""The carbon policy: its states, and the table of what may be chosen; written as text in CARBON_POLICY of the bridge or
as `carbon_policy` in the device shadow (contract/shadow.py), checked here, applied by edge_bridge/carbon.py.

The text is `name=value` with commas or spaces between; what it does not name has the table's default:
"high=450,batch=2,adapt=always".
"""
from collections import namedtuple

from contract.errors import BadPayload

LOW, NORMAL, HIGH = "low", "normal", "high"
STATES = (LOW, NORMAL, HIGH)
OFF, MEASURED, ALWAYS = "off", "measured", "always"
MAX_TEXT = 160

Row = namedtuple("Row", "name default lowest highest sentence")

TABLE = (
    Row("adapt", MEASURED, None, None, "off: the intensity is shown, nothing changes; measured: what a provider or a "
        "file of yours says is adapted to, the built-in schedule is not; always: that, too"),
    Row("high", "q75", 1, 2000, "from here on the state is high: gCO2/kWh, or q and a percentage of the day's curve"),
    Row("low", "q25", 0, 2000, "up to here the state is low, likewise"),
    Row("margin", 5.0, 0, 50, "percent that the intensity must fall below high, or rise above low, to leave the state"),
    Row("dwell_min", 30.0, 0, 240, "minutes that a state lasts at least"),
    Row("batch", 3.0, 1, 10, "while high: times the batch age, up to 45 s"),
    Row("backfill", 0.25, 0.05, 1, "while high: share of its pace that the backlog goes at"),
    Row("frames", 0.5, 0.1, 1, "while high: share of its frames that a live camera looks at"),
    Row("postpone_h", 6.0, 0, 24, "hours that heavy work and the backlog's full pace wait at most"),
)
NAMES = tuple(row.name for row in TABLE)


def policy(text):
    """Return {name: value} for every row of TABLE: numbers, but `adapt` a word, and high and low gCO2/kWh or
    ("q", share of the day's curve). Raises BadPayload("bad carbon policy") that names every fault."""
    values, faults = {}, []
    for part in text.replace(",", " ").split():
        name, equals, written = part.partition("=")
        if name not in NAMES or not equals:
            faults.append("%.30r is unknown; expected name=value, with any name of %s" % (part, ", ".join(NAMES)))
        elif name in values:
            faults.append("%s is there twice" % name)
        else:
            values[name] = written
    read = {}
    for row in TABLE:
        try:
            read[row.name] = _value(row, values.get(row.name, row.default))
        except ValueError:
            faults.append("%s is %.20r; expected %s" % (row.name, values[row.name], _expected(row)))
    if not faults and isinstance(read["high"], tuple) == isinstance(read["low"], tuple) and read["high"] <= read["low"]:
        faults.append("high is not above low; expected it to be")
    if faults:
        raise BadPayload("bad carbon policy", "; ".join(faults))
    return read


def is_policy(text):
    """Can this be the policy? "" is: the defaults."""
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        return False
    try:
        policy(text)
    except BadPayload:
        return False
    return True


def _value(row, written):
    if row.name == "adapt":
        if written not in (OFF, MEASURED, ALWAYS):
            raise ValueError(written)
        return written
    if row.name in (HIGH, LOW) and written.startswith("q"):
        percent = float(written[1:])
        if not 0 < percent < 100:
            raise ValueError(written)
        return "q", percent / 100
    value = float(written)
    if not row.lowest <= value <= row.highest:
        raise ValueError(written)
    return value


def _expected(row):
    if row.name == "adapt":
        return "one of %s, %s, %s" % (OFF, MEASURED, ALWAYS)
    quantile = ", or q1 to q99" if row.name in (HIGH, LOW) else ""
    return "a number from %g to %g%s" % (row.lowest, row.highest, quantile)
