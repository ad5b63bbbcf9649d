"""The doctor's look at the LAN broker and at Kafka, under names of its own beside the bridge's; findings out.

Nothing is published that a bridge or a publisher takes: on the LAN an acknowledgement for a device that nobody has, to
Kafka nothing at all.
"""
import socket
from collections.abc import Iterator
from typing import Any

from contract import topics
from edge_bridge.doctor_case import Case, Finding, addresses, fault, not_applicable, ok, unresolved
from edge_bridge.doctor_mqtt import NO_ANSWER, Connection

ANSWER_S = 3.0
SYS_S = 3.0
NOBODY = "edgecloud-doctor"
_KAFKA_STEP = "start Kafka, or set BOOTSTRAP_SERVERS to its listener for this network"
VERSION_TOPIC, UPTIME, DROPPED = (
    "$SYS/broker/version", "$SYS/broker/uptime", "$SYS/broker/publish/messages/dropped")


def lan_broker(case: Case) -> Iterator[Finding]:
    """LAN broker, LAN topics, LAN queue."""
    chosen = case.settings
    lacks = case.lacks("MQTT_BROKER", "MQTT_PORT", "MQTT_VERSION", "MQTT_TOPIC")
    if lacks or not chosen.mqtt_broker:
        for check in ("LAN broker", "LAN topics", "LAN queue"):
            yield not_applicable(check, lacks or "MQTT_BROKER is empty: the MQTT source is off")
        return
    login = (chosen.mqtt_username, chosen.mqtt_password) if chosen.mqtt_username else None
    where = f"{chosen.mqtt_broker}:{chosen.mqtt_port}"
    try:
        addresses(chosen.mqtt_broker, chosen.mqtt_port)
    except OSError as error:
        yield fault("LAN broker", *unresolved(chosen.mqtt_broker, error))
        return
    with Connection(f"{chosen.mqtt_client_id}-doctor", version=chosen.mqtt_version, login=login) as broker:
        refusal = broker.connect(chosen.mqtt_broker, chosen.mqtt_port, case.left_s(ANSWER_S))
        if refusal:
            yield fault("LAN broker", f"{where}: {refusal}", _lan_step(refusal))
            return
        yield ok("LAN broker", f"{where} takes the connection, "
                 + (f"as user {chosen.mqtt_username}" if login else "without a password"))
        yield _lan_topics(case, broker)
        yield _lan_queue(case, broker)


def _lan_step(refusal: str) -> str:
    if "Unsupported protocol version" in refusal:
        return "set MQTT_VERSION=3.1.1"
    if any(word in refusal for word in ("authorized", "user name", "Banned")):
        return "check MQTT_USERNAME and MQTT_PASSWORD against the broker's password file, then its log"
    if refusal == NO_ANSWER or "timed out" in refusal:
        return "something else may listen there, or a firewall swallows it: check MQTT_BROKER and MQTT_PORT"
    return ("start the broker, or check MQTT_BROKER and MQTT_PORT; Mosquitto without a `listener` line serves only its "
            "own machine (deploy/mosquitto.conf)")


def _lan_topics(case: Case, broker: Connection) -> Finding:
    """May we read what the bridge reads, and say what it says?"""
    base = case.settings.mqtt_topic
    filters = (base, base + "/+", base + "/+/+/#")
    refused = [f"subscribe {name} ({text})" for name, text in zip(
        filters, broker.subscribe(*filters, qos=0, timeout_s=case.left_s(ANSWER_S)), strict=True) if text]
    ack = topics.sensor_ack(NOBODY)
    said = broker.publish(ack, b"{}", case.left_s(ANSWER_S))
    refused += [f"publish {ack} ({said})"] if said else []
    if refused:
        return fault("LAN topics", f"refused: {', '.join(refused)}",
                     f"the broker's ACL must let this user read {base}/# and write {topics.SENSOR_ACK}/#")
    return ok("LAN topics", f"{base} and below can be read, {topics.SENSOR_ACK}/<device> written")


