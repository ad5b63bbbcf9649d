"""DynamoDB's units: what a request and its answer (its JSON protocol) cost on demand; calls.py counts them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.cost.item_size import ITEM_OVERHEAD_BYTES, Attributes, item_bytes
from local_cloud.cost.meter import steps

WRITE_STEP_BYTES, READ_STEP_BYTES = 1024, 4096
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"}
READS = {"GetItem", "Query", "Scan", "BatchGetItem", "TransactGetItems"}


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one item's write, or of one read; partition: the key they count for, "" when there are several.
    grown_bytes: by how much the stored data grew."""

    table: str
    partition: str
    write: float = 0
    read: float = 0
    grown_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """A table's keys, and for each of its indexes the keys and the attributes it holds (None: all)."""

    keys: tuple[str, ...]
    indexes: tuple[tuple[tuple[str, ...], frozenset[str] | None], ...] = ()

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Shape:
        """From DescribeTable's Table."""
        keys = tuple(one["AttributeName"] for one in described["KeySchema"])
        return cls(keys, tuple(_index(keys, index) for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes")
                               for index in described.get(kind) or ()))


def _index(table: tuple[str, ...], index: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str] | None]:
    keys = tuple(one["AttributeName"] for one in index["KeySchema"])
    projection = index.get("Projection", {})
    if projection.get("ProjectionType", "ALL") == "ALL":
        return keys, None
    return keys, frozenset((*table, *keys, *projection.get("NonKeyAttributes", ())))


class Capacity:
    """Counts units. It remembers the size of what it saw written: a write costs by the larger of before and after."""

    MOST_ITEMS = 100_000

    def __init__(self, shape_of: Callable[[str], Shape]) -> None:
        self._shape_of = shape_of
        self._known: dict[tuple[str, str], tuple[int, ...]] = {}  # size in the table and in each index
        self._parts: dict[tuple[str, str], dict[str, int]] = {}  # of updated items, by attribute

    def asks(self, table: str) -> str:
        """The ReturnValues that an UpdateItem must have to be counted: all, where indexes hold parts of the item."""
        return "ALL_NEW" if self._shape_of(table).indexes else "UPDATED_NEW"

    def units(self, operation: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Units]:
        """Units of one call that succeeded; for UpdateItem the answer must hold what `asks` says."""
        if operation in READS:
            return list(self._reads(operation, request, answer))
        return list(self._writes(operation, request, answer)) if operation in WRITES else []

    def refused(self, operation: str, request: Mapping[str, Any]) -> list[Units]:
        """Units of a write whose condition failed: one as if it had been made, by what is known of the item."""
        if operation not in ("PutItem", "UpdateItem", "DeleteItem"):
            return []
        table = request["TableName"]
        return [self._as_known(table, request.get("Key") or self._key(table, request["Item"]))]

    def _as_known(self, table: str, key: Attributes) -> Units:
        """A write that changes nothing, by what is known of the item."""
        before = self._known.get((table, _name(key)), (0,))[0]
        return Units(table, self._partition(table, key), write=_write_units(before))

    def _writes(self, operation: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Units]:
        if operation == "PutItem":
            yield self._written(request["TableName"], request["Item"])
        elif operation == "UpdateItem":
            yield self._updated(request, answer.get("Attributes") or {})
        elif operation == "DeleteItem":
            yield self._deleted(request["TableName"], request["Key"])
        elif operation == "BatchWriteItem":
            yield from self._batch(request, answer)
        else:
            yield from self._transaction(request)

    def _batch(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Units]:
        left = answer.get("UnprocessedItems") or {}
        for table, entries in request["RequestItems"].items():
            for entry in (one for one in entries if one not in left.get(table, ())):
                if "PutRequest" in entry:
                    yield self._written(table, entry["PutRequest"]["Item"])
                else:
                    yield self._deleted(table, entry["DeleteRequest"]["Key"])

    def _transaction(self, request: Mapping[str, Any]) -> Iterator[Units]:
        """Twice the units: each item is written and committed."""
        for entry in request["TransactItems"]:
            ((kind, one),) = entry.items()
            if kind == "Put":
                found = self._written(one["TableName"], one["Item"])
            elif kind == "Delete":
                found = self._deleted(one["TableName"], one["Key"])
            else:  # a check, or an update, of which nobody tells what it made of the item
                found = self._as_known(one["TableName"], one["Key"])
            yield Units(found.table, found.partition, write=2 * found.write, grown_bytes=found.grown_bytes)

    def _written(self, table: str, item: Attributes) -> Units:
        shape, key = self._shape_of(table), self._key(table, item)
        after = (item_bytes(item), *(_index_bytes(item, keys, held) for keys, held in shape.indexes))
        before = self._known.get((table, _name(key)), (0,) * len(after))
        self._remember(table, key, after)
        units = _write_units(max(before[0], after[0])) + sum(
            _write_units(max(old, new)) for old, new in zip(before[1:], after[1:], strict=True) if old or new)
        return Units(table, self._partition(table, key), write=units, grown_bytes=_stored(after) - _stored(before))

    def _updated(self, request: Mapping[str, Any], attributes: Attributes) -> Units:
        """An UpdateItem: with all attributes as a put; else by what changed, added to what is known of the item."""
        table, key = request["TableName"], request["Key"]
        if self._shape_of(table).indexes or request.get("ReturnValues") == "ALL_NEW":
            return self._written(table, attributes)
        place = table, _name(key)
        before = self._known.get(place, (0,))[0]
        parts = self._parts.get(place) or {"": before or item_bytes(key)}
        for name in _removed(request):
            parts.pop(name, None)
        parts |= {name: item_bytes({name: value}) for name, value in attributes.items()}
        after = sum(parts.values())
        self._remember(table, key, (after,))
        self._parts[place] = parts
        return Units(table, self._partition(table, key), write=_write_units(max(before, after)),
                     grown_bytes=_stored((after,)) - _stored((before,)))

    def _deleted(self, table: str, key: Attributes) -> Units:
        before = self._known.pop((table, _name(self._key(table, key))), (0,))
        units = _write_units(before[0]) + sum(_write_units(old) for old in before[1:] if old)
        return Units(table, self._partition(table, key), write=units, grown_bytes=-_stored(before))

    def _remember(self, table: str, key: Attributes, sizes: tuple[int, ...]) -> None:
        while len(self._known) >= self.MOST_ITEMS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._parts.pop(oldest, None)
        self._parts.pop((table, _name(key)), None)
        self._known[table, _name(key)] = sizes

    def _reads(self, operation: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Units]:
        if operation in ("Query", "Scan"):
            size_bytes = sum(map(item_bytes, answer.get("Items", ())))
            units = _read_units(size_bytes, request.get("ConsistentRead"))
            yield Units(request["TableName"], _asked(request), read=units)
        elif operation == "GetItem":
            table, size_bytes = request["TableName"], item_bytes(answer.get("Item") or {})
            yield Units(table, self._partition(table, request["Key"]),
                        read=_read_units(size_bytes, request.get("ConsistentRead")))
        elif operation == "BatchGetItem":
            for table, items in (answer.get("Responses") or {}).items():
                consistent = request["RequestItems"][table].get("ConsistentRead")
                yield Units(table, "", read=sum(_read_units(item_bytes(item), consistent) for item in items))
        else:
            for entry, found in zip(request["TransactItems"], answer.get("Responses") or (), strict=False):
                size_bytes = item_bytes(found.get("Item") or {})
                yield Units(entry["Get"]["TableName"], "", read=2 * _read_units(size_bytes, True))

    def _key(self, table: str, item: Attributes) -> Attributes:
        return {name: item[name] for name in self._shape_of(table).keys if name in item}

    def _partition(self, table: str, key: Attributes) -> str:
        hash_key = key.get(self._shape_of(table).keys[0], {})
        return str(next(iter(hash_key.values()), ""))


