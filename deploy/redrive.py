"""`make redrive`: applies again what landed in dead-letter queues and in the error action's S3 objects; safe to repeat.

Every write behind the queues is idempotent, so a message that was applied after all changes nothing. An S3 object is
deleted only after its message is back in its queue and stream.
"""
import argparse
import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from contract import numbers, routes
from contract.errors import BadPayload


@dataclass
class Deployment:
    """One deployment's names and clients. endpoint: of the local cloud; None means AWS."""

    name: str
    region: str
    endpoint: str | None = None

    def client(self, service: str) -> Any:
        """A boto3 client."""
        local = {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if self.endpoint else {}
        return boto3.client(service, region_name=self.region, endpoint_url=self.endpoint, **local)

    def parameter(self, what: str) -> str:
        """The value of `/<name>/<what>`."""
        return str(self.client("ssm").get_parameter(Name=f"/{self.name}/{what}")["Parameter"]["Value"])


def waiting(sqs: Any, url: str) -> int:
    """Roughly how many messages a queue holds (AWS's count is approximate)."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def arn_of(sqs: Any, url: str) -> str:
    """A queue's ARN."""
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def redrive_queue(deployment: Deployment, route: str) -> int:
    """Move a route's dead letters back to its queue. Returns how many waited."""
    sqs, url = deployment.client("sqs"), deployment.parameter(f"{route}-dead-letters")
    found = waiting(sqs, url)
    if found:
        sqs.start_message_move_task(
            SourceArn=arn_of(sqs, url), DestinationArn=arn_of(sqs, deployment.parameter(f"{route}-queue")))
    return found


def error_objects(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, error message) of each object that a rule's error action wrote."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            yield found["Key"], json.loads(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())


def rule_output(error: dict[str, Any]) -> str:
    """What the rule's SQL made of the message: the payload and the site. Raises BadPayload."""
    message = numbers.loads(base64.b64decode(error["base64OriginalPayload"]))
    if not isinstance(message, dict):
        raise BadPayload("not an object", "the original payload is no JSON object")
    message["site"] = error["clientId"]
    return numbers.dumps(message)


def redrive_errors(deployment: Deployment, route: str) -> tuple[int, int]:
    """Hand on what the error action kept, to the actions that failed. Returns (redriven, left in place)."""
    s3, bucket = deployment.client("s3"), deployment.parameter("archive-bucket")
    sqs, queue_url = deployment.client("sqs"), deployment.parameter(f"{route}-queue")
    redriven = left = 0
    for key, error in error_objects(s3, bucket, f"errors/{routes.rule_name(deployment.name, route)}/"):
        try:
            text = rule_output(error)
        except (BadPayload, KeyError, ValueError) as fault:
            print(f"redrive: s3://{bucket}/{key} is left in place: {fault}; look at it by hand", file=sys.stderr)
            left += 1
            continue
        for failure in error["failures"]:
            if "firehose" in failure["failedAction"].lower():
                deployment.client("firehose").put_record(
                    DeliveryStreamName=failure["failedResource"], Record={"Data": (text + "\n").encode()})
            else:
                sqs.send_message(QueueUrl=queue_url, MessageBody=text)
        s3.delete_object(Bucket=bucket, Key=key)
        redriven += 1
    return redriven, left


def redrive(deployment: Deployment) -> int:
    """Redrive every route, and say what was found. Exit code 1 when something had to be left."""
    remains = 0
    for route in routes.ROUTES:
        moved, (again, left) = redrive_queue(deployment, route.name), redrive_errors(deployment, route.name)
        print(f"{route.name}: {moved} dead letters moved back, {again} error objects handed on, {left} left")
        remains += left
    stream = waiting(deployment.client("sqs"), deployment.parameter("stream-dead-letters"))
    if stream:
        print(f"roll-ups: {stream} messages wait in the stream's dead-letter queue; they name places in the stream, "
              "not records, and are left: the readings themselves are in the readings table")
    return 1 if remains or stream else 0


def main() -> int:
    """Command line of `make redrive`."""
    parser = argparse.ArgumentParser(prog="make redrive", description=__doc__)
    parser.add_argument("--name", default="edgecloud", help="the deployment's name")
    parser.add_argument("--region", default="eu-north-1")
    parser.add_argument("--endpoint", default="", help="the local cloud's AWS endpoint; default: AWS")
    options = parser.parse_args()
    try:
        return redrive(Deployment(options.name, options.region, options.endpoint or None))
    except (BotoCoreError, ClientError) as fault:
        print(f"redrive: {fault}; are credentials, region and --name those of the deployment?", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