def _lan_queue(case: Case, broker: Connection) -> Finding:
    """Mosquitto shows in $SYS whether its queue limit dropped something; its persistence shows nowhere.

    What it dropped is kept there for a minute after the number last changed, its version and uptime always.
    """
    told: dict[str, str] = {}

    def all_three(topic: str, payload: bytes) -> Any:
        told[topic] = payload.decode(errors="replace")
        return True if {VERSION_TOPIC, UPTIME, DROPPED} <= told.keys() else None

    *_, refused = broker.subscribe(VERSION_TOPIC, UPTIME, DROPPED, qos=0, timeout_s=case.left_s(ANSWER_S))
    broker.find(all_three, case.left_s(SYS_S))
    if not told or (refused and DROPPED not in told):
        return not_applicable("LAN queue", "this broker does not show it in $SYS; have persistence and an unlimited "
                              "queue there, as in deploy/mosquitto.conf")
    dropped, name = told.get(DROPPED), told.get(VERSION_TOPIC, "the broker")
    if dropped is None:
        return ok("LAN queue", f"{name}, up {told.get(UPTIME, '?')}, dropped nothing lately (a number that has "
                  "not changed for a minute is not shown); it does not tell its persistence")
    if dropped.strip("0"):
        return fault("LAN queue", f"{name} dropped {dropped} messages since its start: its queue limit is too low for "
                     "the time that the bridge was away (our publisher sends them again, others do not)",
                     "in mosquitto.conf: max_queued_messages 0, persistence true, autosave_interval 5; start it anew")
    return ok("LAN queue", f"{name}, up {told.get(UPTIME, '?')}, dropped nothing; it does not tell its persistence")


def kafka(case: Case) -> Iterator[Finding]:
    """Kafka, Kafka topic, Kafka listeners."""
    chosen = case.settings
    lacks = case.lacks("BOOTSTRAP_SERVERS")
    if lacks or not chosen.bootstrap_servers:
        for check in ("Kafka", "Kafka topic", "Kafka listeners"):
            yield not_applicable(check, lacks or "BOOTSTRAP_SERVERS is empty: the Kafka source is off")
        return
    cluster = _metadata(case)
    if isinstance(cluster, Finding):
        yield cluster
        return
    brokers = sorted((broker.host, broker.port) for broker in cluster.brokers.values())
    yield ok("Kafka", f"{chosen.bootstrap_servers} answers, {len(brokers)} broker(s)")
    topic = cluster.topics.get(chosen.kafka_topic)
    if topic is None or topic.error or not topic.partitions:
        yield fault("Kafka topic", f"no topic {chosen.kafka_topic}" + (f" ({topic.error})" if topic else ""),
                    f"kafka-topics.sh --bootstrap-server {chosen.bootstrap_servers} --create --topic "
                    f"{chosen.kafka_topic}, or set KAFKA_TOPIC")
    else:
        yield ok("Kafka topic", f"{chosen.kafka_topic}, {len(topic.partitions)} partition(s)")
    yield _listeners(case, brokers)


def _metadata(case: Case) -> Any:
    """The cluster's metadata, or the finding that there is none."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    servers = case.settings.bootstrap_servers
    refusals: list[tuple[str, str]] = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isdecimal()):
            return fault("Kafka", f"BOOTSTRAP_SERVERS has {server!r}", "expected host:port, with commas between")
        refusals += _refusal(case, host, int(port))
    if len(refusals) == len(servers.split(",")):  # one that answers is enough to begin with
        return fault("Kafka", "; ".join(what for what, _ in refusals), refusals[0][1])
    try:
        client = AdminClient({"bootstrap.servers": servers, "socket.timeout.ms": int(ANSWER_S * 1000), "log_level": 0})
        return client.list_topics(timeout=case.left_s(2 * ANSWER_S))
    except KafkaException as error:
        return fault("Kafka", f"{servers}: {error.args[0].str()}", _KAFKA_STEP)


def _refusal(case: Case, host: str, port: int) -> list[tuple[str, str]]:
    """(what, fix) of a server that cannot be reached; empty when it can."""
    try:
        addresses(host, port)
    except OSError as error:
        return [unresolved(host, error)]
    try:
        socket.create_connection((host, port), case.left_s(ANSWER_S)).close()
    except OSError as error:
        return [(f"{host}:{port}: {error.strerror or error}", _KAFKA_STEP)]
    return []


def _listeners(case: Case, brokers: list[tuple[str, int]]) -> Finding:
    """A client bootstraps at one address, and then goes to those that the brokers advertise."""
    wrong = []
    for host, port in brokers:
        try:
            addresses(host, port)
            socket.create_connection((host, port), case.left_s(ANSWER_S)).close()
        except OSError as error:
            wrong.append(f"{host}:{port} ({error.strerror or error})")
    if wrong:
        return fault("Kafka listeners", f"the brokers advertise what this machine cannot reach: {', '.join(wrong)}",
                     "set advertised.listeners to an address that resolves here, such as "
                     "EXTERNAL://host.docker.internal:9092 (deploy/compose.yaml), and start Kafka anew")
    return ok("Kafka listeners", "reachable: " + ", ".join(f"{host}:{port}" for host, port in brokers))
