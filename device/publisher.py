"""The Pi's publisher: sensor -> spool on disk -> MQTT sensor/data; kept until the bridge says that it is on disk.

Next: edge_bridge/mqtt_source.py. A reading is committed to the spool before it is sent, at most four commits a second
for the SD card's sake: a power cut costs at most the last quarter second. Run `python3 -m device.publisher --help`.
"""
import logging
import queue
import signal
import sqlite3
import sys
import time

from contract import numbers, topics
from contract.errors import BadPayload
from device import record, schedule, sensors, service, settings
from device.message import message
from device.sampler import Sampler
from device.spool import Spool, SpoolError
from device.turn import Turn

COMMIT_EVERY_S = 0.25
COMMIT_READINGS = 200  # so many do not wait
RETRY_DISK_S = 1.0
RETAINED_ACK_S = 1.0  # how long a spool of an earlier run waits for the retained ack before it sends
STOP_WAIT_S = 5.0
SUMMARY_EVERY_S = 60.0
NOT_ALL_ACKNOWLEDGED = 3  # exit code

log = logging.getLogger("publisher")


class Publisher(object):
    """One run: `run()` returns the exit code; the thread that calls it does all the disk work.

    sensor: a callable as in sensors.py. make_link: given the function that takes events, returns a link.Link.
    turn: a turn.Turn with other bounds than usual.
    """

    def __init__(self, config, sensor, spool, make_link, turn=None):
        self._config, self._spool = config, spool
        self._inbox = queue.Queue()
        self._link = make_link(self._inbox.put)
        self._turn = turn or Turn(by_broker=config.ack == "broker")
        self._client = None
        by_clock = config.sensor != "stdin"
        count = config.count
        if config.seconds is not None and by_clock:
            count = schedule.count_of(config.rate, config.seconds)
        self._expected = count if by_clock else None  # stdin may end before
        self._sampler = Sampler(sensor, config.device_id, config.rate if by_clock else None, count, self._inbox.put)
        self._stop_asked = self._stopped = self._sampled_all = self._heard_ack = self._is_older_copy = False
        self._deadline = None
        self._pending = []  # texts: made, not yet committed
        self._spool_id, self._run_first = spool.id, spool.last + 1
        self._made = self._acknowledged = self._failed = 0
        self._commit_from = self._send_from = self._disk_from = 0.0
        self._silent_until = {}  # kind of complaint -> monotonic time
        self._summary_at = time.monotonic() + SUMMARY_EVERY_S

    def stop(self):
        """Ask the run to end soon; safe in a signal handler."""
        self._stop_asked = True

    def run(self):
        """Publish until the run's readings are made and acknowledged, the wait is over, or `stop` was called."""
        self._record_rest()
        self._link.start()
        self._sampler.start()
        try:
            while not self._done():
                self._take()
                if time.monotonic() >= self._disk_from:
                    try:
                        self._commit()
                        self._send()
                    except sqlite3.OperationalError as error:
                        self._complain("disk", "cannot use the spool %s: %s; trying again" % (self._spool.path, error))
                        self._disk_from = time.monotonic() + RETRY_DISK_S
                self._watch()
        finally:
            self._sampler.stop()
            self._link.stop()
        return self._conclude()

    def _take(self):
        """Wait for events, until the next commit is due at most, and handle all there are."""
        wait_s = COMMIT_EVERY_S
        if self._pending and len(self._pending) < COMMIT_READINGS:
            wait_s = min(wait_s, max(0.0, self._commit_from - time.monotonic()))
        try:
            event = self._inbox.get(timeout=wait_s)
            while True:
                getattr(self, "_on_" + event[0].replace(" ", "_"))(*event[1:])
                event = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _on_reading(self, text):
        self._pending.append(text)

    def _on_failed(self, why):
        self._failed += 1
        self._complain("sensor", why)

    def _on_sampled_all(self):
        self._sampled_all = True
        self._commit_from = 0.0

    def _on_up(self, client):
        now = time.monotonic()
        log.info("connected to %s:%d as %s", self._config.broker, self._config.port, self._config.device_id)
        self._forget_complaints("link: ")
        self._client = client
        self._turn.connected(self._spool.first, now)
        if self._spool.opened_last and not self._heard_ack and self._config.ack == "bridge":
            self._send_from = now + RETAINED_ACK_S

    def _on_down(self, why):
        self._client = None
        self._turn.disconnected()
        self._complain("link: " + why, "%s; readings are kept in %s, trying again" % (why, self._spool.path))

    def _on_puback(self, client, mid):
        if client is self._client:
            upto = self._turn.puback(mid, self._spool.first, time.monotonic())
            if upto is not None:
                self._acknowledge(upto)

    def _on_ack(self, payload):
        try:
            ack = numbers.loads(payload)
            spool, seq = ack["spool"], int(ack["seq"])
        except (BadPayload, KeyError, TypeError, ValueError) as error:
            self._complain("ack", "not an acknowledgement: %.80r (%s)" % (payload, error))
            return
        if spool != self._spool.id:
            return  # retained, of a spool that was here before
        if not self._heard_ack:
            self._heard_ack, self._send_from = True, 0.0
        if seq > max(self._spool.opened_last, self._turn.highest_sent):
            log.warning("the bridge has reading %d of this spool, which only knows %d: the file is an older copy; "
                        "its new readings go under a new spool id", seq, self._spool.opened_last)
            self._is_older_copy = True
        elif seq >= self._spool.first:
            self._acknowledge(seq)

    def _acknowledge(self, seq):
        log.debug("acknowledged up to %d", seq)
        self._forget_complaints("no ack")
        self._acknowledged += max(0, seq + 1 - max(self._spool.first, self._run_first))
        self._spool.forget(seq)
        self._turn.acknowledged(time.monotonic())

    def _commit(self):
        """Pending readings to disk, then to the record; only then may they be sent."""
        now = time.monotonic()
        if self._is_older_copy:
            self._spool.renew()
            self._is_older_copy = False
            self._look_for_new_spool()
        if not self._pending or (now < self._commit_from and len(self._pending) < COMMIT_READINGS):
            return
        texts, dropped = self._pending, self._spool.dropped
        seq = self._spool.add(texts)
        self._pending = []
        self._commit_from = now + COMMIT_EVERY_S
        self._made += len(texts)
        self._sampler.committed(len(texts))
        self._look_for_new_spool()
        if self._config.record:
            record.append(self._config.record, self._config.device_id, self._spool.id, enumerate(texts, seq))
        if self._spool.dropped > dropped:
            self._complain("full", "the spool is full: %d of the oldest readings dropped so far" % self._spool.dropped)

    def _look_for_new_spool(self):
        """The spool took a new id (an older copy, or a corrupt file set aside): begin its turn anew."""
        if self._spool.id == self._spool_id:
            return
        log.warning("spool %s goes on as %s; corrupt files set aside so far: %d",
                    self._spool_id, self._spool.id, self._spool.set_aside)
        self._spool_id = self._spool.id
        self._run_first = min(self._run_first, self._spool.first)
        self._turn.highest_sent = 0
        if self._client is not None:
            self._turn.connected(self._spool.first, time.monotonic())

    def _record_rest(self):
        """What the spool holds and the record lacks: the last run was killed between the two."""
        if self._config.record:
            rows = self._spool.read(record.last_seq(self._config.record, self._spool.id) + 1, 1000)
            while rows:
                record.append(self._config.record, self._config.device_id, self._spool.id, rows)
                rows = self._spool.read(rows[-1][0] + 1, 1000)

    def _send(self):
        now = time.monotonic()
        if self._client is None or now < self._send_from:
            return
        room = self._turn.room(self._spool.first, self._spool.last)
        rows = self._spool.read(self._turn.next, room) if room else []
        self._look_for_new_spool()
        for seq, text in rows:
            payload = message(text, self._config.device_id, self._spool.id, seq, self._spool.first)
            sent = self._client.publish(self._config.topic, payload, qos=1)
            if sent.rc != 0:
                return  # the connection is ending: "down" follows, and the turn begins anew
            log.debug("sent %s", payload)
            self._turn.sent(seq, sent.mid, self._spool.first, now)

    def _watch(self):
        now = time.monotonic()
        if self._turn.stalled(self._spool.first, now):
            self._complain("no ack", "connected, but no acknowledgement comes on sensor/ack/%s: is the bridge running? "
                           "(for a site without one: --ack broker)" % self._config.device_id)
        if self._turn.stuck(now):
            self._turn.disconnected()
            self._link.drop("the broker confirms nothing")
        if now >= self._summary_at:
            self._summary_at = now + SUMMARY_EVERY_S
            log.info("made %d, acknowledged %d, waiting %d, dropped %d, failed %d", self._made, self._acknowledged,
                     self._waiting(), self._spool.dropped, self._failed)

    def _waiting(self):
        return self._spool.last + 1 - self._spool.first

    def _complain(self, kind, text):
        """Warn, but of the same kind only once a minute while it lasts."""
        now = time.monotonic()
        if now >= self._silent_until.get(kind, 0.0):
            self._silent_until[kind] = now + SUMMARY_EVERY_S
            log.warning("%s", text)

    def _forget_complaints(self, beginning):
        """It is well again: should it recur, that is worth a line at once."""
        for kind in [kind for kind in self._silent_until if kind.startswith(beginning)]:
            del self._silent_until[kind]

    def _done(self):
        now = time.monotonic()
        if self._stop_asked and not self._stopped:
            self._stopped = True
            self._sampler.stop()
            self._deadline = now + min(STOP_WAIT_S, self._config.wait)
        elif self._sampled_all and self._deadline is None:
            self._deadline = now + self._config.wait
        if self._deadline is None:
            return False
        return now >= self._deadline or not (self._pending or self._waiting())

    def _commit_rest(self):
        """Commit what is still pending, due or not; returns how many readings could not be, and are lost."""
        self._commit_from = 0.0
        try:
            self._commit()
        except sqlite3.OperationalError as error:
            log.error("%d readings are lost: cannot write %s: %s", len(self._pending), self._spool.path, error)
        return len(self._pending)

    def _conclude(self):
        """Say how many came; exit code 0 only when all did."""
        lost = self._commit_rest()
        expected = lost + self._made if self._expected is None or self._stop_asked else self._expected
        if self._failed:
            log.error("%d readings failed and were not made", self._failed)
        try:
            self._spool.close()
        except sqlite3.Error as error:
            log.error("closing the spool: %s", error)
        if self._waiting():
            log.warning("%d readings wait in %s and go with the next start", self._waiting(), self._spool.path)
        print("published %d readings, %d acknowledged" % (self._made, self._acknowledged), flush=True)
        return 0 if self._acknowledged == expected else NOT_ALL_ACKNOWLEDGED


