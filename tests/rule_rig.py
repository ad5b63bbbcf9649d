"""What the tests of IoT rules share: an engine over real queues, streams and functions, and lists for the rest."""
import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_cloud.actions import Actions
from local_cloud.firehose import FirehoseService
from local_cloud.functions import FunctionService
from local_cloud.queues import QueueService
from local_cloud.rule_engine import RuleEngine

VERSION = "2016-03-23"


@dataclass
class Published:
    """A PUBLISH as the gateway hands it on."""

    topic: str
    payload: bytes
    rule_name: str | None = None
    client_id: str | None = "EdgeCloudAWS"
    principal: str | None = "cert"
    source_ip: str | None = "127.0.0.1"
    mqtt5: dict[str, Any] = field(default_factory=dict)


class World:
    """The services that actions write to; what moto and the gateway would take is kept in lists."""

    def __init__(self, tmp_path: Path, dynamodb: Any = None) -> None:
        self.objects: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.items: list[dict[str, Any]] = []
        self.notified: list[tuple[str, str, str]] = []
        self.published: list[tuple[str, bytes, int, bool]] = []
        self.s3_faults = 0
        self.queues = QueueService("123456789012", "eu-north-1", "http://127.0.0.1:1")
        self.firehose = FirehoseService("123456789012", "eu-north-1", self.s3_put)
        self.functions = FunctionService("123456789012", "eu-north-1", {}, tmp_path / "logs")
        actions = Actions(self.queues, self.firehose, self.functions, self.s3_put, dynamodb or self, self.sns_publish,
                          self.publish)
        self.engine = RuleEngine("123456789012", "eu-north-1", actions, retry_delays_s=(0.01, 0.01))

    def s3_put(self, bucket: str, key: str, body: bytes, extra: Mapping[str, str]) -> None:
        if self.s3_faults:
            self.s3_faults -= 1
            raise ConnectionError("S3 is away")
        self.objects.append((bucket, key, body, dict(extra)))

    def put_item(self, **arguments: Any) -> None:
        self.items.append(arguments)

    def sns_publish(self, target_arn: str, message: str, message_format: str) -> None:
        self.notified.append((target_arn, message, message_format))

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.published.append((topic, payload, qos, retain))

    def rule(self, name: str, sql: str, *actions: dict[str, Any], **more: Any) -> None:
        self.engine.create(name, {"Sql": sql, "AwsIotSqlVersion": VERSION, "Actions": list(actions), **more})

    def sqs(self, name: str, **properties: Any) -> dict[str, Any]:
        """An action on a queue of this name, which is made when it is not there."""
        if name not in self.queues.names():
            self.queues.create(name, {})
        return {"Sqs": {"QueueUrl": self.queues.by_name(name).url, "RoleArn": "arn:role", **properties}}

    async def bodies(self, name: str) -> list[str]:
        return [message.body for message in await self.queues.by_name(name).receive(10)]


def run(tmp_path: Path, story: Callable[[World], Coroutine[Any, Any, None]], dynamodb: Any = None) -> None:
    async def main() -> None:
        world = World(tmp_path, dynamodb)
        try:
            await asyncio.wait_for(story(world), 30)
        finally:
            await world.engine.close()
            await world.firehose.close()
            await world.functions.close()

    asyncio.run(main())
