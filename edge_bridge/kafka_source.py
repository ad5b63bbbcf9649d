"""The Kafka source: camera events come from the topic into the inbox; offsets are committed when bridge.py says so."""
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from edge_bridge.inbox import Inbox, Message
from edge_bridge.settings import Settings

log = logging.getLogger(__name__)

POLL_S = 0.1
MOST_PER_POLL = 500
LOOK_S, LOOK_TIMEOUT_S = 2.0, 1.0  # while it is said to be away: every so often the broker is asked
SESSION_TIMEOUT_MS = 10_000  # after a crash the group waits this long before it hands the partitions out again


class KafkaSource:
    """A member of the consumer group, with manual commits. Bridges of one site share the partitions.

    connected: it has its share of the partitions, and nothing was said since of a broker or topic that is away.
    make_consumer: what librdkafka's Consumer is in production.
    """

    route = "events"

    def __init__(self, settings: Settings, inbox: Inbox, make_consumer: Callable[[dict[str, Any]], Any] = Consumer,
                 ) -> None:
        self._settings, self._inbox = settings, inbox
        self._lock = threading.Lock()
        self._offsets: dict[tuple[str, int], int] = {}  # on disk, not yet committed to the group
        self._assignment = 1  # counts assignments, as a connection number
        self._is_assigned = False
        self._look_due_s = 0.0
        self._said_down = False
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self.connected = False
        self._consumer = make_consumer({
            "bootstrap.servers": settings.bootstrap_servers, "group.id": settings.kafka_group,
            "enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": "earliest",
            "error_cb": self._on_error, "on_commit": self._on_commit, "logger": log, "log_level": 3,
            "socket.keepalive.enable": True, "session.timeout.ms": SESSION_TIMEOUT_MS,
            "reconnect.backoff.max.ms": 10_000, "topic.metadata.refresh.interval.ms": 30_000,
        })
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)

    def start(self) -> None:
        """Join the group, and read as long as the bridge takes."""
        self._consumer.subscribe([self._settings.kafka_topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        self._thread.start()

    def pause(self) -> None:
        """Read nothing further."""
        self._stopping.set()

    def stop(self) -> None:
        """Commit the offsets of what is on disk, and leave the group."""
        self._stopping.set()
        self._finished.set()
        self._thread.join(5.0)

    def acknowledge(self, messages: list[Message]) -> None:
        """Note the offsets; this source's own thread commits them."""
        with self._lock:
            for message in messages:
                topic, partition, offset, _ = message.origin
                if message.connection == self._assignment:
                    self._offsets[topic, partition] = offset + 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._hand_over(self._wait_for_room() if self._inbox.full()
                            else self._consumer.consume(MOST_PER_POLL, POLL_S))
            self._commit(asynchronous=True)
            if self._is_assigned and not self.connected:
                self._look_for_broker()
        self._finished.wait(10.0)
        self._commit(asynchronous=False)
        self._consumer.close()

    def _wait_for_room(self) -> list[Any]:
        """Stay a member of the group while the inbox is full. A partition that is assigned meanwhile is not paused, and
        what comes of it is handed over all the same: the next offset that is committed covers it."""
        self._consumer.pause(self._consumer.assignment())
        found = self._consumer.poll(POLL_S)
        self._consumer.resume(self._consumer.assignment())
        return [] if found is None else [found]

    def _look_for_broker(self) -> None:
        """Is it back? While no event comes nothing else shows it."""
        if time.monotonic() < self._look_due_s:
            return
        try:
            known = self._consumer.list_topics(timeout=LOOK_TIMEOUT_S).topics  # of all: to ask for one may create it
        except KafkaException as error:
            log.debug("kafka: still away (%s)", error)
        else:
            if self._settings.kafka_topic in known:
                self._up()
                log.info("kafka: the broker is back")
        self._look_due_s = time.monotonic() + LOOK_S

    def _hand_over(self, found: list[Any]) -> None:
        for message in found:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    self._say_down(f"no topic {self._settings.kafka_topic} yet")
                elif error.code() != KafkaError._PARTITION_EOF:
                    self._say_down(str(error))
                continue
            self._up()
            recorded_ms = message.timestamp()[1]
            origin = message.topic(), message.partition(), message.offset(), recorded_ms
            self._inbox.put(self, origin, message.value() or b"", self._assignment, 0)

    def _commit(self, asynchronous: bool) -> None:
        with self._lock:
            offsets = [TopicPartition(topic, partition, offset)
                       for (topic, partition), offset in self._offsets.items()]
            self._offsets.clear()
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._on_commit(error, [])

    def _on_commit(self, error: object, _: list[Any]) -> None:
        """Called with what became of a commit, of an asynchronous one from within a poll."""
        if error is not None:
            log.warning("kafka: offsets not committed (%s); the events come again and are told as repeats", error)

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        with self._lock:
            self._assignment += 1
            self._offsets.clear()
        self._is_assigned = True
        self._up()
        log.info("kafka: reads %s", ", ".join(f"{p.topic}/{p.partition}" for p in partitions) or "nothing for now")

    def _on_revoke(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._is_assigned = False
        self._commit(asynchronous=False)
        with self._lock:
            self._assignment += 1

    def _up(self) -> None:
        self._said_down, self.connected = False, True

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN or error.code() == KafkaError._TRANSPORT:
            self._say_down(f"no broker at {self._settings.bootstrap_servers}; does it run, is BOOTSTRAP_SERVERS right?")
        else:
            self._say_down(str(error))

    def _say_down(self, text: str) -> None:
        """Once per state, not once per attempt."""
        log.log(logging.DEBUG if self._said_down else logging.WARNING, "kafka: %s; it is tried again", text)
        self._said_down, self.connected = True, False
