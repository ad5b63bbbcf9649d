"""From a table's stream to the function that reads it: aggregate (ingest_stack.py) and hours (hours.py)."""
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.functions import allow

RETRIES, AGE_S = 20, 6 * 3600


def may_read(stream_arn: str) -> list[iam.PolicyStatement]:
    """What a function's role needs for it."""
    return [allow(["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"], [stream_arn]),
            allow(["dynamodb:ListStreams"], ["*"])]  # takes no resource; Lambda asks for it before it maps a stream


def consume(scope: Construct, title: str, stream_arn: str, target: lambda_.Function, *, dead: sqs.IQueue,
            pattern: str, batch: int, window_s: int, parallel: int | None = None) -> None:
    """`<title>Mapping`: the records that fit the pattern go to the function in order, up to `batch` at a time.

    A record that fails is isolated by halving its batch and left to `dead` after 20 tries, or when it is 6 hours old;
    the rest of its shard waits meanwhile. What is left names the place in the stream, not the record: `make redrive`
    names the `make rebuild` that applies what lies there. parallel: invocations a shard at once; None: one.
    """
    lambda_.CfnEventSourceMapping(
        scope, f"{title}Mapping", event_source_arn=stream_arn, function_name=target.function_name,
        starting_position="TRIM_HORIZON", batch_size=batch, maximum_batching_window_in_seconds=window_s,
        parallelization_factor=parallel,
        bisect_batch_on_function_error=True, maximum_retry_attempts=RETRIES, maximum_record_age_in_seconds=AGE_S,
        function_response_types=["ReportBatchItemFailures"],
        destination_config={"onFailure": {"destination": dead.queue_arn}},
        filter_criteria={"filters": [{"pattern": pattern}]})
