"""What the camera's tests share: processes, what came to Kafka, stand-ins for producer, eye and source."""
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from device.eyes.boxes import Box, Seen
from device.eyes.frames import Frame, SourceError
from tests.bridge_rig import ROOT


def start(bootstrap: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "device.camera", "--bootstrap", bootstrap, *arguments], text=True,
                            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.splitlines()[-1] if out else "", err


def received(bootstrap: str, topic: str, n: int) -> list[Message]:
    """The n messages of a topic, fewer when they do not come within a minute."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    messages: list[Message] = []
    end = time.monotonic() + 60
    while len(messages) < n and time.monotonic() < end:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            messages.append(message)
    late = consumer.poll(0.3)
    assert late is None or late.error(), "more than were sent"
    consumer.close()
    return messages


class Belt:
    """Stands for a Producer: holds what was produced until `answer` delivers or refuses it."""

    def __init__(self) -> None:
        self.held: list[tuple[bytes, Callable[[Any, Any], None]]] = []
        self.delivered: list[bytes] = []

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[[Any, Any], None]) -> None:
        self.held.append((value, on_delivery))

    def poll(self, wait_s: float) -> int:
        return 0

    def answer(self, count: int = 1 << 30, error: KafkaError | None = None) -> None:
        now, self.held = self.held[:count], self.held[count:]
        for value, on_delivery in now:
            if error is None:
                self.delivered.append(value)
            on_delivery(error, None)


class Reader:
    """An eye that reads the count off the frame's brightness."""

    model = "brightness"

    def look(self, frame: np.ndarray, at_s: float) -> Seen:
        persons = round(frame.mean() / 10)
        return Seen(persons, tuple(Box(1.4, 2, 3, 4, 0.5) for _ in range(persons)))


class Reel:
    """A live source of these values; None: a moment without a frame; a text: it fails."""

    live, dropped, reconnects = True, 3, 1

    def __init__(self, *values: int | str | None) -> None:
        self._values = values

    def frames(self, stopping: threading.Event) -> Iterator[Frame | None]:
        for number, value in enumerate(self._values, 1):
            if isinstance(value, str):
                raise SourceError(value)
            yield None if value is None else Frame(np.full((4, 4, 3), 10 * value, np.uint8), number / 10, number)
