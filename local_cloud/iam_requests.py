"""What an SDK request needs: a request of the AWS endpoint in, IAM actions and the ARNs they are asked for out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud.http_wire import Request

Body = dict[str, Any]


class Need(NamedTuple):
    """An action (`dynamodb:Query`) on a resource's ARN, `*` where the action takes none."""

    action: str
    resource: str


class UnknownRequest(Exception):
    """A request whose permission is not known here; says which."""


class Names:
    """ARNs of one account and region."""

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id, self._region = account_id, region

    def arn(self, service: str, rest: str) -> str:
        """`arn:aws:<service>:<region>:<account>:<rest>`."""
        return f"arn:aws:{service}:{self._region}:{self._account_id}:{rest}"

    def table(self, name: str, index: str | None = None) -> str:
        """A table's or an index's ARN; the name may be an ARN already."""
        arn = name if name.startswith("arn:") else self.arn("dynamodb", f"table/{name}")
        return f"{arn}/index/{index}" if index else arn

    def shadow(self, thing: str, name: str | None = None) -> str:
        """A thing's classic shadow's ARN, which is the thing's, or that of its named shadow."""
        return self.arn("iot", f"thing/{thing}/{name}" if name else f"thing/{thing}")

    def queue(self, url: str) -> str:
        """A queue's ARN by its URL."""
        return self.arn("sqs", url.rpartition("/")[2])


_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "Get": "GetItem",
               "ConditionCheck": "ConditionCheckItem"}


def _dynamodb(operation: str, body: Body, names: Names) -> Iterator[Need]:
    if operation in ("BatchWriteItem", "BatchGetItem"):
        for table in body.get("RequestItems", {}):
            yield Need(f"dynamodb:{operation}", names.table(table))
    elif operation in ("TransactWriteItems", "TransactGetItems"):
        for item in body.get("TransactItems", ()):
            for kind, given in item.items():
                yield Need(f"dynamodb:{_TRANSACTED[kind]}", names.table(given["TableName"]))
    elif "TableName" in body:
        yield Need(f"dynamodb:{operation}", names.table(body["TableName"], body.get("IndexName")))
    else:
        yield Need(f"dynamodb:{operation}", "*")  # ListTables


def _streams(operation: str, body: Body, names: Names) -> Iterator[Need]:
    yield Need(f"dynamodb:{operation}", body.get("StreamArn", "*"))


def _sqs(operation: str, body: Body, names: Names) -> Iterator[Need]:
    plain = operation.removesuffix("Batch")  # a batch needs the permission of the single call
    yield Need(f"sqs:{plain}", names.queue(body["QueueUrl"]) if "QueueUrl" in body else "*")


def _firehose(operation: str, body: Body, names: Names) -> Iterator[Need]:
    yield Need(f"firehose:{operation}", names.arn("firehose", f"deliverystream/{body.get('DeliveryStreamName', '')}"))


def _ssm(operation: str, body: Body, names: Names) -> Iterator[Need]:
    for name in body.get("Names") or [body.get("Name", "")]:
        yield Need(f"ssm:{operation}", names.arn("ssm", f"parameter/{name.lstrip('/')}"))


_Targeted = Callable[[str, Body, Names], Iterator[Need]]
_BY_TARGET: dict[str, _Targeted] = {
    "DynamoDB_20120810": _dynamodb, "DynamoDBStreams_20120810": _streams, "AmazonSQS": _sqs,
    "Firehose_20150804": _firehose, "AmazonSSM": _ssm}


def _sns(request: Request, names: Names) -> Iterator[Need]:
    form = parse_qs(request.body.decode("utf-8", "replace"))
    action = form.get("Action", [""])[0]
    resource = form.get("TopicArn") or form.get("TargetArn") or ["*"]
    yield Need(f"sns:{action.removesuffix('Batch')}", resource[0])


def _iot_data(request: Request, names: Names) -> Iterator[Need]:
    url = urlsplit(request.target)
    path = url.path
    if path.startswith("/topics/"):
        yield Need("iot:Publish", names.arn("iot", f"topic/{unquote(path.removeprefix('/topics/'))}"))
        return
    _, _, thing, rest = path.split("/", 3)
    verbs = {"GET": "GetThingShadow", "POST": "UpdateThingShadow", "DELETE": "DeleteThingShadow"}
    if rest != "shadow" or request.method not in verbs:
        raise UnknownRequest(f"{request.method} {path}")
    yield Need(f"iot:{verbs[request.method]}", names.shadow(unquote(thing), parse_qs(url.query).get("name", [None])[0]))


def _iot(request: Request, names: Names) -> Iterator[Need]:
    path = urlsplit(request.target).path
    kind, _, name = path.lstrip("/").partition("/")
    if request.method == "GET" and kind == "certificates" and name:
        yield Need("iot:DescribeCertificate", names.arn("iot", f"cert/{unquote(name)}"))
    elif request.method == "GET" and kind == "things" and name.endswith("/principals"):
        yield Need("iot:ListThingPrincipals", names.arn("iot", f"thing/{unquote(name.removesuffix('/principals'))}"))
    else:
        raise UnknownRequest(f"{request.method} {path}")


_OBJECT = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}


def _s3(request: Request, names: Names) -> Iterator[Need]:
    path = unquote(urlsplit(request.target).path).lstrip("/")
    bucket, _, key = path.partition("/")
    if key and request.method in _OBJECT:
        yield Need(_OBJECT[request.method], f"arn:aws:s3:::{bucket}/{key}")
    elif bucket and request.method in ("GET", "HEAD"):
        yield Need("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    else:
        raise UnknownRequest(f"{request.method} {request.target}")


def _lambda(request: Request, names: Names) -> Iterator[Need]:
    parts = urlsplit(request.target).path.split("/")
    if parts[-1] != "invocations":
        raise UnknownRequest(f"{request.method} {request.target}")
    yield Need("lambda:InvokeFunction", names.arn("lambda", f"function:{unquote(parts[-2])}"))


_BY_SERVICE: dict[str, Callable[[Request, Names], Iterator[Need]]] = {
    "sns": _sns, "iot": _iot, "iotdata": _iot_data, "iotdevicegateway": _iot_data, "s3": _s3, "lambda": _lambda}


def needs(request: Request, service: str, names: Names) -> list[Need]:
    """What the request needs; UnknownRequest when that is not known. service: that of the signature."""
    prefix, _, operation = request.headers.get("x-amz-target", "").partition(".")
    try:
        if prefix in _BY_TARGET:
            return list(_BY_TARGET[prefix](operation, json.loads(request.body or b"{}"), names))
        if service in _BY_SERVICE:
            return list(_BY_SERVICE[service](request, names))
    except (KeyError, ValueError, AttributeError) as fault:
        raise UnknownRequest(f"{prefix or service} {operation or request.target}: {fault!r}") from fault
    raise UnknownRequest(f"{service} {operation or request.target}")
