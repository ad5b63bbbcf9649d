"""The running bridge: settings in, threads wired together, started and stopped in the order of the stream; for
__main__.py."""
import gc
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from contract import topics
from edge_bridge import certificates, detectors, shadow_settings, status
from edge_bridge.alarms import Alarms
from edge_bridge.anomaly import Scorer
from edge_bridge.bridge import Bridge
from edge_bridge.carbon import Around, Carbon, feeds
from edge_bridge.carbon import Reach as CarbonReach
from edge_bridge.carbon_estimate import Meter
from edge_bridge.carbon_policy import ROOM_SHARE
from edge_bridge.counters import Counters
from edge_bridge.forecast import Capacity
from edge_bridge.health import HealthServer, Newest
from edge_bridge.inbox import Inbox
from edge_bridge.live_line import LiveLine
from edge_bridge.metrics import Metrics
from edge_bridge.outbox import Outbox
from edge_bridge.packer import Packer
from edge_bridge.retention import DROP_OLDEST, Limits, Retention
from edge_bridge.rows import Rows
from edge_bridge.salvage import open_store
from edge_bridge.settings import Settings
from edge_bridge.shadow import Shadow
from edge_bridge.shadow_settings import InForce, Reach, RemoteSettings
from edge_bridge.shipments import Shipments
from edge_bridge.status import Ledger
from edge_bridge.upkeep import Upkeep
from edge_bridge.uplink import Options, Uplink

log = logging.getLogger("edge_bridge")

STOP_S = 8.5  # of the 10 s that a container is given between SIGTERM and SIGKILL
SCORING_STOP_S = 2.0
DETECTOR_START_S = 4.0
LIVE_GRACE_S = 10.0
OBJECTS_PER_COLLECTION = 20_000


