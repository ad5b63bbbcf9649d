"""Queues between IoT rules and functions, each with its dead-letter queue, and an alarm for each of these."""
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra import notices
from infra.monitoring import Condition, alarm
from infra.names import keep_logical_id
from infra.settings import logical_id

MAX_RECEIVES = 10  # twice what AWS recommends at least: a table throttled for minutes should not dead-letter
DEAD_LETTER_DAYS = 14  # the longest there is


def dead_letter_queue(scope: Construct, construct_id: str) -> sqs.Queue:
    """A queue that keeps what failed for 14 days."""
    dead = sqs.Queue(scope, construct_id, retention_period=cdk.Duration.days(DEAD_LETTER_DAYS),
                     encryption=sqs.QueueEncryption.SQS_MANAGED, enforce_ssl=True)
    keep_logical_id(dead)
    return dead


def queue(scope: Construct, title: str, *, timeout_s: int, window_s: int) -> tuple[sqs.Queue, sqs.Queue]:
    """`<title>Queue` and `<title>DeadLetters`, for a function with this timeout and batching window.

    Visibility is 6 timeouts and the window, as AWS asks, so that no message in work shows up a second time.
    """
    dead = dead_letter_queue(scope, f"{title}DeadLetters")
    waiting = sqs.Queue(
        scope, f"{title}Queue", visibility_timeout=cdk.Duration.seconds(6 * timeout_s + window_s),
        retention_period=cdk.Duration.days(DEAD_LETTER_DAYS), encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True, dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=MAX_RECEIVES))
    keep_logical_id(waiting)
    return waiting, dead


def consume(scope: Construct, title: str, source: sqs.IQueue, target: lambda_.Function, *, window_s: int,
            max_concurrency: int | None = None) -> None:
    """Let the function take the queue's messages, up to ten at a time, answering for each one by itself.

    max_concurrency bounds the invocations at once; Lambda then polls with five at all times, and not with two.
    """
    lambda_.EventSourceMapping(
        scope, f"{title}Mapping", target=target, event_source_arn=source.queue_arn, batch_size=10,
        max_batching_window=cdk.Duration.seconds(window_s), max_concurrency=max_concurrency,
        report_batch_item_failures=True)


def dead_letter_alarms(scope: Construct, dead: Sequence[tuple[str, sqs.Queue]]) -> sns.Topic:
    """An alarm for each of these queues when it holds a message; returns the topic that they notify.

    Each is a query, which is billed for the metrics that it finds: an idle queue sends none, so that five alarms cost
    nothing until one has something to say. One alarm over their sum would need a FILL, which also fills the latest
    period, for which the metric is always late, so that it may never go off.
    """
    topic = notices.topic(scope, "Operations", display_name="EdgeCloud operations",
                          services=["cloudwatch.amazonaws.com"])
    for name, each in dead:
        alarm(scope, f"{logical_id(name)}DeadLetters", topic.topic_arn, Condition(
            says=f"{name}: messages failed again and again and wait in the dead-letter queue",
            query="SELECT MAX(ApproximateNumberOfMessagesVisible) FROM \"AWS/SQS\" "
                  f"WHERE QueueName = '{each.queue_name}'"))
    return topic
