"""`make redrive`: applies again what landed in dead-letter queues and in the error action's S3 objects; safe to repeat.

Every write behind the queues is idempotent, so a message that was applied after all changes nothing.
"""
import argparse
import json
import sys
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from contract import routes
from deploy import redrive_objects
from deploy.redrive_objects import PRESENCE, Places
from deploy.target import Target, TargetFault
from infra.errors import SynthesisFault
from infra.settings import product_version, read

STREAM_LETTERS = 10  # of the stream's dead letters, how many are read for the range they name
QUEUED_H = 24  # how much earlier than its place in the stream a message may have arrived


def waiting(sqs: Any, url: str) -> int:
    """Roughly how many messages a queue holds (AWS's count is approximate)."""
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def arn_of(sqs: Any, url: str) -> str:
    """A queue's ARN."""
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def redrive_queue(place: Target, route: str) -> int:
    """Move a route's dead letters back to its queue. Returns how many waited."""
    sqs, url = place.client("sqs"), place.parameter(f"{route}-dead-letters")
    found = waiting(sqs, url)
    if found:
        sqs.start_message_move_task(
            SourceArn=arn_of(sqs, url), DestinationArn=arn_of(sqs, place.parameter(f"{route}-queue")))
    return found


def redrive_errors(place: Target) -> dict[str, tuple[int, int]]:
    """Hand on what the error actions kept, to the actions that failed: {rule: (handed on, left)}."""
    places = {route.name: Places(place.parameter(f"{route.name}-queue"),
                                 place.parameter(f"{route.name}-archive")) for route in routes.ROUTES}
    places[PRESENCE] = Places(places["status"].queue_url, None)
    return redrive_objects.redrive(place.client("s3"), place.parameter("archive-bucket"), place.settings.name,
                                   places, place.client("sqs"), place.client("firehose"))


def stream_letters(place: Target) -> tuple[int, str]:
    """How many places of the tables' streams could not be applied, and the rebuild that applies them ("" for none)."""
    sqs, url = place.client("sqs"), place.parameter("stream-dead-letters")
    found = waiting(sqs, url)
    if not found:
        return 0, ""
    read = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=STREAM_LETTERS, VisibilityTimeout=1)
    moments = [datetime.fromisoformat(info[which]) for info in
               (json.loads(message["Body"])["DDBStreamBatchInfo"] for message in read.get("Messages", ()))
               for which in ("approximateArrivalOfFirstRecord", "approximateArrivalOfLastRecord")]
    if not moments:
        return found, "make rebuild FROM=<the day before the first> TO=<the last>"
    return found, (f"make rebuild FROM={min(moments) - timedelta(hours=QUEUED_H):%Y-%m-%dT%H:%MZ} "
                   f"TO={max(moments) + timedelta(minutes=1):%Y-%m-%dT%H:%MZ}")


def redrive(place: Target) -> int:
    """Redrive every route, and say what was found. Exit code 1 when something had to be left."""
    moved = {route.name: redrive_queue(place, route.name) for route in routes.ROUTES}
    errors = redrive_errors(place)
    for name in (*moved, PRESENCE, ""):
        again, left = errors.get(name, (0, 0))
        if name in moved:
            print(f"{name}: {moved[name]} dead letters moved back, {again} error objects handed on, {left} left")
        elif again or left:
            print(f"{name or 'others'}: {again} error objects handed on, {left} left")
    letters, command = stream_letters(place)
    if letters:
        print(f"roll-ups: {letters} messages wait in the stream's dead-letter queue. They name places in a stream, not "
              f"records; what lies there is applied by: {command}\n          then empty the queue: aws sqs "
              f"purge-queue --queue-url {place.parameter('stream-dead-letters')}")
    return 1 if letters or any(left for _, left in errors.values()) else 0


def main() -> int:
    """Command line of `make redrive`."""
    parser = argparse.ArgumentParser(prog="make redrive", description=__doc__)
    parser.add_argument("--name", default="edgecloud", help="the deployment's name")
    parser.add_argument("--region", default="eu-north-1")
    parser.add_argument("--endpoint", default="", help="the local cloud's AWS endpoint; default: AWS")
    options = parser.parse_args()
    ready = {"endpoints": {"aws": options.endpoint}} if options.endpoint else None
    try:
        settings = read({"name": options.name, "region": options.region}, product_version())
        return redrive(Target(settings, ready))
    except (TargetFault, SynthesisFault) as fault:
        print(f"redrive: {fault}", file=sys.stderr)
        return 2
    except (BotoCoreError, ClientError) as fault:
        print(f"redrive: {fault}; are credentials, region and --name those of the deployment?", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
