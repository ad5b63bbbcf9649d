"""A real Apache Kafka broker (KRaft, one node) for the tests: Maven copies the jars once, a process runs them.

With BOOTSTRAP_SERVERS set, tests that only need a broker use that one; those that kill it need their own.
"""
import os
import shutil
import subprocess
import time
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.processes import ROOT, Part, PartFailed, wait_until
from tests.bridge_rig import free_port
from tests.maven import jars

POM = ROOT / "tests" / "pom.xml"
START_S = 60.0
_NOBODY_THERE = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)
_LOGGING = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def missing() -> str | None:
    """What this machine lacks to run a broker of its own; None when it lacks nothing."""
    absent = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return f"no {' and no '.join(absent)} on this machine" if absent else None


class KafkaBroker:
    """One broker with its data in `directory`; `kill` and `start` it at will, the port stays."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port, controller = free_port(), free_port()
        self.servers = f"127.0.0.1:{self.port}"
        self._classpath = f"{jars(POM, 'kafka_2.13')}{os.sep}*"
        self._conf = directory / "server.properties"
        self._conf.write_text(_properties(self.port, controller, directory / "data"))
        (directory / "log4j2.properties").write_text(_LOGGING)
        self._java("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self._conf),
                   "--ignore-formatted")
        self.part = Part("Kafka", [
            "java", "-Xmx384m", "-cp", self._classpath,
            f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}", "kafka.Kafka", str(self._conf)],
            directory / "kafka.log")
        self.start()

    def _java(self, *arguments: str) -> None:
        done = subprocess.run(["java", "-cp", self._classpath, *arguments], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60)
        if done.returncode:
            raise PartFailed(f"{arguments[0]} failed:\n{done.stdout[-2000:]}")

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self.part.start()
        self.part.wait_ready("an answer to a metadata request", self._answers, START_S)

    def _answers(self) -> bool:
        return answers(self.servers, 1.0)

    def kill(self) -> None:
        """SIGKILL."""
        self.part.kill()

    def close(self) -> None:
        """End it for good."""
        self.part.stop(20)


def _properties(port: int, controller: int, data: Path) -> str:
    plain, control = f"PLAINTEXT://127.0.0.1:{port}", f"CONTROLLER://127.0.0.1:{controller}"
    return "\n".join((
        "process.roles=broker,controller", "node.id=1", f"controller.quorum.voters=1@127.0.0.1:{controller}",
        f"listeners={plain},{control}", f"advertised.listeners={plain}", "controller.listener.names=CONTROLLER",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=PLAINTEXT", f"log.dirs={data}", "offsets.topic.replication.factor=1",
        "offsets.topic.num.partitions=4", "transaction.state.log.replication.factor=1",
        "transaction.state.log.min.isr=1", "group.initial.rebalance.delay.ms=0", "num.partitions=3",
        "group.min.session.timeout.ms=1000", "log.flush.interval.messages=1", ""))


def answers(servers: str, within_s: float) -> bool:
    """True when a broker there answers a metadata request."""
    client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=within_s).brokers)
    except KafkaException as error:
        if error.args[0].code() not in _NOBODY_THERE:
            raise
        return False


def create_topic(servers: str, topic: str, partitions: int = 3, within_s: float = 20.0) -> None:
    """Create a topic, also one whose deletion is still under way."""
    admin = AdminClient({"bootstrap.servers": servers})
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(10)
            break
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
    wait_until(f"topic {topic}", lambda: topic in admin.list_topics(timeout=5).topics, within_s)


def delete_topic(servers: str, topic: str) -> None:
    """Delete a topic and wait until it is gone."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([topic])[topic].result(10)
    wait_until(f"topic {topic} to go", lambda: topic not in admin.list_topics(timeout=5).topics, 20)


def send(servers: str, topic: str, partition: int, *values: bytes) -> None:
    """Produce in order to one partition, idempotent, and wait for the confirmations."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "acks": "all", "log_level": 2})
    for value in values:
        producer.produce(topic, value, partition=partition)
    left = producer.flush(30)
    assert left == 0, f"{left} of {len(values)} events were not confirmed within 30 s"
