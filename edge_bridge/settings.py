"""Settings: one table, read once from the environment by __main__.py, which hands it on; `--help` is made of it."""
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

from contract import routes, topics
from edge_bridge import carbon_sources, detectors

MAX_CLIENT_ID_BYTES = 128


class SettingsError(ValueError):
    """Settings that cannot work. faults: one sentence each, all of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _text(text: str) -> str:
    return text


def _whole(text: str) -> int:
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 10 ** 9:
        raise ValueError
    return seconds


def _size(text: str) -> int:
    """Bytes; K, M and G are powers of 1024."""
    powers = {"K": 1, "M": 2, "G": 3}
    size_bytes = int(text[:-1]) * 1024 ** powers[text[-1]] if text[-1:] in powers else int(text)
    if size_bytes < 1024 * 1024:
        raise ValueError
    return size_bytes


def _days(text: str) -> float:
    return _seconds(text) * 86400


def _hours(text: str) -> float:
    return _seconds(text) * 3600


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError
    return port


def _port_or_off(text: str) -> int:
    return 0 if text in ("", "0") else _port(text)


def _on_off(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _detector(text: str) -> str:
    """A name in the registry, or module:class of what can be imported here."""
    if text not in detectors.REGISTRY:  # those are imported later, and only when something is scored
        try:
            detectors.factory(text)
        except (KeyError, ImportError, AttributeError) as error:
            raise ValueError from error
    return text


_KINDS = {_text: "text", _whole: "a whole number", _seconds: "a number of seconds above 0",
          _size: "a number of bytes from 1M on, with K, M or G", _days: "a number of days above 0",
          _hours: "a number of hours above 0", carbon_sources.chosen: carbon_sources.EXPECTED,
          _port: "a port from 1 to 65535", _port_or_off: "a port from 1 to 65535, or empty",
          _on_off: "on or off", _names: "names with commas between",
          _detector: "one of " + ", ".join(detectors.REGISTRY) + ", or module:class of one that can be imported"}


def _one_of(*choices: str) -> Any:
    def choice(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text
    _KINDS[choice] = "one of " + ", ".join(choices)
    return choice


@dataclass(frozen=True)
class Setting:
    """One row of the table: the environment variable, its default, what it means, how its text is read."""

    name: str
    default: str
    sentence: str
    read: Any = _text


TABLE = (
    Setting("MQTT_BROKER", "host.docker.internal", "Host of the LAN broker; empty switches the MQTT source off."),
    Setting("MQTT_PORT", str(topics.LAN_PORT), "Port of the LAN broker.", _port),
    Setting("MQTT_TOPIC", topics.SENSOR_DATA, "Topic of the readings; <topic>/<device> is read too."),
    Setting("MQTT_USERNAME", "", "User name at the LAN broker, if it asks for one."),
    Setting("MQTT_PASSWORD", "", "Password at the LAN broker."),
    Setting("MQTT_VERSION", "5", "MQTT version spoken to the LAN broker; 3.1.1 for an old one.", _one_of("5", "3.1.1")),
    Setting("MQTT_CLIENT_ID", "edgecloud-bridge",
            "LAN client id; a second bridge that uses it takes over from the first."),
    Setting("BOOTSTRAP_SERVERS", "host.docker.internal:9092", "Kafka brokers; empty switches the Kafka source off."),
    Setting("KAFKA_TOPIC", topics.EDGE_DATA, "Kafka topic of the camera events."),
    Setting("KAFKA_GROUP", "edgecloud-bridge", "Kafka consumer group, shared by all bridges of a site."),
    Setting("DEVICE_ID", "sensor", "Name of a device that names itself neither in its payload nor in its topic."),
    Setting("THING", "EdgeCloudAWS", "Name of the thing in AWS IoT: the site's name in the cloud."),
    Setting("CLIENT_ID", "", "MQTT client id at AWS IoT; default: the thing's name, which the policy expects."),
    Setting("IOT_ENDPOINT", "", "Host of the AWS IoT data endpoint (…-ats.iot.<region>.amazonaws.com)."),
    Setting("IOT_PORT", "8883", "Port of the AWS IoT data endpoint.", _port),
    Setting("CERTS", "/certs", "Directory with AmazonRootCA1.pem, one *.crt and one *.key."),
    Setting("ROOT_CA", "", "Path of the root certificate, when it is not in CERTS."),
    Setting("CERTIFICATE", "", "Path of the device certificate, when it is not in CERTS."),
    Setting("PRIVATE_KEY", "", "Path of the device's private key, when it is not in CERTS."),
    Setting("RULE_PREFIX", "edgecloud", "Deployment name: the IoT rules are <prefix>_readings and <prefix>_events."),
    Setting("RULE_READINGS", "", "Name of the IoT rule for readings, when it is not <prefix>_readings."),
    Setting("RULE_EVENTS", "", "Name of the IoT rule for events, when it is not <prefix>_events."),
    Setting("OUTBOX", "/data/outbox.db", "File of the outbox: a local disk or a named volume, never a network share."),
    Setting("OUTBOX_ON_SHARE", "refuse", "refuse: no start when OUTBOX lies on a network or shared file system (NFS, "
            "SMB, 9p, virtiofs, FUSE), where SQLite corrupts; allow: you have made sure of it.",
            _one_of("refuse", "allow")),
    Setting("RETENTION_BYTES", "4G", "Most that undelivered data may take up in the outbox (K, M, G: powers of 1024); "
            "sent but not receipted counts. 4G hold about 20 million readings.", _size),
    Setting("RETENTION_DAYS", "30", "Most days that a reading may wait undelivered (the cloud keeps it 30).", _days),
    Setting("FULL", "stop", "At one of these limits: stop acknowledging, so that brokers and publishers keep what "
            "comes, or drop the oldest backfill (counted as dropped).", _one_of("stop", "drop-oldest")),
    Setting("BATCH_AGE", "10", "Seconds that a live reading waits at most to be sealed into a batch.", _seconds),
    Setting("RECEIPTS", "on", "off: the cloud side sends no receipts, an accepted batch counts as delivered.", _on_off),
    Setting("RECEIPT_TIMEOUT", "600", "Seconds without a receipt after which the same bytes are sent again.", _seconds),
    Setting("KEEP_ALIVE", "30", "Seconds of silence after which the connection to AWS IoT is tried (30 to 1200 there); "
            "a dead one is found within 4/3 of it.", _seconds),
    Setting("RECONNECT_MAX", "30", "Longest pause in seconds between two attempts to reach the cloud.", _seconds),
    Setting("ALERTS", "anomalies", "Send an alert per anomaly, or every classification.", _one_of("anomalies", "all")),
    Setting("SCORED_FIELDS", "sensor2", "Fields scored for anomalies, with commas between; sensor1+sensor2: these two "
            "also beside each other; empty: none.", _names),
    Setting("DETECTOR", "forest", "How anomalies are found: forest for sensors that should hold their level, context "
            "for daily rhythms and slow faults, seed as the first script did, seed-sklearn the same by scikit-learn, "
            "or module:class for one of your own.", _detector),
    Setting("SHADOW", "on", "on: the thing's device shadow `bridge` may change DETECTOR, BATCH_AGE and LOG_LEVEL while "
            "the bridge runs, and shows how it goes; off: the settings here hold.", _on_off),
    Setting("CARBON", "schedule", "Where the site's carbon intensity comes from: schedule (a built-in day, "
            "assumed), energy-charts:de, uk or uk:13, electricity-maps:DE, file:/path (time,gCO2), fixed:300, off.",
            carbon_sources.chosen),
    Setting("CARBON_CLOUD", "fixed:40", "The same for the region of the cloud; 40 is assumed for eu-north-1.",
            carbon_sources.chosen),
    Setting("CARBON_POLICY", "", "What of the carbon policy is other than its defaults, such as high=400,batch=2; "
            "adapt=off: the intensity is only shown (docs/carbon.md)."),
    Setting("CARBON_MAX_AGE", "6", "Hours after which an intensity no longer counts; then the built-in one is shown.",
            _hours),
    Setting("CARBON_KEY", "", "Key for electricity-maps."),
    Setting("CARBON_KEY_FILE", "", "File that has this key."),
    Setting("CARBON_URL", "", "Address in place of the provider's own (https://host), for a proxy or a test."),
    Setting("CARBON_CORE_WATTS", "4", "Watts that one busy core of this machine takes, for the estimate.", _seconds),
    Setting("STATUS_INTERVAL", "30", "Seconds between two status messages to the cloud.", _seconds),
    Setting("STATUS_FILE", "", "File that gets the same status every second (for health checks); empty: none."),
    Setting("METRICS_PORT", "9464", "HTTP port of /metrics, /healthz and /readyz; empty: none.", _port_or_off),
    Setting("METRICS_HOST", "0.0.0.0", "Address that this port is opened on; 127.0.0.1: for this machine alone."),
    Setting("LOG_LEVEL", "INFO", "DEBUG shows every classification.", _one_of("DEBUG", "INFO", "WARNING", "ERROR")),
)

_Fields = make_dataclass("_Fields", [(s.name.lower(), Any) for s in TABLE], frozen=True)


class Settings(_Fields):  # type: ignore[misc, valid-type]
    """What the environment said, one frozen attribute per row of TABLE, in lower case (`settings.mqtt_broker`)."""


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read every setting. Raises SettingsError with all faults at once."""
    values, faults = {}, []
    for setting in TABLE:
        text = environ.get(setting.name, setting.default).strip()
        try:
            values[setting.name.lower()] = setting.read(text)
        except (ValueError, KeyError):
            faults.append(f"{setting.name} is {text!r}; expected {_KINDS[setting.read]}")
    if not faults:
        fill_in(values)
        faults += _contradictions(values) + carbon_sources.faults(values) + _missing_files(values)
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def fill_in(values: dict[str, Any]) -> None:
    """Defaults that depend on another setting."""
    values["client_id"] = values["client_id"] or values["thing"]
    for route in ("readings", "events"):
        name = f"rule_{route}"
        values[name] = values[name] or routes.rule_name(values["rule_prefix"], route)
    certs = Path(values["certs"])
    values["root_ca"] = values["root_ca"] or str(certs / "AmazonRootCA1.pem")
    for name, pattern in (("certificate", "*.crt"), ("private_key", "*.key")):
        found = sorted(certs.glob(pattern))
        if not values[name]:
            values[name] = str(found[0]) if len(found) == 1 else str(certs / pattern)


