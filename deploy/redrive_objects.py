"""Error objects: what a rule's error action wrote to S3 (infra/rules.py, infra/alerts.py) goes once more to the queue
or the archive stream that did not take it; used by redrive.py.

An object is deleted only after its message is handed on; a run that ends in between hands it on twice, which changes
nothing. What is no such object, or cannot be handed on, is named and left.
"""
import base64
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from contract import numbers, routes
from contract.errors import BadPayload

PREFIX = "errors/"
PRESENCE = "presence"  # the rule on AWS IoT's lifecycle events: not a route, it goes to the queue of statuses
TO_QUEUE, TO_ARCHIVE = "SqsAction", "FirehoseAction"


class Places(NamedTuple):
    """Where a rule's messages go. archive: name of the stream, None where the rule has none."""

    queue_url: str
    archive: str | None


class Left(Exception):
    """Why an object is left in place."""


def objects(s3: Any, bucket: str) -> Iterator[str]:
    """Keys of all that lies under errors/, listed before any of it is deleted."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    yield from [found["Key"] for page in pages for found in page.get("Contents", ())]


def rule_of(deployment: str, key: str) -> str | None:
    """Route of the rule whose error action wrote this object, or PRESENCE; None when it was none of ours."""
    folder = key.removeprefix(PREFIX).partition("/")[0]
    names = {routes.rule_name(deployment, name): name for name in (*(route.name for route in routes.ROUTES), PRESENCE)}
    return names.get(folder)


def read(raw: bytes) -> dict[str, Any]:
    """AWS's error message. Raises Left for anything else."""
    try:
        error = json.loads(raw)
        if {"base64OriginalPayload", "failures", "clientId"} <= set(error) and isinstance(error["failures"], list):
            return dict(error)
    except (ValueError, TypeError):
        raise Left("it is no JSON object as an error action writes them") from None
    raise Left("it has not the members that an error action writes: base64OriginalPayload, clientId, failures")


def rule_output(rule: str, error: dict[str, Any]) -> str:
    """What the rule's SQL made of the message: the payload and the site. Raises Left."""
    try:
        message = numbers.loads(base64.b64decode(error["base64OriginalPayload"], validate=True))
        # AWS itself publishes lifecycle events: they name the thing, and no connection does.
        site = message["clientId"] if rule == PRESENCE else error["clientId"]
        return numbers.dumps({**message, "site": site})
    except (BadPayload, ValueError, TypeError, KeyError) as fault:
        raise Left(f"its original payload is none that a rule could have read: {fault}") from None


def hand_on(error: dict[str, Any], text: str, places: Places, sqs: Any, firehose: Any) -> None:
    """Give the message to each action that failed. Raises Left for an action that is none of ours, before any."""
    failed = [str(failure.get("failedAction")) if isinstance(failure, dict) else "?" for failure in error["failures"]]
    known = {TO_QUEUE} | ({TO_ARCHIVE} if places.archive else set())
    if not failed or set(failed) - known:
        raise Left(f"it names {', '.join(failed) or 'no action'}; expected {' or '.join(sorted(known))}")
    if TO_ARCHIVE in failed:
        firehose.put_record(DeliveryStreamName=places.archive, Record={"Data": (text + "\n").encode()})
    if TO_QUEUE in failed:
        sqs.send_message(QueueUrl=places.queue_url, MessageBody=text)


def redrive(s3: Any, bucket: str, deployment: str, places: dict[str, Places], sqs: Any,
            firehose: Any) -> dict[str, tuple[int, int]]:
    """{rule: (handed on, left)}; the rule "" stands for objects that no rule of ours wrote."""
    counted: dict[str, list[int]] = {}
    for key in objects(s3, bucket):
        rule = rule_of(deployment, key)
        counts = counted.setdefault(rule or "", [0, 0])
        try:
            if rule is None:
                raise Left(f"no rule of {deployment} writes there")
            error = read(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            hand_on(error, rule_output(rule, error), places[rule], sqs, firehose)
        except (Left, ClientError) as fault:
            print(f"redrive: s3://{bucket}/{key} is left in place: {fault}; look at it by hand", file=sys.stderr)
            counts[1] += 1
        else:
            s3.delete_object(Bucket=bucket, Key=key)
            counts[0] += 1
    return {rule: (handed_on, left) for rule, (handed_on, left) in counted.items()}
