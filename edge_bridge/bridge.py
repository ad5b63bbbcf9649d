"""The intake: messages from the inbox are checked, told from repeats, committed to the outbox, *then* acknowledged."""
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

from contract import batch, numbers, payloads, topics
from contract.errors import BadPayload
from contract.rollups import minute_of
from edge_bridge.alarms import OUTBOX_FAILS, Alarms
from edge_bridge.deadletters import Replayed
from edge_bridge.inbox import Inbox, Message
from edge_bridge.outbox import MAX_DEAD_LETTER_BYTES, Intake, Outbox
from edge_bridge.pacing import full_jitter_s
from edge_bridge.repeats import NEW, REPEAT
from edge_bridge.schema import REQUIRED

log = logging.getLogger(__name__)

MAX_BATCH = 1000
LINGER_S = 0.005
FULL_S = 0.1  # between two looks whether a full outbox has room again
CONFIRM_S = 0.05  # a spool is told at most this often how far it is on disk
_SURELY_SEALABLE_BYTES = 16 * 1024  # escapes make up to six bytes of one; beyond this the sealed size is tried out


class Confirmer(Protocol):
    """Tells a publisher on sensor/ack/<device> up to which seq its spool is on disk; False: not now, ask again."""

    def confirm(self, device: str, spool: str, seq: int) -> bool:
        """Publish one confirmation."""