def _contradictions(values: dict[str, Any]) -> list[str]:
    faults = []
    if not values["iot_endpoint"]:
        faults.append("IOT_ENDPOINT is not set; expected the host that `aws iot describe-endpoint "
                      "--endpoint-type iot:Data-ATS` prints")
    if not values["mqtt_broker"] and not values["bootstrap_servers"]:
        faults.append("MQTT_BROKER and BOOTSTRAP_SERVERS are both empty; expected at least one source")
    if any(c in values["mqtt_topic"] for c in "+#") or not values["mqtt_topic"]:
        faults.append(f"MQTT_TOPIC is {values['mqtt_topic']!r}; expected a topic without wildcards")
    for name in ("thing", "client_id"):
        if not 1 <= len(values[name].encode()) <= MAX_CLIENT_ID_BYTES or any(c in values[name] for c in "/+#"):
            faults.append(f"{name.upper()} is {values[name]!r}; expected 1 to {MAX_CLIENT_ID_BYTES} bytes "
                          "without '/', '+' and '#'")
    return faults


def _missing_files(values: dict[str, Any]) -> list[str]:
    next_step = "copy it there, or mount the directory and set CERTS"
    return [f"{name.upper()}: no file {values[name]}; {next_step}"
            for name in ("root_ca", "certificate", "private_key") if not Path(values[name]).is_file()]


def default(name: str) -> str:
    """The default of one setting, as text."""
    return next(setting.default for setting in TABLE if setting.name == name)


def help_text() -> str:
    """Every setting with its default and its sentence, for --help."""
    lines = ["python -m edge_bridge: carries readings and events to AWS IoT Core.", "",
             "Options: --help, --version, --health (reads STATUS_FILE; for a container's health check).",
             "deadletters list | show ID | replay ID… | drop ID… (or --all): what in OUTBOX broke the contract.",
             "doctor [--json]: looks at everything that a bridge with these settings needs (doctor --help).",
             "",
             "Settings, from the environment (default in brackets):", ""]
    for setting in TABLE:
        lines.append(f"  {setting.name} [{setting.default}]")
        lines += textwrap.wrap(setting.sentence, 92, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)
