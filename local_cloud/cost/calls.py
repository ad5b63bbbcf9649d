"""The calls that functions make at the AWS endpoint, metered on their way to the services and back.

Those of a person's tools are on nobody's bill here (signatures.py tells them apart). DynamoDB is metered by item size;
for UpdateItem what changed is asked for, and taken out of the answer again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local_cloud.cost.capacity import READS, WRITES, Capacity, Shape, Units
from local_cloud.cost.meter import QUEUE_STEP_BYTES, Meter, steps
from local_cloud.http_wire import Handler, Request, Response
from local_cloud.signatures import as_the_account, function_of, service_of

PUBLISHES = {"iotdata", "iotdevicegateway", "sns"}
DescribeTable = Callable[[str], Awaitable[dict[str, Any]]]


class FunctionCalls:
    """Meters calls between the endpoint's server and its handler. describe_table(name): DescribeTable's Table."""

    def __init__(self, meter: Meter, describe_table: DescribeTable) -> None:
        self.counters: Counter[tuple[str, str]] = Counter()  # (function, "calls" or "publishes")
        self._meter = meter
        self._describe_table = describe_table
        self._shapes: dict[str, Shape] = {}
        self._capacity = Capacity(self._shapes.__getitem__)

    async def handle(self, request: Request, answer: Handler) -> Response:
        """The answer to one request, counted if a function made it."""
        function, service = function_of(request), service_of(request)
        if function is None:
            return await answer(request)
        self.counters[function, "publishes" if service in PUBLISHES else "calls"] += 1
        request = as_the_account(request)
        if service == "dynamodb":
            return await self._dynamodb(request, answer, function)
        response = await answer(request)
        if service == "s3" and response.status < 300:
            self._meter.add(_s3_meter(request), _bucket(request), origin=function)
        elif service == "sns" and b"Action=Publish" in request.body:
            self._meter.add("sns.request", function, steps(len(request.body), QUEUE_STEP_BYTES))
        return response

    async def _dynamodb(self, request: Request, answer: Handler, function: str) -> Response:
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        if operation not in WRITES | READS:
            return await answer(request)
        body = json.loads(request.body)
        for table in _tables(body):
            if table not in self._shapes:
                self._shapes[table] = Shape.of(await self._describe_table(table))
        asks_more = operation == "UpdateItem" and body.get("ReturnValues", "NONE") == "NONE"
        if asks_more:
            asked = {**body, "ReturnValues": self._capacity.asks(body["TableName"])}
            request = replace(request, body=json.dumps(asked).encode())
        response = await answer(request)
        found = json.loads(response.body or b"{}")
        if response.status == 200:
            units = self._capacity.units(operation, body, found)
        elif "ConditionalCheckFailed" in str(found.get("__type")):
            units = self._capacity.refused(operation, body)
        else:
            units = []
        self._count(units, function)
        if asks_more and response.status == 200:
            return _without_attributes(response, found)
        return response

    def _count(self, units: list[Units], function: str) -> None:
        for one in units:
            origin = f"{function} {one.partition}"
            self._meter.add("dynamodb.write_unit", one.table, one.write, origin)
            self._meter.add("dynamodb.read_unit", one.table, one.read, origin)
            self._meter.add("dynamodb.gb_month", one.table, one.grown_bytes / 1e9, origin)


def _tables(body: dict[str, Any]) -> set[str]:
    """The tables that a request names."""
    if "TransactItems" in body:
        return {one["TableName"] for entry in body["TransactItems"] for one in entry.values()}
    return set(body["RequestItems"]) if "RequestItems" in body else {body["TableName"]}


def _without_attributes(response: Response, found: dict[str, Any]) -> Response:
    """The answer that the function asked for; the checksum was of the other one."""
    found.pop("Attributes", None)
    headers = [(name, value) for name, value in response.headers if name.lower() != "x-amz-crc32"]
    return Response(response.status, json.dumps(found).encode(), headers)


def _s3_meter(request: Request) -> str:
    listing = "list-type" in parse_qs(urlsplit(request.target).query)
    return "s3.get" if request.method in ("GET", "HEAD") and not listing else "s3.put"


def _bucket(request: Request) -> str:
    return urlsplit(request.target).path.split("/")[1]