class Bridge:
    """The intake thread. device_id: name of a device that does not name itself; committed: called with the first
    row's id after each commit that added rows; full: asked before each, True while nothing may be taken in."""

    def __init__(self, inbox: Inbox, outbox: Outbox, confirmer: Confirmer | None, *, topic: str, device_id: str,
                 committed: Callable[[int], None], now_s: Callable[[], float] = time.time,
                 full: Callable[[], bool] = lambda: False, raise_to: Alarms | None = None) -> None:
        self._inbox, self._outbox, self._confirmer = inbox, outbox, confirmer
        self._topic, self._device_id = topic, device_id
        self._committed, self._now_s, self._full = committed, now_s, full
        self._alarms = raise_to or Alarms()
        self._unconfirmed: dict[tuple[str, str], int] = {}
        self._confirmed_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Commit and acknowledge what is in hand, then end. The sources must have stopped."""
        self._stopping.set()
        self._inbox.close()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            messages = self._inbox.take(MAX_BATCH, LINGER_S, CONFIRM_S if self._unconfirmed else 0.25)
            if not messages and self._stopping.is_set():
                break
            if messages and not self._commit_until_done(messages):
                break  # whatever came after them must not be acknowledged: an offset covers all that is before it
            self._confirm(idle=not messages)
        self._confirm(idle=True)

    def _commit_until_done(self, messages: list[Message]) -> bool:
        """A full or failing disk: nothing is acknowledged, nothing crashes, the same messages are tried again. False:
        given up at the stop, so the brokers keep them."""
        attempt = 0
        while True:
            try:
                while self._full():
                    self._confirm(idle=True)
                    if self._stopping.wait(FULL_S):
                        return False
                self.take_in(messages)
            except sqlite3.Error as error:
                self._alarms.raised(OUTBOX_FAILS, (
                    f"the outbox cannot be written ({error}); nothing is acknowledged until it can; free space, or "
                    f"check the volume of {self._outbox.store.path}"))
                attempt += 1
                if self._stopping.wait(full_jitter_s(attempt, base_s=0.1, most_s=5.0)):
                    return False
            else:
                self._alarms.cleared(OUTBOX_FAILS)
                return True

    def take_in(self, messages: list[Message]) -> None:
        """Check, commit and acknowledge one micro-batch. Raises sqlite3.Error: nothing written or acknowledged."""
        intake = Intake()
        received_ms = int(self._now_s() * 1000)
        confirmations: dict[tuple[str, str], int] = {}
        for message in messages:
            self._take_one(message, intake, received_ms, confirmations)
        first_id = self._outbox.commit(intake)
        for source in {id(m.source): m.source for m in messages}.values():
            source.acknowledge([m for m in messages if m.source is source])
        self._unconfirmed.update(confirmations)
        if any(intake.rows.values()):
            self._committed(first_id)

    def _take_one(self, message: Message, intake: Intake, received_ms: int,
                  confirmations: dict[tuple[str, str], int]) -> None:
        source = message.source
        intake.counts["", "received"] += 1
        if isinstance(source, Replayed):
            intake.replayed.append(source.dead_letter)
            intake.counts["", "replayed"] += 1
        try:
            reading, device = self._read(message)
        except BadPayload as error:
            if self._refused_in_turn(message, intake, confirmations):
                self._dead_letter(message, intake, received_ms, error.reason, error.detail)
            return
        except Exception as error:  # a fault of ours must not stall the stream either
            log.exception("a message that could not be checked was dead-lettered")
            self._dead_letter(message, intake, received_ms, "internal error", repr(error))
            return
        if reading.spool is not None and source.route == "readings" and not isinstance(source, Replayed):
            turn = reading.spool, reading.seq, reading.first
            taken = self._in_turn(device, turn, intake, confirmations)
        else:
            taken = self._not_repeated(message, reading, device, intake)
        if taken:
            kafka = numbers.dumps(message.origin) if source.route == "events" else None
            intake.rows[source.route].append((device, received_ms, message.payload, kafka))
            if kafka is None:
                intake.decoded.append(reading)
            intake.counts[device, "committed"] += 1
            intake.counts["", source.route + "_in"] += 1
            if not minute_of(reading.at_ms, received_ms)[1]:
                intake.counts[device, "clock_untrusted"] += 1

    def _read(self, message: Message) -> tuple[payloads.Reading, str]:
        hint = None
        if message.source.route == "readings":
            hint = topics.device_of(message.origin[0], self._topic)
        if message.size_bytes > payloads.MAX_MESSAGE_BYTES:
            raise BadPayload("message too large", f"got {message.size_bytes} bytes, "
                             f"expected at most {payloads.MAX_MESSAGE_BYTES}")
        reading = payloads.read(message.payload, REQUIRED[message.source.route])
        device = reading.device_id or hint or self._device_id
        if message.size_bytes > _SURELY_SEALABLE_BYTES:
            row = batch.Row(1, 1, reading.timestamp, reading.at_ms, reading.seq, reading.spool, reading.values,
                            reading.extra, None, message.origin if len(message.origin) == 4 else None)
            batch.seal_series(message.source.route, "0" * 24, [batch.pack(device, [row])])
        return reading, device

    def _refused_in_turn(self, message: Message, intake: Intake, confirmations: dict[tuple[str, str], int]) -> bool:
        """Is this bad message to be dead-lettered now? Where it still says whose turn it is, that turn is taken, else
        its publisher would repeat it for ever and everything behind it would wait."""
        if message.source.route != "readings" or message.size_bytes > payloads.MAX_MESSAGE_BYTES \
                or isinstance(message.source, Replayed):
            return True
        try:
            fields = numbers.loads(message.payload)
            if not isinstance(fields, dict):
                return True
            spool, seq, first = payloads.turn(fields)
            if spool is None:
                return True
            device = fields.get("device_id") or topics.device_of(message.origin[0], self._topic) or self._device_id
            topics.check_device(device)
        except BadPayload:
            return True
        return self._in_turn(device, (spool, seq, first), intake, confirmations)

    def _in_turn(self, device: str, turn: tuple[str, int, int], intake: Intake,
                 confirmations: dict[tuple[str, str], int]) -> bool:
        spool, seq, first = turn
        found = self._outbox.turns.take(device, spool, seq, first)
        if found.skipped:
            intake.counts[device, "skipped"] += found.skipped
            log.warning("%s: its publisher dropped %d readings before seq %d", device, found.skipped, seq)
        if not found.taken:
            intake.counts[device, "repeats" if found.repeat else "out_of_turn"] += 1
        last = self._outbox.turns.last(device, spool)
        if last is not None:
            confirmations[device, spool] = last
        return found.taken

    def _not_repeated(self, message: Message, reading: payloads.Reading, device: str, intake: Intake) -> bool:
        route = message.source.route
        if route == "events":
            content, distinct = numbers.dumps(message.origin).encode(), True
        else:
            content = device.encode() + b"\0" + message.payload
            distinct = reading.seq is not None or _sub_second(reading.timestamp)
        verdict = self._outbox.repeats[route].check(content, message.connection, message.packet_id, distinct)
        if verdict != NEW:
            intake.counts[device, verdict] += 1
        return verdict != REPEAT

    def _dead_letter(self, message: Message, intake: Intake, at_ms: int, reason: str, detail: str) -> None:
        origin = numbers.dumps(message.origin)[:1024]
        intake.dead_letters.append(
            (at_ms, reason, detail[:500], origin, message.size_bytes, message.payload[:MAX_DEAD_LETTER_BYTES]))
        intake.counts["", "dead_lettered"] += 1
        intake.counts["", f"dead_lettered.{reason}"] += 1
        log.debug("dead letter from %s: %s: %s", origin, reason, detail)

    def _confirm(self, idle: bool) -> None:
        """Publish sensor/ack/<device>, newest seq only; what cannot be published now is kept for the next time."""
        now_s = time.monotonic()
        if not self._unconfirmed or not (idle or now_s - self._confirmed_s >= CONFIRM_S):
            return
        self._confirmed_s = now_s
        for (device, spool), seq in list(self._unconfirmed.items()):
            if self._confirmer is None or self._confirmer.confirm(device, spool, seq):
                del self._unconfirmed[device, spool]


def _sub_second(timestamp: object) -> bool:
    """Has this timestamp digits below the second that say something? 12.0 and 12.000Z are whole seconds."""
    if isinstance(timestamp, str):
        fraction = re.search(r"[.,](\d+)", timestamp)
        return fraction is not None and bool(fraction.group(1).strip("0"))
    return isinstance(timestamp, Decimal) and timestamp % 1 != 0
