"""Settings of the publisher: one table, read once at start from flags, then environment, then defaults."""
import argparse
import os
import sys
from collections import OrderedDict, namedtuple
from urllib.parse import quote

from contract import payloads, topics
from contract.errors import BadPayload
from device import identity, version

Setting = namedtuple("Setting", "flag env default read sentence")


class SettingsError(Exception):
    """All faults found in the settings, one a line."""


def _text(text):
    return text


def _whole(low, high):
    def read(text):
        if not (text.isdigit() and low <= int(text) <= high):
            raise ValueError("expected a whole number from %d to %d" % (low, high))
        return int(text)
    return read


def _number(low, high):
    def read(text):
        try:
            number = float(text)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError("expected a number from %g to %g" % (low, high))
        return number
    return read


def _optional(read):
    return lambda text: read(text) if text else None


def _device(text):
    try:
        return topics.check_device(text) if text else identity.device_id()
    except BadPayload as error:
        raise ValueError(str(error))


def _publish_topic(text):
    if not text or len(text.encode("utf-8", "replace")) > 1024 or any(c in "+#\0" for c in text):
        raise ValueError("expected a topic to publish to, without '+' and '#'")
    return text


def _ack(text):
    if text not in ("bridge", "broker"):
        raise ValueError("expected bridge (its sensor/ack/<device> counts) or broker (the PUBACK counts)")
    return text


def _names(text):
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    taken = payloads.RESERVED.union(("sensor1", "sensor2")).intersection(names)
    if taken:
        raise ValueError("expected other names than " + ", ".join(sorted(taken)))
    return names


SETTINGS = (
    Setting("broker", "BROKER", "localhost", _text, "host name or address of the MQTT broker"),
    Setting("port", "PORT", str(topics.LAN_PORT), _whole(1, 65535), "port of the MQTT broker"),
    Setting("topic", "TOPIC", topics.SENSOR_DATA, _publish_topic, "topic to publish to"),
    Setting("username", "MQTT_USERNAME", "", _text, "user name for the broker; the password only by MQTT_PASSWORD"),
    Setting("sensor", "SENSOR", "simulated", _text, "simulated, cpu, stdin or module:function"),
    Setting("rate", "RATE", "1", _number(0.0001, 10000), "readings per second"),
    Setting("seconds", "SECONDS", "", _optional(_number(0.001, 1e9)), "make rate x seconds readings, then end"),
    Setting("count", "COUNT", "", _optional(_whole(1, 10 ** 12)), "make this many readings, then end"),
    Setting("seed", "SEED", "", _optional(_text), "the same seed simulates the same values"),
    Setting("outliers", "OUTLIERS", "0.08", _number(0, 1), "share of simulated sensor2 values that are far off"),
    Setting("extra", "EXTRA", "", _names, "further simulated fields, such as humidity,pressure"),
    Setting("device-id", "DEVICE_ID", "", _device, "name of this device (default: host name and the serial's end)"),
    Setting("spool", "SPOOL", "", _text, "keeps what is not acknowledged (default: ~/.edgecloud/<device>.db)"),
    Setting("spool-max", "SPOOL_MAX", "1000000", _whole(1, 10 ** 9), "readings kept at most; the oldest are dropped"),
    Setting("ack", "ACK", "bridge", _ack, "whose acknowledgement counts: bridge or broker"),
    Setting("record", "RECORD", "", _text, "file to append a JSON line to for every reading made"),
    Setting("wait", "WAIT", "30", _number(0, 1e9), "seconds to wait for acknowledgements at the end of a run"),
)
PASSWORD_ENV = "MQTT_PASSWORD"  # no flag: a command line is seen by every user of the machine

Settings = namedtuple("Settings", [s.flag.replace("-", "_") for s in SETTINGS]
                      + ["password", "verbose", "install_service", "unit_dir", "given"])


def _parser():
    parser = argparse.ArgumentParser(
        prog="publisher", description="Publish sensor readings over MQTT; each is kept on disk until acknowledged.",
        epilog="Every flag may come from the environment instead; the password only comes from there: %s."
               % PASSWORD_ENV)
    for setting in SETTINGS:
        default = "; default %s" % setting.default if setting.default else ""
        parser.add_argument("--" + setting.flag, metavar=setting.env,
                            help="%s [env %s%s]" % (setting.sentence, setting.env, default))
    parser.add_argument("--verbose", action="store_true", help="log every message")
    parser.add_argument("--install-service", action="store_true",
                        help="write a systemd unit with these settings, start nothing, and say what to do next")
    parser.add_argument("--unit-dir", default="/etc/systemd/system", help="where the unit goes [%(default)s]")
    parser.add_argument("--version", action="version", version="edgecloud publisher " + version())
    return parser


def _default_spool(device):
    return os.path.join(os.path.expanduser("~"), ".edgecloud", quote(device, safe="") + ".db")


def read(arguments=None, environ=None):
    """Settings from the command line and the environment. Raises SettingsError with every fault found.

    `given` has the texts that were given, by environment name: what --install-service writes down.
    """
    environ = os.environ if environ is None else environ
    parsed = vars(_parser().parse_args(sys.argv[1:] if arguments is None else arguments))
    values, faults, given = OrderedDict(), [], OrderedDict()
    for setting in SETTINGS:
        name = setting.flag.replace("-", "_")
        text = parsed[name] if parsed[name] is not None else environ.get(setting.env)
        if text:
            given[setting.env] = text
        try:
            values[name] = setting.read(text or setting.default)
        except ValueError as error:
            faults.append("--%s (%s) is %r: %s" % (setting.flag, setting.env, text, error))
    if parsed["seconds"] is not None and parsed["count"] is not None:
        faults.append("--seconds and --count are both given: expected at most one")
    elif parsed["seconds"] is not None:
        values["count"] = None  # a flag beats the environment
    elif parsed["count"] is not None or values.get("count"):
        values["seconds"] = None
    if faults:
        raise SettingsError("\n".join(faults))
    values["spool"] = values["spool"] or _default_spool(values["device_id"])
    return Settings(password=environ.get(PASSWORD_ENV, ""), verbose=parsed["verbose"], given=given,
                    install_service=parsed["install_service"], unit_dir=parsed["unit_dir"], **values)