class Process:
    """The parts of one running bridge. connection: what the uplink talks to; version: what the status says."""

    def __init__(self, chosen: Settings, connection: Any, version: str) -> None:
        self._settings = chosen
        self._alarms = Alarms()
        self._newest = Newest({"intake", "uplink", *(["scorer"] if chosen.scored_fields else [])})
        self._metrics = Metrics(self._newest.status)
        self._http = HealthServer(chosen.metrics_host, chosen.metrics_port, self._metrics, self._newest) \
            if chosen.metrics_port else None
        self._store = open_store(chosen.outbox)
        self._remote: RemoteSettings | None = None
        remembered = shadow_settings.remembered(self._store, chosen)
        counters = Counters(self._store)
        self._rows = Rows(self._store, counters, scoring=bool(chosen.scored_fields))
        self._live = LiveLine(remembered.batch_age_s + LIVE_GRACE_S)
        shipments = Shipments(self._store, counters, chosen.receipt_timeout)
        self._packer = Packer(self._rows, shipments, self._live, outbox_id=self._store.outbox_id,
                              batch_age_s=remembered.batch_age_s)
        self._uplink = Uplink(connection, shipments, self._packer, self._live, Options(
            chosen.thing, {"readings": topics.basic_ingest(chosen.rule_readings, chosen.thing),
                           "events": topics.basic_ingest(chosen.rule_events, chosen.thing), "alerts": topics.ALERTS},
            chosen.receipts, chosen.receipt_timeout), raise_to=self._alarms, observe=self._metrics.observe)
        self._scorer = Scorer(
            self._rows, detectors.factory(remembered.detector), fields=chosen.scored_fields,
            alert_all=chosen.alerts == "all", raised=self._uplink.wake) if chosen.scored_fields else None
        handover = self._rows.handover if self._scorer else None
        self._inbox = Inbox()
        self._sources = _sources(chosen, self._inbox)
        limits = Limits(chosen.retention_bytes, chosen.retention_days, chosen.full == DROP_OLDEST)
        self._retention = Retention(self._store, self._rows, shipments, self._live, limits, raise_to=self._alarms)
        self._carbon = self._carbon_hands(remembered, limits)
        self._upkeep = Upkeep(self._store, self._rows, self._retention, self._inbox, chosen.mqtt_topic,
                              self._carbon.heavy_work_waits)
        self._bridge = Bridge(self._inbox, Outbox(self._store, counters, handover=handover), self._sources.get("mqtt"),
                              topic=chosen.mqtt_topic, device_id=chosen.device_id, committed=self._committed,
                              full=self._retention.full, raise_to=self._alarms)
        self._shadow = self._remote_hands(remembered) if chosen.shadow else None
        self._watch = certificates.Watch(chosen, connection.identity, self._alarms, self._uplink.connect_anew)
        self._ledger = self._ledger_of(counters, shipments, limits, version)

    def _ledger_of(self, counters: Counters, shipments: Shipments, limits: Limits, version: str) -> Ledger:
        """The status of all these parts."""
        return Ledger(
            counters, self._rows, shipments, self._live, thing=self._settings.thing, version=version,
            connected=self._connected, figures=self._uplink.figures, raised=self._alarms,
            capacity=Capacity(self._store, self._retention.used_bytes, limits.size_bytes, limits.age_s),
            scoring=lambda: self._scorer.totals if self._scorer else {},
            normal=lambda: self._scorer.normal() if self._scorer else {},
            certificate_left_s=self._watch.left_s,
            remote=self._shadow.status if self._shadow else lambda: {"state": "off"}, carbon=self._carbon.status)

    def _carbon_hands(self, in_force: InForce, limits: Limits) -> Carbon:
        """What follows from the electricity's carbon intensity; alerts do not wait for any of it."""
        def batch_age(now_s: float, longest_s: float) -> None:
            self._live.keep(longest_s + LIVE_GRACE_S)
            self._packer.batch_age_s = now_s

        figures = self._uplink.figures
        around = Around(watched=lambda: self._remote is not None and self._remote.live_left_s() > 0,
                        crowded=lambda: self._retention.used_bytes() > ROOM_SHARE * limits.size_bytes)
        return Carbon(feeds(self._settings), in_force.carbon_policy, in_force.batch_age_s,
                      Meter(lambda: (figures.published_bytes, figures.publishes), self._settings.carbon_core_watts),
                      CarbonReach(batch_age, self._uplink.slow_backlog), around)

    def _remote_hands(self, in_force: InForce) -> Shadow:
        """What the cloud may change while the bridge runs; alerts do not wait for any of it."""
        reach = Reach(self._carbon.set_batch_age, self._scorer.change_detector if self._scorer else None,
                      logging.getLogger().setLevel, self._carbon.set_policy)
        reach.log_level(in_force.log_level)
        self._remote = RemoteSettings(self._settings, self._store, in_force, reach)
        made = Shadow(self._settings.thing, self._remote, self._uplink.ask, self._newest.status,
                      self._settings.status_interval)
        self._uplink.attach(made.post)
        return made

    def _connected(self) -> dict[str, bool]:
        return {"cloud": self._uplink.connected, **{name: s.connected for name, s in self._sources.items()}}

    def _committed(self, first_id: int) -> None:
        self._live.committed(first_id)
        if self._scorer:
            self._scorer.wake()

    def run(self, ended: threading.Event) -> None:
        """Carry readings until `ended`."""
        if self._scorer:
            self._scorer.start()
            self._await_detector(ended)
        _collect_seldom()
        if self._shadow:
            self._shadow.start()
        if self._settings.carbon:
            self._carbon.start()
        self._uplink.start()
        self._bridge.start()
        self._upkeep.start()
        for source in self._sources.values():
            source.start()
        if self._http:
            self._http.start()
        next_message_s = time.monotonic()
        while not ended.is_set():
            self._watch.look()
            told = self._tell(publish=time.monotonic() >= next_message_s)
            if told:
                next_message_s = time.monotonic() + self._settings.status_interval
            ended.wait(min(1.0, self._settings.status_interval))

    def _await_detector(self, ended: threading.Event) -> None:
        """Its imports may take seconds, and more beside a draining backlog: the first readings should not be sent on
        unclassified for their sake."""
        deadline_s = time.monotonic() + DETECTOR_START_S
        while self._scorer and not self._scorer.loaded.is_set() and time.monotonic() < deadline_s:
            if ended.wait(0.05):
                break

    def _tell(self, publish: bool) -> bool:
        """Write the status file; publish the status message when it is time. True when it was published."""
        try:
            current = self._ledger.status()
        except sqlite3.Error as error:
            log.error("outbox: the status cannot be read (%s)", error)
            return False
        self._newest.put(current)
        if self._settings.status_file:
            try:
                status.write_file(self._settings.status_file, current)
            except OSError as error:
                log.warning("the status file cannot be written (%s)", error)
        if publish and self._uplink.connected:
            self._uplink.publish_status(status.message(current))
            return True
        return False

    def stop(self) -> None:
        """In the order of the stream: sources, intake, scoring, uplink. What is left stays in the outbox."""
        deadline_s = time.monotonic() + STOP_S
        for source in self._sources.values():
            source.pause()
        self._upkeep.stop(1.0)
        if self._shadow:
            self._shadow.stop(1.0)
        self._carbon.stop(0.5)
        self._bridge.stop(timeout_s=3.0)
        for source in self._sources.values():
            source.stop()
        if self._scorer:
            self._scorer.stop(SCORING_STOP_S)
        self._uplink.stop(max(0.5, deadline_s - time.monotonic()), lambda: status.message(self._ledger.status()))
        self._tell(publish=False)
        if self._http:
            self._http.stop()
        self._store.close()


def _collect_seldom() -> None:
    """A reading makes a dozen objects and none that refers to itself: to look for such at every 700th object, among all
    that was ever imported, was a fifth of what taking in and scoring costs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)


def _sources(chosen: Settings, inbox: Inbox) -> dict[str, Any]:
    sources: dict[str, Any] = {}
    if chosen.mqtt_broker:
        from edge_bridge.mqtt_source import MqttSource
        sources["mqtt"] = MqttSource(chosen, inbox)
    else:
        log.info("mqtt: MQTT_BROKER is empty, the MQTT source is off")
    if chosen.bootstrap_servers:
        from edge_bridge.kafka_source import KafkaSource
        sources["kafka"] = KafkaSource(chosen, inbox)
    else:
        log.info("kafka: BOOTSTRAP_SERVERS is empty, the Kafka source is off")
    return sources


def serve(chosen: Settings, connect: Callable[[Settings], Any], version: str) -> int:
    """Run until SIGTERM or SIGINT, or until a part of the bridge dies. Returns the exit code."""
    ended, died = threading.Event(), threading.Event()

    def fatal(arguments: threading.ExceptHookArgs) -> None:
        log.critical("%s has died; the bridge stops, and nothing that is on disk is lost",
                     arguments.thread.name if arguments.thread else "a thread", exc_info=arguments.exc_value)
        died.set()
        ended.set()

    threading.excepthook = fatal
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    process = Process(chosen, connect(chosen), version)
    log.info("edgecloud bridge %s, thing %s, outbox %s", version, chosen.thing, chosen.outbox)
    process.run(ended)
    log.info("stopping: what is in hand is committed and sent")
    process.stop()
    return 1 if died.is_set() else 0