def _make_publisher(config):
    from device.link import Link  # here, so that --help and --install-service need no paho-mqtt

    sensor = sensors.open_sensor(config.sensor, config.seed, config.outliers, config.extra)
    spool = Spool(config.spool, config.spool_max)
    client_id = "edgecloud-" + config.device_id
    ack_topic = topics.sensor_ack(config.device_id) if config.ack == "bridge" else None

    def make_link(post):
        return Link(config.broker, config.port, client_id, post, config.username, config.password, ack_topic)

    return Publisher(config, sensor, spool, make_link)


def main(arguments=None):
    """Entry of `python3 -m device.publisher` and of the bundle; returns the exit code."""
    try:
        config = settings.read(arguments)
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.DEBUG if config.verbose else logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname)s %(message)s")
    try:
        if config.install_service:
            return service.install(config)
        publisher = _make_publisher(config)
    except ImportError as error:
        print("%s; run the bundle edgecloud-pi.pyz, which has it, or install paho-mqtt" % error, file=sys.stderr)
        return 1
    except (sensors.SensorError, SpoolError, service.ServiceError) as error:
        print(error, file=sys.stderr)
        return 1

    def stop(number, frame):
        publisher.stop()
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return publisher.run()
    except (OSError, sqlite3.Error) as error:  # what is in the spool stays there
        print("cannot go on: %s; free the disk, or check --spool and --record" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
