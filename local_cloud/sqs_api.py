"""The SQS API (AWS JSON 1.0) on top of queues.py: requests come from the AWS endpoint, answers go back to boto3."""

from __future__ import annotations

import base64
import hashlib
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from local_cloud.queue_messages import Message, QueueError
from local_cloud.queues import Queue, QueueService

Body = dict[str, Any]
MAX_BATCH = 10
# The codes that older SDKs know, by the names of the JSON protocol.
_QUERY_CODES = {"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
                "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
                "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
                "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
                "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
                "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation"}


async def handle(service: QueueService, target: str, body: Body) -> tuple[int, Body]:
    """Answer one request: (HTTP status, answer). `target` is X-Amz-Target ("AmazonSQS.SendMessage")."""
    operation = target.rpartition(".")[2]
    service.counters[operation] = service.counters.get(operation, 0) + 1
    try:
        if operation in _SERVICE_OPERATIONS:
            return 200, _SERVICE_OPERATIONS[operation](service, body)
        if operation not in _QUEUE_OPERATIONS:
            raise QueueError("UnsupportedOperation", f"{operation} is not emulated; queues are made from the "
                             "template, and messages are sent, received, changed, deleted, purged and moved")
        queue = service.by_url(str(body.get("QueueUrl", "")))
        return 200, await _QUEUE_OPERATIONS[operation](queue, body)
    except QueueError as error:
        return 400, {"__type": f"com.amazonaws.sqs#{error.code}", "message": str(error)}


def error_header(answer: Mapping[str, Any]) -> str | None:
    """The value of the x-amzn-query-error header that belongs to an error answer, None for a good one."""
    code = str(answer.get("__type", "")).rpartition("#")[2]
    return f"{_QUERY_CODES.get(code, code)};Sender" if code else None


def _get_queue_url(service: QueueService, body: Body) -> Body:
    return {"QueueUrl": service.by_name(str(body.get("QueueName"))).url}


def _list_queues(service: QueueService, body: Body) -> Body:
    prefix = body.get("QueueNamePrefix", "")
    return {"QueueUrls": [queue.url for queue in service.all() if queue.name.startswith(prefix)]}


def _start_move(service: QueueService, body: Body) -> Body:
    source = service.by_arn(str(body.get("SourceArn")))
    destination = service.by_arn(body["DestinationArn"]) if body.get("DestinationArn") else None
    moved = source.redrive(destination)
    service.counters["moved_messages"] = service.counters.get("moved_messages", 0) + moved
    return {"TaskHandle": base64.b64encode(f"{source.name}:{uuid.uuid4()}:{moved}".encode()).decode()}


def _list_dead_letter_sources(service: QueueService, body: Body) -> Body:
    arn = service.by_url(str(body.get("QueueUrl", ""))).arn
    return {"queueUrls": [queue.url for queue in service.all() if queue.settings.dead_letter_arn == arn]}


_SERVICE_OPERATIONS: dict[str, Callable[[QueueService, Body], Body]] = {
    "GetQueueUrl": _get_queue_url, "ListQueues": _list_queues, "StartMessageMoveTask": _start_move,
    "ListDeadLetterSourceQueues": _list_dead_letter_sources}


async def _get_attributes(queue: Queue, body: Body) -> Body:
    visible, in_flight, delayed = queue.depth()
    settings = queue.settings
    found = {"QueueArn": queue.arn, "ApproximateNumberOfMessages": visible,
             "ApproximateNumberOfMessagesNotVisible": in_flight, "ApproximateNumberOfMessagesDelayed": delayed,
             "CreatedTimestamp": queue.created_at_s, "LastModifiedTimestamp": queue.created_at_s,
             "VisibilityTimeout": settings.visibility_s, "MaximumMessageSize": settings.max_size_bytes,
             "MessageRetentionPeriod": settings.retention_s, "DelaySeconds": settings.delay_s,
             "ReceiveMessageWaitTimeSeconds": settings.wait_s, "SqsManagedSseEnabled": "true"}
    if settings.dead_letter_arn:
        found["RedrivePolicy"] = (f'{{"deadLetterTargetArn":"{settings.dead_letter_arn}",'
                                  f'"maxReceiveCount":{settings.max_receive_count}}}')
    names = set(body.get("AttributeNames", []))
    return {"Attributes": {name: str(value) for name, value in found.items() if "All" in names or name in names}}


async def _send(queue: Queue, body: Body) -> Body:
    attributes = body.get("MessageAttributes", {})
    message = queue.store(str(body.get("MessageBody", "")), attributes, _seconds(body, "DelaySeconds", 900))
    answer = {"MessageId": message.message_id, "MD5OfMessageBody": message.md5}
    if attributes:
        answer["MD5OfMessageAttributes"] = attributes_md5(attributes)
    return answer


