"""SQS standard queues in memory: messages come from rule actions and sqs_api.py, and leave to pollers and receivers.

At least once, no order promised, visibility time-outs, dead-letter by receive count. Every call is O(log n) in
the number of waiting messages. To be used from the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from local_cloud.errors import DeployError
from local_cloud.queue_messages import Message, QueueError
from local_cloud.queue_settings import QueueSettings, settings_from

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 120_000
METERED_BYTES = 65_536  # a request is billed in steps of this size
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class _Entry:
    """One stored message; hidden_until_s is None while it is visible."""

    message: Message
    hidden_until_s: float | None = None
    delayed: bool = False


class Queue:
    """One standard queue; see the module's first lines. `counters` only ever grow."""

    def __init__(self, service: QueueService, name: str, settings: QueueSettings) -> None:
        self._service = service
        self.name = name
        self.arn = f"arn:aws:sqs:{service.region}:{service.account_id}:{name}"
        self.url = f"{service.endpoint_url}/{service.account_id}/{name}"
        self.settings = settings
        self.created_at_s = int(time.time())
        self.counters = {"send": 0, "send_requests": 0, "sent_bytes": 0, "receive": 0, "received": 0, "delete": 0,
                         "change_visibility": 0, "dead_lettered": 0, "expired": 0}
        self._entries: dict[str, _Entry] = {}
        self._ready: deque[str] = deque()
        self._hidden: list[tuple[float, str]] = []
        self._in_flight = 0
        self._delayed = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def send(self, body: str, attributes: Mapping[str, Mapping[str, Any]] | None = None,
             delay_s: float | None = None) -> str:
        """Store one message and return its id; QueueError when SQS would refuse it."""
        return self.store(body, attributes, delay_s).message_id

    def store(self, body: str, attributes: Mapping[str, Mapping[str, Any]] | None = None,
              delay_s: float | None = None) -> Message:
        """As send(), but return the whole Message."""
        size_bytes = len(body.encode("utf-8", "surrogatepass"))
        if not body:
            raise QueueError("MissingParameter", "The request must contain the parameter MessageBody.")
        if size_bytes > self.settings.max_size_bytes:
            raise QueueError("InvalidParameterValue", f"One or more parameters are invalid. Reason: Message must be "
                             f"shorter than {self.settings.max_size_bytes} bytes, got {size_bytes}.")
        if _FORBIDDEN.search(body):
            raise QueueError("InvalidMessageContents", "The message contains characters outside the allowed set "
                             "(#x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF): send it as base64.")
        message = Message(str(uuid.uuid4()), body, dict(attributes or {}), int(time.time() * 1000))
        self.counters["send"] += 1
        self.counters["sent_bytes"] += size_bytes
        self.counters["send_requests"] += -(-size_bytes // METERED_BYTES)
        self._add(message, self.settings.delay_s if delay_s is None else delay_s)
        return message

    async def receive(self, max_messages: int = 1, wait_s: float | None = None,
                      visibility_s: float | None = None) -> list[Message]:
        """Up to max_messages, waiting up to wait_s for the first; each is hidden for visibility_s."""
        hide_s = self.settings.visibility_s if visibility_s is None else visibility_s
        until_s = time.monotonic() + (self.settings.wait_s if wait_s is None else wait_s)
        while True:
            found = self._take(max_messages, hide_s)
            if found or time.monotonic() >= until_s:
                self.counters["receive"] += 1
                self.counters["received"] += len(found)
                return found
            await self._change(until_s)

    def delete(self, receipt_handle: str) -> bool:
        """Forget the message received under this handle; False when it is gone or was received again since."""
        message_id = _message_id(receipt_handle)
        self.counters["delete"] += 1
        entry = self._entries.get(message_id)
        if entry is None or entry.message.receipt_handle != receipt_handle:
            return False
        self._unhide(entry)
        del self._entries[message_id]
        return True

    def change_visibility(self, receipt_handle: str, visibility_s: float) -> None:
        """Hide a received message for visibility_s from now; 0 makes it visible at once."""
        message_id = _message_id(receipt_handle)
        self.counters["change_visibility"] += 1
        entry = self._entries.get(message_id)
        if (entry is None or entry.hidden_until_s is None or entry.delayed
                or entry.message.receipt_handle != receipt_handle):
            raise QueueError("MessageNotInflight", "The specified message isn't in flight.")
        self._unhide(entry)
        self._hide(entry, visibility_s)

    def surface(self) -> int:
        """Make every received message visible now, as if its visibility time-out were over; returns how many."""
        hidden = [entry for entry in self._entries.values() if entry.hidden_until_s is not None and not entry.delayed]
        for entry in hidden:
            self._unhide(entry)
            self._ready.append(entry.message.message_id)
        self._wake()
        return len(hidden)

    def depth(self) -> tuple[int, int, int]:
        """How many messages are (visible, in flight, delayed)."""
        self._surface()
        return len(self._entries) - self._in_flight - self._delayed, self._in_flight, self._delayed

    def purge(self) -> int:
        """Delete every message; returns how many there were."""
        count = len(self._entries)
        self._entries.clear()
        self._ready.clear()
        self._hidden.clear()
        self._in_flight = self._delayed = 0
        return count

    def redrive(self, destination: Queue | None) -> int:
        """Move every visible message to `destination`, or (None) to the queue it came from; returns how many.

        QueueError, and nothing is moved, when a message did not come from a queue, or from one that is gone.
        """
        self._surface()
        visible = [entry.message for entry in self._entries.values() if entry.hidden_until_s is None]
        targets = [destination or self._origin(message) for message in visible]
        for message, target in zip(visible, targets, strict=True):
            del self._entries[message.message_id]
            target._add(replace(message, receive_count=0, first_received_at_ms=0, receipt_handle="",
                                dead_letter_source_arn=None))
        return len(visible)

    def _origin(self, message: Message) -> Queue:
        if message.dead_letter_source_arn is None:
            raise QueueError("CouldNotDetermineMessageSource", f"Message {message.message_id} was sent to "
                             f"{self.name} itself: name a DestinationArn to move it.")
        return self._service.by_arn(message.dead_letter_source_arn)

    def oldest_sent_at_ms(self) -> int | None:
        """When the longest-kept message was sent, None in an empty queue. O(n): for the meter, not the data path."""
        return min((entry.message.sent_at_ms for entry in self._entries.values()), default=None)

    def _add(self, message: Message, delay_s: float = 0) -> None:
        entry = _Entry(message)
        self._entries[message.message_id] = entry
        if delay_s > 0:
            entry.delayed = True
            self._hide(entry, delay_s)
        else:
            self._ready.append(message.message_id)
            self._wake()

    def _take(self, max_messages: int, hide_s: float) -> list[Message]:
        self._surface()
        found: list[Message] = []
        oldest_ms = (time.time() - self.settings.retention_s) * 1000
        while self._ready and len(found) < max_messages and self._in_flight < MAX_IN_FLIGHT:
            message_id = self._ready.popleft()
            entry = self._entries.get(message_id)
            if entry is None or entry.hidden_until_s is not None:
                continue
            if entry.message.sent_at_ms < oldest_ms:
                del self._entries[message_id]
                self.counters["expired"] += 1
            elif not self._dead_letter(entry):
                found.append(self._mark_received(entry, hide_s))
        return found

    def _mark_received(self, entry: _Entry, hide_s: float) -> Message:
        message = entry.message
        count = message.receive_count + 1
        entry.message = replace(message, receive_count=count, receipt_handle=f"{message.message_id}#{count}",
                                first_received_at_ms=message.first_received_at_ms or int(time.time() * 1000))
        self._hide(entry, hide_s)
        return entry.message

    def _dead_letter(self, entry: _Entry) -> bool:
        """Move a message that was received too often; False when it is to be delivered (again)."""
        settings = self.settings
        if not settings.dead_letter_arn or entry.message.receive_count < settings.max_receive_count:
            return False
        target = self._service.by_arn(settings.dead_letter_arn)
        del self._entries[entry.message.message_id]
        target._add(replace(entry.message, receive_count=0, first_received_at_ms=0, receipt_handle="",
                            dead_letter_source_arn=self.arn))
        self.counters["dead_lettered"] += 1
        log.warning("queue %s: message %s was received %d times; it moves to %s", self.name,
                    entry.message.message_id, entry.message.receive_count, target.name)
        return True

    def _hide(self, entry: _Entry, seconds: float) -> None:
        entry.hidden_until_s = time.monotonic() + seconds
        heapq.heappush(self._hidden, (entry.hidden_until_s, entry.message.message_id))
        if entry.delayed:
            self._delayed += 1
        else:
            self._in_flight += 1
        self._wake()

    def _unhide(self, entry: _Entry) -> None:
        if entry.hidden_until_s is None:
            return
        entry.hidden_until_s = None
        if entry.delayed:
            self._delayed -= 1
        else:
            self._in_flight -= 1
        entry.delayed = False

    def _surface(self) -> None:
        """Make visible what was hidden long enough; entries of the heap that no longer hold are skipped."""
        now_s = time.monotonic()
        while self._hidden and self._hidden[0][0] <= now_s:
            until_s, message_id = heapq.heappop(self._hidden)
            entry = self._entries.get(message_id)
            if entry is not None and entry.hidden_until_s == until_s:
                self._unhide(entry)
                self._ready.append(message_id)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self, until_s: float) -> None:
        """Return when something was sent or hidden, something hidden is due, or the time is up."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_s = min(until_s, self._hidden[0][0]) if self._hidden else until_s
        self._waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, due_s - time.monotonic()))
        finally:
            self._waiters.discard(waiter)


def _message_id(receipt_handle: str) -> str:
    message_id, mark, count = receipt_handle.partition("#")
    if not mark or not count.isdigit():
        raise QueueError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt_handle}" is not valid.')
    return message_id


class QueueService:
    """All queues of one account and region, found by name, URL or ARN."""

    def __init__(self, account_id: str, region: str, endpoint_url: str) -> None:
        self.account_id = account_id
        self.region = region
        self.endpoint_url = endpoint_url.rstrip("/")
        self.counters: dict[str, int] = {}
        self._queues: dict[str, Queue] = {}

    def create(self, name: str, properties: Mapping[str, Any]) -> Queue:
        """A queue from AWS::SQS::Queue properties; DeployError when the name is taken."""
        if name in self._queues:
            raise DeployError(f"queue {name} exists already; delete it, or take QueueName out")
        settings = settings_from(properties)
        if settings.dead_letter_arn is not None:
            self._check_redrive(name, self.existing("RedrivePolicy", settings.dead_letter_arn))
        queue = self._queues[name] = Queue(self, name, settings)
        return queue

    def _check_redrive(self, name: str, dead_letters: Queue) -> None:
        allow = dead_letters.settings.redrive_allow
        source_arn = f"arn:aws:sqs:{self.region}:{self.account_id}:{name}"
        permission = allow.get("redrivePermission", "allowAll")
        if permission == "denyAll" or (permission == "byQueue" and source_arn not in allow.get("sourceQueueArns", [])):
            raise DeployError(f"RedriveAllowPolicy: {dead_letters.name} does not take dead letters of {name}")

    def by_name(self, name: str) -> Queue:
        """The queue of this name; QueueError QueueDoesNotExist."""
        queue = self._queues.get(name)
        if queue is None:
            raise QueueError("QueueDoesNotExist", f"The specified queue does not exist: {name}.")
        return queue

    def by_arn(self, arn: str) -> Queue:
        """The queue of this ARN; QueueError QueueDoesNotExist."""
        return self.by_name(arn.rpartition(":")[2])

    def existing(self, where: str, arn: str) -> Queue:
        """As by_arn(); DeployError, naming the property `where`, when there is none."""
        try:
            return self.by_arn(arn)
        except QueueError:
            raise DeployError(f"{where}: {arn} is no queue of this deployment; "
                              f"there are {', '.join(self.names()) or 'none'}") from None

    def by_url(self, url: str) -> Queue:
        """The queue of this URL (its last segment counts: host names differ between views of one port)."""
        return self.by_name(url.rpartition("/")[2])

    def delete(self, name: str) -> None:
        """Remove a queue with what it holds."""
        self.by_name(name).purge()
        del self._queues[name]

    def all(self) -> list[Queue]:
        """Every queue, by name."""
        return [self._queues[name] for name in self.names()]

    def names(self) -> list[str]:
        """The names of all queues, sorted."""
        return sorted(self._queues)
