"""One message of a queue, and how SQS says no: made by queues.py, read by sqs_api.py and queue_poller.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class QueueError(Exception):
    """A request that SQS would answer with an error; `code` is SQS's name for it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `attributes` are its message attributes as the API writes them ({name: {"DataType", …}})."""

    message_id: str
    body: str
    attributes: Mapping[str, Mapping[str, Any]]
    sent_at_ms: int
    receipt_handle: str = ""
    receive_count: int = 0
    first_received_at_ms: int = 0
    dead_letter_source_arn: str | None = None

    @property
    def md5(self) -> str:
        """Hex MD5 of the body, as SQS answers it."""
        return hashlib.md5(self.body.encode(), usedforsecurity=False).hexdigest()

    def system_attributes(self) -> dict[str, str]:
        """What SQS calls Attributes, all as strings."""
        found = {"ApproximateReceiveCount": str(self.receive_count), "SentTimestamp": str(self.sent_at_ms),
                 "SenderId": "AIDALOCALCLOUD",
                 "ApproximateFirstReceiveTimestamp": str(self.first_received_at_ms)}
        if self.dead_letter_source_arn:
            found["DeadLetterQueueSourceArn"] = self.dead_letter_source_arn
        return found
