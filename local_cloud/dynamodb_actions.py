"""The two DynamoDB actions of IoT rules: a rule's output in, one write to a table out; actions.py compiles them.

`DynamoDBv2` writes each member of the output to a column of its own, `DynamoDB` all of it to one column beside a key
made of templates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from local_cloud.errors import Unsupported
from local_cloud.properties import refuse_unknown
from local_cloud.rule_sql import UNDEFINED, Message, Statement

Run = Callable[[Message, Any], Awaitable[None]]
_KEY_TYPES = {"STRING": "S", "NUMBER": "N"}
_OPERATIONS = ("INSERT", "UPDATE", "DELETE")
_KEY_PROPERTIES = ("HashKeyField", "HashKeyValue", "HashKeyType", "RangeKeyField", "RangeKeyValue", "RangeKeyType")


def columns(client: Any, properties: dict[str, Any]) -> tuple[str, Run]:
    """`DynamoDBv2`: (table, what puts an item whose columns are the output's members). Raises Unsupported."""
    refuse_unknown("DynamoDBv2", properties, {"PutItem", "RoleArn"})
    refuse_unknown("DynamoDBv2.PutItem", properties["PutItem"], {"TableName"})
    table = properties["PutItem"]["TableName"]

    async def run(message: Message, output: Any) -> None:
        if not isinstance(output, dict):
            raise TypeError(f"the output must be a JSON object of columns, got {type(output).__name__}")
        await asyncio.to_thread(client.put_item, TableName=table, Item=attribute(output)["M"])

    return table, run


def one_column(client: Any, properties: dict[str, Any], statement: Statement) -> tuple[str, Run]:
    """`DynamoDB`: (table, what writes the output beside a key made of templates, or removes the item of that key).

    Raises Unsupported, or SqlError for a template that is none.
    """
    refuse_unknown("DynamoDB", properties, {"TableName", "RoleArn", "PayloadField", "Operation", *_KEY_PROPERTIES})
    table, column = properties["TableName"], properties.get("PayloadField", "payload")
    wanted = properties.get("Operation", "INSERT")
    statement.template(wanted)
    keys = [_key(side, properties, statement) for side in ("Hash", "Range") if f"{side}KeyField" in properties]

    async def run(message: Message, output: Any) -> None:
        operation = statement.render(wanted, message).upper()
        if operation not in _OPERATIONS:
            raise ValueError(f"the operation is {operation!r}, expected one of {', '.join(_OPERATIONS)}")
        key = {field: {kind: statement.render(value, message)} for field, kind, value in keys}
        await asyncio.to_thread(_write, client, operation, table, key, column, output)

    return table, run


def _key(side: str, properties: dict[str, Any], statement: Statement) -> tuple[str, str, str]:
    kind, value = properties.get(f"{side}KeyType", "STRING"), properties[f"{side}KeyValue"]
    if kind not in _KEY_TYPES:
        raise Unsupported(f"DynamoDB.{side}KeyType: {kind!r} is not one of {', '.join(_KEY_TYPES)}")
    statement.template(value)
    return properties[f"{side}KeyField"], _KEY_TYPES[kind], value


def _write(client: Any, operation: str, table: str, key: dict[str, Any], column: str, output: Any) -> None:
    if operation == "DELETE":
        client.delete_item(TableName=table, Key=key)
    elif operation == "INSERT":
        client.put_item(TableName=table, Item=key | {column: attribute(output)})
    else:
        client.update_item(
            TableName=table, Key=key, UpdateExpression="SET #column = :payload",
            ExpressionAttributeNames={"#column": column}, ExpressionAttributeValues={":payload": attribute(output)})


def attribute(value: Any) -> dict[str, Any]:
    """A rule's output as DynamoDB writes it; Undefined members are left out, what is no JSON is binary."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, dict):
        return {"M": {name: attribute(each) for name, each in value.items() if each is not UNDEFINED}}
    if isinstance(value, list):
        return {"L": [attribute(each) for each in value if each is not UNDEFINED]}
    if value is None:
        return {"NULL": True}
    raise TypeError(f"{type(value).__name__} has no place in a DynamoDB item")
