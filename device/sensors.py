"""Where readings come from: simulated, the CPU, lines on stdin or a function of yours; sampler.py asks for them.

A sensor is a callable without arguments that returns a dict of numbers (with a `timestamp` of its own, if it has one).
It raises SensorError for a reading that failed, EOFError when there will be no more.
"""
import glob
import importlib
import math
import os
import random
import sys
from collections import OrderedDict
from decimal import Decimal

from contract import numbers
from contract.errors import BadPayload

THERMAL_ZONES = "/sys/class/thermal/thermal_zone*"
MAX_LINE_BYTES = 1024 * 1024


class SensorError(Exception):
    """A reading that could not be had, or a sensor that is not there: what, got, expected."""


def _decimals(value, places):
    return Decimal("%.*f" % (places, value))


def exact(values):
    """The same dict with every float as the decimal number that Python prints for it; NaN and infinity are refused."""
    if not isinstance(values, dict):
        raise SensorError("the sensor gave %.60r; expected a dict of numbers" % (values,))
    fields = OrderedDict()
    for name, value in values.items():
        if isinstance(value, float):
            if math.isnan(value) or math.isinf(value):
                raise SensorError("the sensor gave %s = %r; expected a number" % (name, value))
            value = Decimal(repr(float(value)))  # NumPy shows its own floats otherwise
        elif not numbers.is_number(value) and not (name == "timestamp" and isinstance(value, str)):
            raise SensorError("the sensor gave %s = %.60r; expected a number" % (name, value))
        fields[name] = value
    return fields


def simulated(seed=None, outliers=0.08, extra=()):
    """sensor1 ~ 20.0 (2 decimals), sensor2 ~ 0.5 (4 decimals) of which a share is far off; a field per name in `extra`.

    With the same seed the same values come in the same order.
    """
    rng = random.Random(seed)

    def read():
        sensor2 = rng.gauss(0.5, 0.05)
        if rng.random() < outliers:
            sensor2 = 0.5 + rng.choice((-1, 1)) * rng.uniform(0.3, 1.5)
        values = OrderedDict([("sensor1", _decimals(rng.gauss(20, 0.3), 2)), ("sensor2", _decimals(sensor2, 4))])
        for name in extra:
            values[name] = _decimals(rng.gauss(50, 5), 1)
        return values

    return read


def _thermal_zone(pattern):
    """Path of the CPU's temperature file: the zone that says it is the CPU's, else the first."""
    found = []
    for zone in sorted(glob.glob(pattern)):
        try:
            with open(os.path.join(zone, "type")) as text:
                found.append((text.read().strip(), os.path.join(zone, "temp")))
        except OSError:
            continue  # a zone without a type says nothing about itself
    of_cpu = [path for kind, path in found if "cpu" in kind or "soc" in kind or "x86_pkg" in kind]
    if not found:
        raise SensorError("no CPU temperature here: nothing matches %s; --sensor cpu needs Linux on a machine that has"
                          " one, such as a Pi; elsewhere use --sensor simulated" % pattern)
    return (of_cpu or [found[0][1]])[0]


def cpu(zones=THERMAL_ZONES):
    """sensor1 = CPU temperature in degrees Celsius, sensor2 = 1-minute load per core."""
    path = _thermal_zone(zones)
    cores = os.cpu_count() or 1

    def read():
        try:
            with open(path) as text:
                temperature_c = int(text.read()) / 1000.0
        except (OSError, ValueError) as error:
            raise SensorError("cannot read the CPU temperature from %s: %s" % (path, error))
        return OrderedDict([("sensor1", _decimals(temperature_c, 2)),
                            ("sensor2", _decimals(os.getloadavg()[0] / cores, 4))])

    return read


def _lines(descriptor):
    """Lines (bytes) of a file descriptor; not through sys.stdin, whose lock a blocked reader holds at exit."""
    rest = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError as error:
            raise SensorError("stdin cannot be read (%s); expected one JSON object a line" % error)
        if not chunk:
            break
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for line in parts:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise SensorError("a line on stdin is over %d bytes; expected one JSON object a line" % MAX_LINE_BYTES)
    if rest:
        yield rest


def from_lines(descriptor=0):
    """One JSON object of numbers a line, such as {"sensor1": 20.1, "sensor2": 0.49}; the end of input ends the run."""
    lines = _lines(descriptor)

    def read():
        line = b""
        while not line.strip():
            try:
                line = next(lines)
            except StopIteration:
                raise EOFError
        try:
            return exact(numbers.loads(line.strip()))
        except BadPayload as error:
            raise SensorError("stdin gave %.60r: %s" % (line, error))

    return read


def from_function(spec):
    """`module:function`, found from the current directory; the function returns a dict of numbers."""
    module_name, _, function_name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise SensorError("--sensor %s: %s; expected module:function, the module in the current directory"
                          % (spec, error))

    def read():
        try:
            return exact(function())
        except (SensorError, EOFError):
            raise
        except Exception as error:  # it is the user's code: whatever it raises costs one reading, not the publisher
            raise SensorError("%s raised %s: %s" % (spec, type(error).__name__, error))

    return read


def open_sensor(name, seed=None, outliers=0.08, extra=()):
    """The sensor that `--sensor` names; SensorError when there is none of that name here."""
    if name == "simulated":
        return simulated(seed, outliers, extra)
    if name == "cpu":
        return cpu()
    if name == "stdin":
        return from_lines()
    if ":" in name:
        return from_function(name)
    raise SensorError("--sensor is %r; expected simulated, cpu, stdin or module:function" % name)
