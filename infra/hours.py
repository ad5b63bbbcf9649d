"""From the stream of the roll-ups table to the function `hours`, which makes hours and days of minutes."""
from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs

from infra.functions import allow, function
from infra.settings import Settings

# The longest that Lambda waits. A device's minute changes every few seconds; its hour is made once in this time, which
# is what hours and days cost: 9 units read and 2 written a device, against 30 written for the minutes.
WINDOW_S = 300
BATCH = 10_000
PARALLEL = 1  # invocations a shard at once; more are needed from some thousand devices a shard
TIMEOUT_S = 300
RETRIES, AGE_S = 20, 6 * 3600


def make_hours(stack: cdk.Stack, settings: Settings, *, table: str, stream_arn: str, dead: sqs.IQueue,
               environment: Mapping[str, str]) -> None:
    """The function and its mapping. table: the roll-ups table's name; dead: takes what cannot be applied."""
    arn = stack.format_arn(service="dynamodb", resource="table", resource_name=table)
    hours = function(
        stack, settings, "hours", timeout_s=TIMEOUT_S, memory_mib=512,
        description="EdgeCloud: from the roll-ups table's stream to its hours and days",
        environment={"ROLLUPS_TABLE": table, **environment},
        access=[
            allow(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"], [stream_arn]),
            allow(["dynamodb:ListStreams"], ["*"]),  # takes no resource; Lambda asks for it before it maps a stream
            allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:DeleteItem"], [arn]),
            allow(["sqs:SendMessage"], [dead.queue_arn])])
    lambda_.CfnEventSourceMapping(
        stack, "HoursMapping", event_source_arn=stream_arn, function_name=hours.function_name,
        starting_position="TRIM_HORIZON", batch_size=BATCH, maximum_batching_window_in_seconds=WINDOW_S,
        parallelization_factor=PARALLEL,
        bisect_batch_on_function_error=True, maximum_retry_attempts=RETRIES, maximum_record_age_in_seconds=AGE_S,
        function_response_types=["ReportBatchItemFailures"],
        destination_config={"onFailure": {"destination": dead.queue_arn}},
        # Hours and days are in the same stream, and what expires: neither may wake the function.
        filter_criteria={"filters": [{"pattern": (
            '{"eventName":["INSERT","MODIFY"],"dynamodb":{"Keys":{"sk":{"S":[{"prefix":"m#"}]}}}}')}]})