async def _receive(queue: Queue, body: Body) -> Body:
    count = int(body.get("MaxNumberOfMessages", 1))
    if not 1 <= count <= MAX_BATCH:
        raise QueueError("InvalidParameterValue", f"Value {count} for parameter MaxNumberOfMessages is invalid. "
                         "Reason: Must be between 1 and 10, if provided.")
    messages = await queue.receive(count, _seconds(body, "WaitTimeSeconds", 20),
                                   _seconds(body, "VisibilityTimeout", 43_200))
    return {"Messages": [_received(message, body) for message in messages]} if messages else {}


def _received(message: Message, body: Body) -> Body:
    found: Body = {"MessageId": message.message_id, "ReceiptHandle": message.receipt_handle,
                   "MD5OfBody": message.md5, "Body": message.body}
    wanted = set(body.get("AttributeNames", [])) | set(body.get("MessageSystemAttributeNames", []))
    system = {name: value for name, value in message.system_attributes().items() if "All" in wanted or name in wanted}
    if system:
        found["Attributes"] = system
    names = body.get("MessageAttributeNames", [])
    chosen = {name: value for name, value in message.attributes.items() if _chosen(name, names)}
    if chosen:
        found["MessageAttributes"] = chosen
        found["MD5OfMessageAttributes"] = attributes_md5(chosen)
    return found


def _chosen(name: str, wanted: list[str]) -> bool:
    return any(each in ("All", ".*", name) or (each.endswith(".*") and name.startswith(each[:-2])) for each in wanted)


async def _delete(queue: Queue, body: Body) -> Body:
    queue.delete(str(body.get("ReceiptHandle", "")))
    return {}


async def _change(queue: Queue, body: Body) -> Body:
    queue.change_visibility(str(body.get("ReceiptHandle", "")), _seconds(body, "VisibilityTimeout", 43_200) or 0)
    return {}


async def _purge(queue: Queue, body: Body) -> Body:
    queue.purge()
    return {}


def _batch(single: Callable[[Queue, Body], Awaitable[Body]]) -> Callable[[Queue, Body], Awaitable[Body]]:
    """The batch form of an operation: each entry succeeds or fails by itself."""

    async def run(queue: Queue, body: Body) -> Body:
        entries = body.get("Entries", [])
        _check_entries(entries)
        successful, failed = [], []
        for entry in entries:
            try:
                successful.append({"Id": entry["Id"], **await single(queue, entry)})
            except QueueError as error:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": str(error)})
        return {"Successful": successful, "Failed": failed} if failed else {"Successful": successful}

    return run


def _check_entries(entries: list[Body]) -> None:
    if not entries:
        raise QueueError("EmptyBatchRequest", "There should be at least one entry in the batch request.")
    if len(entries) > MAX_BATCH:
        raise QueueError("TooManyEntriesInBatchRequest", f"Maximum number of entries per request are {MAX_BATCH}. "
                         f"You have sent {len(entries)}.")
    if len({entry.get("Id") for entry in entries}) < len(entries):
        raise QueueError("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")


def _seconds(body: Body, name: str, highest: int) -> float | None:
    if name not in body:
        return None
    seconds = int(body[name])
    if not 0 <= seconds <= highest:
        raise QueueError("InvalidParameterValue", f"Value {seconds} for parameter {name} is invalid. Reason: must be "
                         f"between 0 and {highest}.")
    return seconds


_QUEUE_OPERATIONS: dict[str, Callable[[Queue, Body], Awaitable[Body]]] = {
    "GetQueueAttributes": _get_attributes, "SendMessage": _send, "SendMessageBatch": _batch(_send),
    "ReceiveMessage": _receive, "DeleteMessage": _delete, "DeleteMessageBatch": _batch(_delete),
    "ChangeMessageVisibility": _change, "ChangeMessageVisibilityBatch": _batch(_change), "PurgeQueue": _purge}


def attributes_md5(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """SQS's MD5 of message attributes: names sorted, each part with its length before it, big-endian."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        kind = str(value.get("DataType"))
        binary = kind.startswith("Binary")
        raw = value["BinaryValue"] if binary else str(value.get("StringValue", "")).encode()
        content = base64.b64decode(raw) if isinstance(raw, str) else raw
        for part in (name.encode(), kind.encode()):
            digest.update(struct.pack("!I", len(part)) + part)
        digest.update((b"\x02" if binary else b"\x01") + struct.pack("!I", len(content)) + content)
    return digest.hexdigest()
