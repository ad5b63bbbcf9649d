"""Settings: one table, read once from the environment by __main__.py, which hands it on; `--help` is made of it."""
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

from contract import routes, topics
from edge_bridge import carbon_sources
from edge_bridge import setting_kinds as kinds

MAX_CLIENT_ID_BYTES = 128


class SettingsError(ValueError):
    """Settings that cannot work. faults: one sentence each, all of them."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Setting:
    """One row of the table: the environment variable, its default, what it means, how its text is read."""

    name: str
    default: str
    sentence: str
    read: Callable[[str], Any] = kinds.text


TABLE = (
    Setting("MQTT_BROKER", "host.docker.internal", "Host of the LAN broker; empty switches the MQTT source off."),
    Setting("MQTT_PORT", str(topics.LAN_PORT), "Port of the LAN broker.", kinds.port),
    Setting("MQTT_TOPIC", topics.SENSOR_DATA, "Topic of the readings; <topic>/<device> is read too."),
    Setting("MQTT_USERNAME", "", "User name at the LAN broker, if it asks for one."),
    Setting("MQTT_PASSWORD", "", "Password at the LAN broker."),
    Setting("MQTT_VERSION", "5", "MQTT version spoken to the LAN broker; 3.1.1 for an old one.",
            kinds.one_of("5", "3.1.1")),
    Setting("MQTT_CLIENT_ID", "edgecloud-bridge",
            "LAN client id; a second bridge that uses it takes over from the first."),
    Setting("BOOTSTRAP_SERVERS", "host.docker.internal:9092", "Kafka brokers; empty switches the Kafka source off."),
    Setting("KAFKA_TOPIC", topics.EDGE_DATA, "Kafka topic of the camera events."),
    Setting("KAFKA_GROUP", "edgecloud-bridge", "Kafka consumer group, shared by all bridges of a site."),
    Setting("DEVICE_ID", "sensor", "Name of a device that names itself neither in its payload nor in its topic.",
            kinds.device),
    Setting("THING", "EdgeCloudAWS", "Name of the thing in AWS IoT: the site's name in the cloud."),
    Setting("CLIENT_ID", "", "MQTT client id at AWS IoT; default: the thing's name, which the policy expects."),
    Setting("IOT_ENDPOINT", "", "Host of the AWS IoT data endpoint (…-ats.iot.<region>.amazonaws.com)."),
    Setting("IOT_PORT", "8883", "Port of the AWS IoT data endpoint.", kinds.port),
    Setting("CERTS", "/certs", "Directory with AmazonRootCA1.pem, one *.crt and one *.key."),
    Setting("ROOT_CA", "", "Path of the root certificate, when it is not in CERTS."),
    Setting("CERTIFICATE", "", "Path of the device certificate, when it is not in CERTS."),
    Setting("PRIVATE_KEY", "", "Path of the device's private key, when it is not in CERTS."),
    Setting("RULE_PREFIX", "edgecloud", "Deployment name: the IoT rules are <prefix>_readings and <prefix>_events."),
    Setting("RULE_READINGS", "", "Name of the IoT rule for readings, when it is not <prefix>_readings."),
    Setting("RULE_EVENTS", "", "Name of the IoT rule for events, when it is not <prefix>_events."),
    Setting("OUTBOX", "/data/outbox.db", "File of the outbox: a local disk or a named volume, never a network share.",
            kinds.path),
    Setting("OUTBOX_ON_SHARE", "refuse", "refuse: no start when OUTBOX lies on a network or shared file system (NFS, "
            "SMB, 9p, virtiofs, FUSE), where SQLite corrupts; allow: you have made sure of it.",
            kinds.one_of("refuse", "allow")),
    Setting("RETENTION_BYTES", "4G", "Most that undelivered data may take up in the outbox (K, M, G: powers of 1024); "
            "sent but not receipted counts. 4G hold about 20 million readings.", kinds.size),
    Setting("RETENTION_DAYS", "30", "Most days that a reading may wait undelivered (the cloud keeps it 30).",
            kinds.days),
    Setting("FULL", "stop", "At one of these limits: stop acknowledging, so that brokers and publishers keep what "
            "comes, or drop the oldest backfill (counted as dropped).", kinds.one_of("stop", "drop-oldest")),
    Setting("BATCH_AGE", "10", "Seconds that a live reading waits at most to be sealed into a batch.", kinds.seconds),
    Setting("RECEIPTS", "on", "off: the cloud side sends no receipts, an accepted batch counts as delivered.",
            kinds.on_off),
    Setting("RECEIPT_TIMEOUT", "600", "Seconds without a receipt after which the same bytes are sent again.",
            kinds.seconds),
    Setting("KEEP_ALIVE", "30", "Seconds of silence after which the connection to AWS IoT is tried (30 to 1200 there); "
            "a dead one is found within 4/3 of it.", kinds.keep_alive),
    Setting("RECONNECT_MAX", "30", "Longest pause in seconds between two attempts to reach the cloud.", kinds.seconds),
    Setting("ALERTS", "anomalies", "Send an alert per anomaly, or every classification.",
            kinds.one_of("anomalies", "all")),
    Setting("SCORED_FIELDS", "sensor2", "Fields scored for anomalies, with commas between; sensor1+sensor2: these two "
            "also beside each other; empty: none.", kinds.names),
    Setting("DETECTOR", "forest", "How anomalies are found: forest for sensors that should hold their level, context "
            "for daily rhythms and slow faults, seed as the first script did, seed-sklearn the same by scikit-learn, "
            "or module:class for one of your own.", kinds.detector),
    Setting("SHADOW", "on", "on: the thing's device shadow `bridge` may change DETECTOR, BATCH_AGE and LOG_LEVEL while "
            "the bridge runs, and shows how it goes; off: the settings here hold.", kinds.on_off),
    Setting("CARBON", "schedule", "Where the site's carbon intensity comes from: schedule (a built-in day, "
            "assumed), energy-charts:de, uk or uk:13, electricity-maps:DE, file:/path (time,gCO2), fixed:300, off.",
            carbon_sources.chosen),
    Setting("CARBON_CLOUD", "fixed:40", "The same for the region of the cloud; 40 is assumed for eu-north-1.",
            carbon_sources.chosen),
    Setting("CARBON_POLICY", "", "What of the carbon policy is other than its defaults, such as high=400,batch=2; "
            "adapt=off: the intensity is only shown (docs/carbon.md)."),
    Setting("CARBON_MAX_AGE", "6", "Hours after which an intensity no longer counts; then the built-in one is shown.",
            kinds.hours),
    Setting("CARBON_KEY", "", "Key for electricity-maps."),
    Setting("CARBON_KEY_FILE", "", "File that has this key."),
    Setting("CARBON_URL", "", "Address in place of the provider's own (https://host), for a proxy or a test."),
    Setting("CARBON_CORE_WATTS", "4", "Watts that one busy core of this machine takes, for the estimate.",
            kinds.seconds),
    Setting("STATUS_INTERVAL", "30", "Seconds between two status messages to the cloud.", kinds.seconds),
    Setting("STATUS_FILE", "", "File that gets the same status every second (for health checks); empty: none."),
    Setting("METRICS_PORT", "9464", "HTTP port of /metrics, /healthz and /readyz; empty: none.", kinds.port_or_off),
    Setting("METRICS_HOST", "0.0.0.0", "Address that this port is opened on; 127.0.0.1: for this machine alone."),
    Setting("LOG_LEVEL", "INFO", "DEBUG shows every classification.",
            kinds.one_of("DEBUG", "INFO", "WARNING", "ERROR")),
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
            faults.append(f"{setting.name} is {text!r}; expected {kinds.EXPECTED[setting.read]}")
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
    for name, source in (("mqtt_client_id", "mqtt_broker"), ("kafka_topic", "bootstrap_servers"),
                         ("kafka_group", "bootstrap_servers")):
        if values[source] and not values[name]:
            faults.append(f"{name.upper()} is ''; expected a name that this bridge keeps, for {source.upper()} is set")
    for name in ("thing", "client_id"):
        if not 1 <= len(values[name].encode()) <= MAX_CLIENT_ID_BYTES or any(c in values[name] for c in "/+#"):
            faults.append(f"{name.upper()} is {values[name]!r}; expected 1 to {MAX_CLIENT_ID_BYTES} bytes "
                          "without '/', '+' and '#'")
    return faults


def _missing_files(values: dict[str, Any]) -> list[str]:
    faults = []
    for name in ("root_ca", "certificate", "private_key"):
        wanted = Path(values[name])
        if wanted.is_file():
            continue
        several = sorted(path.name for path in wanted.parent.glob(wanted.name)) if "*" in wanted.name else []
        faults.append(
            f"{name.upper()}: no file is named, and {wanted} are several ({', '.join(several)}); set {name.upper()} to "
            "one of them" if several else
            f"{name.upper()}: no file {wanted}; copy it there, or mount the directory and set CERTS")
    return faults


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