def _asked(query: Mapping[str, Any]) -> str:
    """The partition that a Query is for, "" for a Scan."""
    found = re.search(r"=\s*(:\w+)", query.get("KeyConditionExpression", ""))
    return str(next(iter(query["ExpressionAttributeValues"][found[1]].values()))) if found else ""


def _removed(update: Mapping[str, Any]) -> Iterator[str]:
    """The attributes that an update takes away."""
    clause = re.search(r"\bREMOVE\s+(.*?)(?=\s+(?:SET|ADD|DELETE)\s|$)", update.get("UpdateExpression", ""), re.S)
    names = update.get("ExpressionAttributeNames", {})
    for part in clause[1].split(",") if clause else ():
        yield names.get(part.strip(), part.strip())


def _index_bytes(item: Attributes, keys: tuple[str, ...], held: frozenset[str] | None) -> int:
    """Size of an item in an index; 0 when it has no place there."""
    if not all(name in item for name in keys):
        return 0
    return item_bytes(item if held is None else {name: value for name, value in item.items() if name in held})


def _name(key: Attributes) -> str:
    return repr(sorted(key.items()))


def _stored(sizes: tuple[int, ...]) -> int:
    return sum(size + ITEM_OVERHEAD_BYTES for size in sizes if size)


def _write_units(size_bytes: int) -> int:
    return steps(size_bytes, WRITE_STEP_BYTES)


def _read_units(size_bytes: int, consistent: object) -> float:
    return steps(size_bytes, READ_STEP_BYTES) * (1.0 if consistent else 0.5)
