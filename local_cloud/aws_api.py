"""The one AWS endpoint of the local cloud: SDK requests in, dispatched to our services, the rest unchanged to moto.

By X-Amz-Target: SQS and Firehose. By the service in the signature: IoT (iot_api.py), IoT data, CloudFormation
(cloudformation_api.py), Lambda invocations, SNS (moto answers; subscribers are served here). Signatures are not
checked.
"""

import base64
import inspect
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud import sqs_api
from local_cloud.aws_answers import json_answer, xml_error
from local_cloud.backend import Backends
from local_cloud.functions import FunctionService
from local_cloud.http_wire import Request, Response
from local_cloud.signatures import service_of
from local_cloud.subscriptions import Notification, Subscriptions

DYNAMODB_WRITES = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems", "ExecuteStatement"}
_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
Targeted = Callable[[str, dict[str, Any]], "Awaitable[tuple[int, dict[str, Any]]] | tuple[int, dict[str, Any]]"]
Publish = Callable[[str, bytes, int, bool], Awaitable[None]]


class AwsApi:
    """Dispatches requests. `targets` maps the part of X-Amz-Target before the dot to a handler(target, body);
    `written()` is called after each write to DynamoDB."""

    def __init__(
        self,
        targets: Mapping[str, Targeted],
        iot: Callable[[Request], Response],
        publish: Publish,
        functions: FunctionService,
        subscriptions: Subscriptions,
        backends: Backends,
        written: Callable[[], None],
        cloudformation: Callable[[Request], Awaitable[Response]],
    ) -> None:
        self._targets = targets
        self._iot = iot
        self._publish = publish
        self._functions = functions
        self._subscriptions = subscriptions
        self._backends = backends
        self._written = written
        self._cloudformation = cloudformation
        self.counters: dict[str, int] = {}

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        target = request.headers.get("x-amz-target", "")
        handler = self._targets.get(target.partition(".")[0])
        service = service_of(request)
        self._count(target or service or "unsigned")
        if handler is not None:
            return await self._targeted(handler, target, request)
        path = urlsplit(request.target).path
        if path.startswith("/topics/") and request.method == "POST":
            return await self._publish_to_topic(request)
        if service in ("iot", "iotdata", "iotdevicegateway"):
            return self._iot(request)
        if service == "cloudformation":
            return await self._cloudformation(request)
        invoked = _INVOKE.fullmatch(path)
        if invoked and service == "lambda":
            return await self._invoke(unquote(invoked.group(1)), request)
        if service == "sns":
            return await self._sns(request)
        response = await self._backends.send(request)
        if target.startswith("DynamoDB_") and target.rpartition(".")[2] in DYNAMODB_WRITES:
            self._written()
        return response

    def _count(self, kind: str) -> None:
        self.counters[kind] = self.counters.get(kind, 0) + 1

    async def _targeted(self, handler: Targeted, target: str, request: Request) -> Response:
        try:
            body = json.loads(request.body or b"{}")
        except ValueError as fault:
            return json_answer(400, {"__type": "SerializationException", "message": f"body is not JSON: {fault}"})
        answer = handler(target, body)
        status, content = await answer if inspect.isawaitable(answer) else answer
        response = json_answer(status, content, content_type="application/x-amz-json-1.0")
        error = sqs_api.error_header(content) if target.startswith("AmazonSQS.") else None
        if error:
            response.headers.append(("x-amzn-query-error", error))
        return response

    async def _publish_to_topic(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        query = parse_qs(parts.query)
        qos = int(query.get("qos", ["0"])[0])
        retain = query.get("retain", ["false"])[0].lower() == "true"
        await self._publish(unquote(parts.path.removeprefix("/topics/")), request.body, qos, retain)
        return json_answer(200, {"message": "OK", "traceId": str(uuid.uuid4())})

    async def _invoke(self, name: str, request: Request) -> Response:
        function = self._functions.by_name(name)
        if function is None:
            return _refused(404, "ResourceNotFoundException", f"Function not found: {name}")
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind == "DryRun":
            return Response(204)
        event = request.body or b"{}"
        try:
            json.loads(event)
        except ValueError as fault:
            return _refused(400, "InvalidRequestContentException",
                            f"Could not parse request body into json: {fault}")
        if kind == "Event":
            await function.invoke_async(event)
            return Response(202)
        invocation = await function.invoke(event)
        headers = [
            ("Content-Type", "application/json"),
            ("X-Amz-Executed-Version", "$LATEST"),
            ("x-amzn-RequestId", invocation.request_id),
        ]
        if invocation.error is not None:
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        if request.headers.get("x-amz-log-type") == "Tail":
            headers.append(("X-Amz-Log-Result", base64.b64encode(invocation.log_tail.encode()).decode()))
        return Response(200, invocation.payload, headers)

    async def _sns(self, request: Request) -> Response:
        form = parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True)
        action = form.get("Action", [""])[0]
        if action in ("PublishBatch", "Subscribe"):
            text = f"SNS {action} is not emulated: use Publish, and AWS::SNS::Subscription in the template"
            return xml_error(501, "NotImplemented", text)
        response = await self._backends.send(request)
        if response.status == 200 and action == "Publish" and "TopicArn" in form:
            found = re.search(rb"<MessageId>([^<]+)</MessageId>", response.body)
            await self._subscriptions.deliver(
                Notification(
                    form["TopicArn"][0],
                    found.group(1).decode() if found else str(uuid.uuid4()),
                    form["Message"][0],
                    form.get("Subject", [None])[0],
                    _message_attributes(form),
                )
            )
        return response


def _refused(status: int, kind: str, text: str) -> Response:
    """What Lambda answers to a call that does not reach a function."""
    return json_answer(status, {"Type": "User", "Message": text}, ("x-amzn-ErrorType", kind))


def _message_attributes(form: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    found = {}
    index = 1
    while (name := form.get(f"MessageAttributes.entry.{index}.Name")) is not None:
        prefix = f"MessageAttributes.entry.{index}.Value"
        text = form.get(f"{prefix}.StringValue") or form.get(f"{prefix}.BinaryValue") or [""]
        found[name[0]] = {"Type": form[f"{prefix}.DataType"][0], "Value": text[0]}
        index += 1
    return found
