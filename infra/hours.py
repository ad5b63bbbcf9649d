"""From the stream of the roll-ups table to the function `hours`, which makes hours and days of minutes."""
from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs

from infra import streams
from infra.functions import allow, function, table_arn
from infra.settings import Settings

# The longest that Lambda waits. A device's minute changes every few seconds; its hour is made once in this time, which
# is what hours and days cost: 9 units read and 2 written a device, against 30 written for the minutes.
WINDOW_S = 300
BATCH = 10_000
PARALLEL = 1  # more are needed from some thousand devices a shard
TIMEOUT_S = 300
# Hours and days are in the same stream, and what expires: neither may wake the function.
MINUTES_ALONE = '{"eventName":["INSERT","MODIFY"],"dynamodb":{"Keys":{"sk":{"S":[{"prefix":"m#"}]}}}}'


def make_hours(stack: cdk.Stack, settings: Settings, *, table: str, stream_arn: str, dead: sqs.IQueue,
               environment: Mapping[str, str]) -> None:
    """The function and its mapping. table: the roll-ups table's name; dead: takes what cannot be applied."""
    hours = function(
        stack, settings, "hours", timeout_s=TIMEOUT_S, memory_mib=512,
        description="EdgeCloud: from the roll-ups table's stream to its hours and days",
        environment={"ROLLUPS_TABLE": table, **environment},
        access=[
            *streams.may_read(stream_arn),
            allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:DeleteItem"],
                  [table_arn(stack, table)]),
            allow(["sqs:SendMessage"], [dead.queue_arn])])
    streams.consume(stack, "Hours", stream_arn, hours, dead=dead, pattern=MINUTES_ALONE, batch=BATCH, window_s=WINDOW_S,
                    parallel=PARALLEL)
