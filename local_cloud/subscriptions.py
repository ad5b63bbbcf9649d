"""SNS subscriptions: a message that the AWS endpoint has published to moto's topic goes on to queues and functions.

E-mail and SMS are not sent; the log says what would have been, and the control port shows the latest messages whole.
"""

import json
import logging
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from local_cloud.functions import FunctionService
from local_cloud.queue_messages import QueueError
from local_cloud.queues import QueueService
from local_cloud.timestamps import utc_text

log = logging.getLogger(__name__)

KEPT = 200  # messages that the control port can show


@dataclass(frozen=True)
class Subscription:
    """One subscription of a topic."""

    arn: str
    topic_arn: str
    protocol: str
    endpoint: str
    raw: bool


@dataclass(frozen=True)
class Notification:
    """One published message; `attributes` as the API writes them ({name: {"Type", "Value"}})."""

    topic_arn: str
    message_id: str
    message: str
    subject: str | None
    attributes: dict[str, dict[str, str]]

    def body(self) -> dict[str, Any]:
        """What SQS and Lambda subscribers get, without a signature."""
        return {
            "Type": "Notification",
            "MessageId": self.message_id,
            "TopicArn": self.topic_arn,
            **({"Subject": self.subject} if self.subject else {}),
            "Message": self.message,
            "Timestamp": utc_text(time.time()),
            **({"MessageAttributes": self.attributes} if self.attributes else {}),
        }


class Subscriptions:
    """All subscriptions, and the delivery to them. `delivered` and `failed` count by protocol; `published`: the latest
    messages."""

    def __init__(self, queues: QueueService, functions: FunctionService) -> None:
        self._queues = queues
        self._functions = functions
        self._entries: dict[str, Subscription] = {}
        self.delivered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.published: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def add(self, topic_arn: str, protocol: str, endpoint: str, raw: Any) -> str:
        """Subscribe; returns the subscription's ARN. DeployError when the endpoint does not exist."""
        if protocol == "sqs":
            self._queues.existing("Endpoint", endpoint)
        elif protocol == "lambda":
            self._functions.existing("Endpoint", endpoint)
        arn = f"{topic_arn}:{uuid.uuid4()}"
        self._entries[arn] = Subscription(arn, topic_arn, protocol, endpoint, str(raw).lower() == "true")
        return arn

    def remove(self, arn: str) -> None:
        """Unsubscribe."""
        self._entries.pop(arn, None)

    async def deliver(self, notification: Notification) -> None:
        """Hand the message to every subscriber of its topic; what one refuses is logged: the publisher is not told."""
        subscribed = [one for one in self._entries.values() if one.topic_arn == notification.topic_arn]
        self.published.append({**notification.body(), "Subscribers": [
            f"{one.protocol}:{one.endpoint}" for one in subscribed]})
        for subscription in subscribed:
            try:
                await self._deliver_one(subscription, notification)
            except QueueError as refusal:
                self.failed[subscription.protocol] += 1
                log.error("topic %s: %s did not take message %s: %s", notification.topic_arn, subscription.endpoint,
                          notification.message_id, refusal)
            else:
                self.delivered[subscription.protocol] += 1

    async def _deliver_one(self, subscription: Subscription, notification: Notification) -> None:
        if subscription.protocol == "sqs":
            body = notification.message if subscription.raw else json.dumps(notification.body())
            self._queues.by_arn(subscription.endpoint).send(body)
        elif subscription.protocol == "lambda":
            function = self._functions.by_name(subscription.endpoint)
            record = {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": subscription.arn,
                "Sns": {"Subject": None, "MessageAttributes": {}, **notification.body()},
            }
            if function is not None:
                await function.invoke_async({"Records": [record]})
        else:
            log.info(
                "not sent locally: %s to %s: %s",
                subscription.protocol,
                subscription.endpoint,
                (notification.subject or notification.message)[:120],
            )
