"""Bounds what moto keeps of DynamoDB streams: called once by moto_server.py before it serves.

moto keeps every stream record and every shard iterator for ever: about 1.5 times the written bytes, and 2 kB a poll.
"""

from __future__ import annotations

from typing import Any

from moto.dynamodb.models.table import StreamShard
from moto.dynamodbstreams.models import DynamoDBStreamsBackend

KEPT_RECORDS = 10_000
KEPT_ITERATORS = 1_000


def bound_memory(kept_records: int = KEPT_RECORDS, kept_iterators: int = KEPT_ITERATORS) -> None:
    """Let each shard forget records that lie more than kept_records behind its foremost reader, as AWS forgets what
    is older than a day; iterators beyond the newest kept_iterators of a region go too."""
    read = StreamShard.get
    get_records = DynamoDBStreamsBackend.get_records

    def read_and_trim(shard: StreamShard, start: int, quantity: int) -> list[dict[str, Any]]:
        found = read(shard, start, quantity)
        passed = start - shard.starting_sequence_number - kept_records
        if passed > 0:
            # A record's number is its place plus the shard's first number: both move together.
            del shard.items[:passed]
            shard.starting_sequence_number += passed
        return found

    def get_and_forget(backend: DynamoDBStreamsBackend, iterator_arn: str, limit: int) -> dict[str, Any]:
        found: dict[str, Any] = get_records(backend, iterator_arn, limit)
        while len(backend.shard_iterators) > kept_iterators:
            del backend.shard_iterators[next(iter(backend.shard_iterators))]
        return found

    StreamShard.get = read_and_trim  # type: ignore[method-assign,assignment]
    DynamoDBStreamsBackend.get_records = get_and_forget  # type: ignore[method-assign,assignment]
