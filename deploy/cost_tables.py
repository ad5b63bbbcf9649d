"""DynamoDB, IoT and SNS for handlers that are run here to see what they cost: moto in this process, metered.

The handlers find these clients where they keep theirs (lambdas.table.CLIENTS); what they write is kept as stream
records for the functions behind it.
"""
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws

from lambdas import table, table_devices
from local_cloud.cost.bill import LOG_LINE_BYTES
from local_cloud.cost.capacity import Capacity, Shape, Units

START_MS = 1795332240000  # 2026-11-22T07:24:00Z: when it is for the handlers, whose items' sizes depend on it
_STREAMED = {"put_item", "update_item", "batch_write_item"}
_CREATED_WITH = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")


class Tables:
    """Tables in moto. used: units since they were taken last; changed: keys and new images of what was written."""

    def __init__(self, client: Any, shapes: Mapping[str, Shape]) -> None:
        self._client = client
        self._capacity = Capacity(shapes.__getitem__)
        self.calls = 0
        self.used: list[Units] = []
        self.changed: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            return self._call(name, request)
        return call

    def _call(self, name: str, request: dict[str, Any]) -> Any:
        self.calls += 1
        operation = "".join(part.capitalize() for part in name.split("_"))
        asked = dict(request)
        if name == "update_item" and request.get("ReturnValues", "NONE") == "NONE":
            asked["ReturnValues"] = self._capacity.asks(request["TableName"])
        try:
            answer = getattr(self._client, name)(**asked)
        except self._client.exceptions.ConditionalCheckFailedException:
            self.used += self._capacity.refused(operation, request)
            raise
        self.used += self._capacity.units(operation, request, answer)
        if name in _STREAMED:
            self.changed += list(_written(name, request))
        return answer

    def take(self) -> tuple[int, list[Units], list[tuple[str, dict[str, Any]]]]:
        """(calls, units, changes) since the last time."""
        taken = self.calls, self.used, self.changed
        self.calls, self.used, self.changed = 0, [], []
        return taken


def _written(name: str, request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Table and new item of each write; of an update its key, which is all that the functions behind it look at."""
    if name == "put_item":
        yield request["TableName"], request["Item"]
    elif name == "update_item":
        yield request["TableName"], request["Key"]
    else:
        for where, entries in request["RequestItems"].items():
            for entry in entries:
                if "PutRequest" in entry:
                    yield where, entry["PutRequest"]["Item"]


class Published:
    """In place of IoT's and SNS's clients: sizes of what functions publish to bridges, and how many notices."""

    def __init__(self) -> None:
        self.sizes_bytes: list[int] = []
        self.notices = 0

    def publish(self, **request: Any) -> dict[str, Any]:
        """Note a message."""
        if "TopicArn" in request:
            self.notices += 1
        else:
            self.sizes_bytes.append(len(request["payload"]))
        return {"MessageId": "0" * 36}

    def take(self) -> tuple[list[int], int]:
        """Sizes and notices since the last time."""
        taken = self.sizes_bytes, self.notices
        self.sizes_bytes, self.notices = [], 0
        return taken


class LogSize(logging.Handler):
    """How much the handlers log, as Lambda's JSON format would write it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.size_bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line."""
        own = vars(logging.makeLogRecord({}))
        extra = {name: value for name, value in vars(record).items() if name not in own and name != "message"}
        line = {"timestamp": "2026-11-22T07:24:00Z", "level": record.levelname, "message": record.getMessage(),
                "logger": record.name, "requestId": "0" * 36, **extra}
        self.size_bytes += len(json.dumps(line, default=str)) + LOG_LINE_BYTES

    def take(self) -> int:
        """Bytes since the last time."""
        taken, self.size_bytes = self.size_bytes, 0
        return taken


@contextmanager
def tables(described: Mapping[str, Mapping[str, Any]],
           environment: Mapping[str, str]) -> Iterator[tuple[Tables, Published, LogSize]]:
    """Empty tables by the names that the handlers' settings get: {"readings": AWS::DynamoDB::Table properties, ...}.
    environment: further settings of the handlers. For them it is START_MS."""
    settings = {**environment, **{f"{name.upper()}_TABLE": name for name in described}}
    before = {name: os.environ.get(name) for name in settings}
    clients, log_size, logger = dict(table.CLIENTS), LogSize(), logging.getLogger("lambdas")
    level = logger.level
    with mock_aws(), patch.object(table, "now_ms", lambda: START_MS):
        os.environ.update(settings)
        client = boto3.client("dynamodb", region_name="eu-north-1")
        shapes = {}
        for name, properties in described.items():
            client.create_table(TableName=name, **{key: properties[key] for key in _CREATED_WITH if key in properties})
            shapes[name] = Shape.of(properties)
        metered, published = Tables(client, shapes), Published()
        table.CLIENTS.clear()
        table.CLIENTS.update({"dynamodb": metered, "iot-data": published, "sns": published})
        table_devices.KNOWN.clear()
        logger.addHandler(log_size)
        logger.setLevel(logging.INFO)
        try:
            yield metered, published, log_size
        finally:
            logger.removeHandler(log_size)
            logger.setLevel(level)
            table.CLIENTS.clear()
            table.CLIENTS.update(clients)
            table_devices.KNOWN.clear()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
